"""A trained policy as an `Agent`, and its bundle (``agent.json``, ``weights.safetensors``).

The memory reads every frame. A plan of K actions is made where none is left, and ``execute`` of them are played: with
``execute = 1`` every frame is planned for. What is left of a plan is part of the state (``plan``, ``left``), so
controls that disturb the state disturb it too; measure memories with ``execute = 1``, where nothing is left over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State
from embodied_mem.policies.vla.base import TokenPolicy
from embodied_mem.policies.vla.config import VLAConfig
from embodied_mem.policies.vla.policy import VLAPolicy, make_policy
from embodied_mem.spaces import as_dict_obs, space_from_json

VLAState = dict[str, Any]


class VLAAgent:
    """`TokenPolicy` as an `Agent`: numpy observations in, the environment's actions out."""

    needs_privileged = False

    def __init__(self, module: TokenPolicy, *, seed: int = 0) -> None:
        """Wrap a policy, on its device; ``seed`` is that of the noise until `initial_state` gives another."""
        self.module = module.eval()
        self._generator = torch.Generator(module.device).manual_seed(seed)

    def initial_state(self, n: int, seed: int | None = None) -> VLAState:
        """Return the state of ``n`` fresh episodes: ``memory``, and with ``execute`` > 1 ``plan`` and ``left``."""
        if seed is not None:
            self._generator.manual_seed(seed)
        with torch.inference_mode():
            state: VLAState = {"memory": self.module.initial_state(n)}
        if self.module.execute > 1:
            device = self.module.device
            state["plan"] = torch.zeros(n, self.module.execute, self.module.action_dim, device=device)
            state["left"] = torch.zeros(n, dtype=torch.int64, device=device)
        return state

    @torch.inference_mode()
    def act(
        self,
        obs: Any,
        state: VLAState,
        reset: np.ndarray,
        privileged: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, VLAState, dict[str, Any]]:
        """Return actions (B, A), the next state and an empty info.

        Args:
            obs: what the vector environment returned, leading axis B.
            state: from `initial_state` or the last call.
            reset: (B,) bool, True where ``obs`` opens an episode.
            privileged: not read.

        Raises:
            UsageError: ``reset`` does not fit the batch.
        """
        policy, device = self.module, self.module.device
        named = as_dict_obs(policy.observation_space, obs)
        batch = len(next(iter(named.values())))
        if np.shape(reset) != (batch,):
            raise UsageError(f"expected reset of shape {(batch,)}, got {np.shape(reset)}")
        tensors = {key: torch.from_numpy(np.ascontiguousarray(named[key])).to(device) for key in policy.keys}
        opens = torch.from_numpy(np.array(reset, dtype=bool)).to(device)
        perceptual, cognitive, memory = policy.step(tensors, state["memory"], opens)
        new: VLAState = {}
        if "plan" not in state:
            action = self._plan(perceptual, cognitive, None)[:, 0]
        else:
            action, new = self._play(perceptual, cognitive, state, opens)
        new["memory"] = policy.played(memory, action)
        space = policy.action_space
        found = action.float().cpu().numpy()
        return np.clip(found, space.low, space.high).astype(space.dtype), new, {}  # type: ignore[attr-defined]

    def _play(self, perceptual: Tensor, cognitive: Tensor, state: VLAState, opens: Tensor) -> tuple[Tensor, State]:
        """Return actions (B, A) and what is left of the plans, after new ones where none is left."""
        execute = self.module.execute
        left = torch.where(opens, 0, state["left"])
        due = left == 0
        made = self._plan(perceptual, cognitive, due)[:, :execute]
        plan = torch.where(due.view(-1, 1, 1), made, state["plan"])
        left = torch.where(due, execute, left)
        index = (execute - left).view(-1, 1, 1).expand(-1, 1, plan.shape[-1])
        return plan.gather(1, index)[:, 0], {"plan": plan, "left": left - 1}

    def _plan(self, perceptual: Tensor, cognitive: Tensor, due: Tensor | None) -> Tensor:
        """Return plans (B, K, A); those of rows that are not ``due`` (B,) bool mean nothing, None is all rows."""
        if due is None:
            return self.module.plan(perceptual, cognitive, self._generator)
        return _some(
            due, lambda rows: self.module.plan(perceptual[rows], cognitive[rows], self._generator), self.module
        )

    def for_rows(self, rows: int, *, exact: bool) -> VLAAgent:
        """Return an agent for a server of ``rows`` clients, where a client's actions depend on its own history alone.

        Args:
            rows: rows of memory.
            exact: to the last bit; costs a plan of all rows whenever one is due.
        """
        return RowVLAAgent(self.module, rows, exact=exact) if isinstance(self.module, VLAPolicy) else self


class RowVLAAgent(VLAAgent):
    """`VLAAgent` whose rows of memory draw from a generator each."""

    def __init__(self, module: VLAPolicy, rows: int, *, exact: bool) -> None:
        """Wrap a policy for ``rows`` rows of memory; ``exact`` as `VLAAgent.for_rows`."""
        super().__init__(module)
        self.policy, self._exact = module, exact
        self.generators = [torch.Generator(module.device).manual_seed(row) for row in range(rows)]
        self.drawing: list[int | None] = list(range(rows))
        """Row of memory behind each row of the batch; None draws nothing."""
        # encoding equal instructions once would tell, in the last bits, whether all rows have the same
        module.perception.shares_text = not exact

    def _plan(self, perceptual: Tensor, cognitive: Tensor, due: Tensor | None) -> Tensor:
        asked = [True] * len(cognitive) if due is None else due.tolist()
        noise = self.policy.no_noise(len(cognitive))
        for place, row in enumerate(self.drawing):
            if row is not None and asked[place] and self.policy.config.expert.start == "drawn":
                noise[place].normal_(generator=self.generators[row])
        if due is None or self._exact:
            return self.policy.plan_from(perceptual, cognitive, noise)
        return _some(
            due, lambda rows: self.policy.plan_from(perceptual[rows], cognitive[rows], noise[rows]), self.policy
        )


def _some(due: Tensor, plan: Callable[[Tensor], Tensor], policy: TokenPolicy) -> Tensor:
    """Return (B, K, A) with what ``plan`` gives for the rows that are ``due`` (B,) bool, 0 elsewhere."""
    plans = torch.zeros(len(due), policy.chunk, policy.action_dim, device=due.device)
    rows = due.nonzero()[:, 0]
    return plans.index_copy(0, rows, plan(rows)) if len(rows) else plans


def load_vla(description: Mapping[str, Any], weights: Mapping[str, Tensor], device: str) -> VLAAgent:
    """Return the agent of a bundle that is described as kind ``vla``; see `embodied_mem.agent.load_agent`.

    Raises:
        UsageError: the description names an unknown component.
        RuntimeError: the weights do not fit it.
    """
    spaces = [space_from_json(description[key]) for key in ("observation_space", "action_space")]
    policy = make_policy(from_dict(VLAConfig, description["config"]), *spaces)
    policy.load_state_dict(dict(weights))
    return VLAAgent(policy.to(device))
