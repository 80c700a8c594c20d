"""A policy served elsewhere as an agent: ``embodied-mem eval SUITE --agent remote:ws://127.0.0.1:8765``.

One connection per row, since a server keeps one memory per connection. All rows' observations are sent before the
first answer is read, so the server forwards them together. The memory lives at the server: the agent has no state here,
and controls that touch memory are null for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.spaces import misfit, space_from_json
from embodied_mem.wire.client import Link, RemoteError
from embodied_mem.wire.codec import ProtocolError
from embodied_mem.wire.messages import field
from embodied_mem.wire.schema import Schema


@register("agent", "remote", argument="ws://HOST:PORT", about="a policy served by embodied-mem serve")
class RemoteAgent:
    """Plays what a policy server answers."""

    needs_privileged = False

    def __init__(
        self, address: str, observation_space: gymnasium.Space, action_space: gymnasium.Space, timeout_s: float = 60.0
    ) -> None:
        """Connect once and compare the published spaces with those of the environment (of one row).

        Args:
            address: ``ws://host:port``; the token, if any, comes from the environment (`wire.messages`).
            observation_space: what the environment shows.
            action_space: what it takes.
            timeout_s: longest wait for an action.

        Raises:
            UsageError: nobody listens, or the policy does not fit the environment.
        """
        self.address, self.timeout_s = address, timeout_s
        self._links = [self._connect()]
        hello = self._links[0].hello
        self.rows = field(hello, "rows", int)
        self.schema = Schema(field(hello, "observation_space", dict))
        reads = space_from_json(field(hello, "observation_space", dict))
        self.action_space = space_from_json(field(hello, "action_space", dict))
        reason = misfit(reads, self.action_space, observation_space, action_space)
        if reason:
            self.close()
            raise UsageError(f"the policy at {address} does not fit the environment: {reason}")

    @staticmethod
    def env_options(argument: str) -> dict[str, Any]:
        """Return nothing: the policy brings no episodes of its own."""
        return {}

    @staticmethod
    def about(argument: str) -> dict[str, Any]:
        """Return what the server says about its policy (env, env_config, ...)."""
        link = Link(argument, "policy")
        link.close()
        return field(link.hello, "about", dict)

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, Any]:
        """Hold ``n`` connections whose next observation opens an episode; return an empty state.

        With a seed, row i of a stochastic policy restarts its draws with ``seed + i``.

        Raises:
            UsageError: the server has fewer rows, or refuses.
        """
        if n > self.rows:
            raise UsageError(f"{self.address} serves {self.rows} rows, {n} are wanted; use --num-envs or serve --rows")
        while len(self._links) > n:
            self._links.pop().close()
        while len(self._links) < n:
            self._links.append(self._connect())
        for row, link in enumerate(self._links):
            link.send("reset", seed=None if seed is None else seed + row)
        for link in self._links:
            link.receive("ready")
        return {}

    def act(
        self, obs: Any, state: Any, reset: np.ndarray, privileged: Mapping[str, np.ndarray] | None = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return the server's actions (B, ...), the state as it was, and an empty info.

        Raises:
            UsageError: the number of rows changed, or a server refused or went away.
        """
        if len(reset) != len(self._links):
            raise UsageError(f"expected {len(self._links)} rows as in initial_state, got {len(reset)}")
        try:
            for row, link in enumerate(self._links):
                link.send("act", obs=self.schema.take(obs, row), reset=bool(reset[row]))
            answers = [link.receive("action").get("action") for link in self._links]
        except BaseException:
            # Some answers are unread: these connections cannot be used again.
            self.close()
            raise
        shape, dtype = self.action_space.shape, self.action_space.dtype
        for answer in answers:
            if not isinstance(answer, np.ndarray | int | float) or np.shape(answer) != shape:
                raise RemoteError(f"expected actions of shape {shape} from {self.address}, got {str(answer)[:80]}")
        return np.stack([np.asarray(answer, dtype=dtype) for answer in answers]), state, {}

    def close(self) -> None:
        """Close every connection."""
        while self._links:
            self._links.pop().close()

    def _connect(self) -> Link:
        try:
            return Link(self.address, "policy", timeout_s=self.timeout_s)
        except ProtocolError as problem:
            raise RemoteError(f"{self.address}: {problem}") from problem
