"""Rows of many clients through one agent: memory per row, one forward for all that wait.

Two ways to batch. Exact: every forward has all R rows, those that wait and those that do not, and the latter keep their
state. Matrix products of one shape treat their rows alike, so an action does not depend on who else is connected, to
the last bit. Not exact: only the rows that wait are forwarded, which costs less when R is large and few wait; floats
then differ in the last bits with the number of rows (1 to 3 rows take other matrix kernels than 4 and more).

Draws of a stochastic policy, and the noise that a diffusion policy plans from, come from one generator per row, seeded
at its reset, so they do not depend on the others either. Other agents that draw (``random``) share theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch

from embodied_mem import heads
from embodied_mem.agent import Agent, PolicyAgent
from embodied_mem.errors import UsageError
from embodied_mem.policies.rows import own_rows, put_rows, replace_rows, row_leaves, take_rows, why_not_rows
from embodied_mem.spaces import space_to_json
from embodied_mem.wire.schema import Schema


@dataclass(frozen=True)
class Request:
    """One client's next observation."""

    row: int
    """Which row of memory."""
    arrays: list[np.ndarray]
    """What `Schema.read` returned."""
    opens: bool
    """True where the observation opens an episode: the row forgets first."""
    seed: int | None = None
    """Restarts the row's draws."""


@runtime_checkable
class DrawsByRow(Protocol):
    """An agent whose rows of memory draw from a generator each."""

    generators: list[torch.Generator]
    """By row of memory."""
    drawing: list[int | None]
    """Row of memory behind each row of the batch; None draws nothing."""


class RowDraws(PolicyAgent):
    """A stochastic `PolicyAgent` whose rows draw from a generator each."""

    def __init__(self, agent: PolicyAgent, rows: int) -> None:
        """Take over the module of ``agent`` for ``rows`` rows."""
        super().__init__(agent.module, deterministic=False)
        self.generators = [torch.Generator(self.device).manual_seed(row) for row in range(rows)]
        self.drawing: list[int | None] = []
        """Row of memory behind each row of the batch; None draws nothing."""

    def choose(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return one draw per row of ``inputs`` (B, A); the most likely action where nobody waits."""
        space = self.module.action_space
        chosen = heads.mode(space, inputs).clone()
        for place, row in enumerate(self.drawing):
            if row is not None:
                chosen[place] = heads.sample(space, inputs[place : place + 1], self.generators[row])[0]
        return chosen


class RowBatcher:
    """R rows of memory in front of one agent. Calls come one at a time.

    Attributes:
        schema: what clients send, from the observation space.
        forwards: forwards so far.
    """

    def __init__(
        self,
        agent: Agent,
        observation_space: gymnasium.Space,
        action_space: gymnasium.Space,
        rows: int,
        *,
        exact: bool = True,
    ) -> None:
        """Hold ``rows`` fresh rows.

        Raises:
            UsageError: the agent cannot be served: it wants hidden state, or its memory has no rows.
        """
        if rows < 1:
            raise UsageError(f"expected rows >= 1, got {rows}")
        if agent.needs_privileged:
            raise UsageError("the agent reads hidden state, which clients do not have; serve one that does not")
        if isinstance(agent, PolicyAgent) and not agent.deterministic:
            agent = RowDraws(agent, rows)
        elif hasattr(agent, "for_rows"):
            agent = agent.for_rows(rows, exact=exact)
        self.agent, self.rows, self.exact = agent, rows, exact
        self.observation_space, self.action_space = observation_space, action_space
        self.schema = Schema(space_to_json(observation_space))
        self.forwards = 0
        state = agent.initial_state(rows, seed=0)
        reason = why_not_rows(state, rows) if row_leaves(state) else None
        if reason:
            raise UsageError(f"clients' memories cannot be kept apart: {reason}")
        with torch.inference_mode():
            self._state = own_rows(state)
        self._everyone = [leaf.empty(rows) for leaf in self.schema.leaves]

    def act(self, requests: Sequence[Request]) -> list[np.ndarray | Exception]:
        """Return one action per request, or what the agent raised for it alone; rows are distinct.

        A forward that raises is repeated for one request at a time, so that one client's bad observation is its own
        problem; a row whose forward raised keeps the memory it had.
        """
        try:
            return list(self._forward(requests))
        except Exception as problem:
            if len(requests) == 1:
                return [problem]
        finally:
            for leaf, everyone in zip(self.schema.leaves, self._everyone, strict=True):
                everyone[[request.row for request in requests]] = leaf.empty(len(requests))
        return [answer for request in requests for answer in self.act([request])]

    @torch.inference_mode()
    def _forward(self, requests: Sequence[Request]) -> np.ndarray:
        index = np.array([request.row for request in requests])
        places = np.arange(self.rows) if self.exact else index
        if isinstance(self.agent, DrawsByRow):
            asked = {request.row: request for request in requests}
            self.agent.drawing = [row if row in asked else None for row in places.tolist()]
            for request in requests:
                if request.seed is not None:
                    self.agent.generators[request.row].manual_seed(request.seed)
        reset = np.zeros(self.rows, dtype=bool)
        reset[index] = [request.opens for request in requests]
        arrays = [np.stack(column) for column in zip(*(request.arrays for request in requests), strict=True)]
        self.forwards += 1
        if not self.exact:
            obs, state = self.schema.build(arrays), take_rows(self._state, index)
            actions, state, _ = self.agent.act(obs, state, reset[index])
            actions = self._checked(actions, len(index))
            put_rows(self._state, index, state)
            return actions
        for everyone, array in zip(self._everyone, arrays, strict=True):
            everyone[index] = array
        # Copies: a memory may keep what it was shown.
        obs = self.schema.build([everyone.copy() for everyone in self._everyone])
        actions, state, _ = self.agent.act(obs, self._state, reset)
        actions = self._checked(actions, self.rows)[index]
        idle = np.ones(self.rows, dtype=bool)
        idle[index] = False
        self._state = replace_rows(state, self._state, idle) if idle.any() else state
        return actions

    def _checked(self, actions: Any, n: int) -> np.ndarray:
        array = np.asarray(actions)
        if array.shape[:1] != (n,):
            raise UsageError(f"the agent returned actions of shape {array.shape}, expected {n} rows")
        return array
