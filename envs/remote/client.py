"""A vector environment whose rows run at a server: ``make_vec("remote:ws://127.0.0.1:8766", 16)``.

Seeds, autoreset, assigned episodes and what a step returns are those of the environment at the server. One message per
step carries all rows, so the cost of the network is per step, not per row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from embodied_mem.envs.base import autoreset, take
from embodied_mem.errors import UsageError
from embodied_mem.spaces import space_from_json
from embodied_mem.wire.client import Link, RemoteError
from embodied_mem.wire.messages import field

SCHEME = "remote:"


class RemoteVectorEnv(VectorEnv):
    """Rows at a server."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}
    remote = True
    """`make_vec` makes one of these instead of copies of single environments."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        address: str,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        timeout_s: float = 300.0,
        **options: Any,
    ) -> None:
        """Connect and have the environment made.

        Args:
            num_envs: N >= 1.
            address: ``ws://host:port``; the token, if any, comes from the environment (`wire.messages`).
            autoreset_mode: as of every vector environment here.
            render_mode: of the environment at the server; an option like the others there.
            timeout_s: longest wait for a step.
            options: keywords of the environment; the server must allow them.

        Raises:
            UsageError: nobody listens, or the server refuses.
        """
        self.link = Link(address, "env", timeout_s=timeout_s)
        self.autoreset_mode = autoreset(autoreset_mode)
        self.num_envs, self.render_mode = num_envs, render_mode
        hello = self.link.hello
        try:
            self.single_observation_space = space_from_json(field(hello, "observation_space", dict))
            self.single_action_space = space_from_json(field(hello, "action_space", dict))
            given = options if render_mode is None else {**options, "render_mode": render_mode}
            mode = self.autoreset_mode.name
            made = self.link.ask("make", "make", num_envs=num_envs, autoreset_mode=mode, options=given)
        except BaseException:
            self.link.close()
            raise
        self.metadata = {**field(made, "metadata", dict), "autoreset_mode": self.autoreset_mode}
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start new episodes at the server; see the environment there for ``seed`` and ``options``."""
        seed = seed.tolist() if isinstance(seed, np.ndarray) else seed
        answer = self.link.ask("reset", "reset", seed=seed, options=None if options is None else dict(options))
        return answer["obs"], field(answer, "info", dict)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play one action per row.

        Raises:
            UsageError: the server refuses the actions, its environment raises, or it went away.
        """
        answer = self.link.ask("step", "step", actions=np.asarray(actions))
        reward, terminated, truncated = (
            field(answer, name, np.ndarray) for name in ("reward", "terminated", "truncated")
        )
        if any(item.shape != (self.num_envs,) for item in (reward, terminated, truncated)):
            raise RemoteError(f"expected reward and flags of {self.num_envs} rows from {self.link.address}")
        return answer["obs"], reward, terminated, truncated, field(answer, "info", dict)

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the hidden state that oracles read, from the server."""
        return field(self.link.ask("privileged", "privileged"), "privileged", dict)

    def describe(self, row: int) -> dict[str, Any]:
        """Return what does not change during the episode of ``row``."""
        return field(self.link.ask("describe", "describe", row=row), "value", dict)

    def trace(self, row: int) -> dict[str, Any]:
        """Return what a report draws of the present step of ``row``."""
        return field(self.link.ask("trace", "trace", row=row), "value", dict)

    def render(self) -> tuple[Any, ...] | None:
        """Return one frame per row, or None without a render mode."""
        frames = self.link.ask("render", "render").get("frames") if self.render_mode is not None else None
        return None if frames is None else tuple(frames)

    def render_row(self, row: int) -> Any:
        """Return the frame of one row, or None without a render mode."""
        frames = self.render()
        return None if frames is None else frames[row]

    def close_extras(self, **kwargs: Any) -> None:
        """Say goodbye; the server closes its environment."""
        link = getattr(self, "link", None)
        if link is not None:
            link.close()


class RemoteEnv(gymnasium.Env):
    """One row at a server as a plain Gymnasium environment."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}

    def __init__(self, *, render_mode: str | None = None, **kwargs: Any) -> None:
        """Connect; ``kwargs`` are those of `RemoteVectorEnv`."""
        self.vector = RemoteVectorEnv(1, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode, **kwargs)
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        super().reset(seed=seed)
        options = dict(options or {})
        if "episode" in options:
            options["episode"] = np.asarray(options["episode"]).reshape(-1)
        observed, _ = self.vector.reset(seed=seed, options=options or None)
        return take(observed, 0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play one action; info holds what the environment said about this row."""
        observed, reward, terminated, truncated, info = self.vector.step(np.asarray(action)[None])
        single = {name: value[0] for name, value in info.items() if f"_{name}" in info and info[f"_{name}"][0]}
        return take(observed, 0), float(reward[0]), bool(terminated[0]), bool(truncated[0]), single

    def render(self) -> Any:
        """Return the frame, or None without a render mode."""
        frames = self.vector.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Say goodbye."""
        self.vector.close()


def remote_spec(env_id: str) -> gymnasium.envs.registration.EnvSpec:
    """Return the Gymnasium spec of ``remote:ADDRESS``.

    Raises:
        UsageError: there is no address.
    """
    address = env_id.removeprefix(SCHEME)
    if not address:
        raise UsageError("expected an address behind 'remote:', for example remote:ws://127.0.0.1:8766")
    return gymnasium.envs.registration.EnvSpec(
        "embodied_mem/Remote-v0",
        entry_point=f"{__name__}:RemoteEnv",
        vector_entry_point=f"{__name__}:RemoteVectorEnv",
        kwargs={"address": address},
        disable_env_checker=True,
        order_enforce=False,
    )
