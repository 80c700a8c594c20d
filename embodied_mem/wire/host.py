"""Serves environments from a Python of its own: other package versions, an old Gym, no torch.

    python -m embodied_mem.wire.host my_suite:make_env --rows 4 --option task=3

``my_suite:make_env`` returns one environment with Gymnasium's or old Gym's methods: `reset` gives an observation or
(observation, info), `step` four or five values, seeds go to ``reset(seed=)`` or to ``seed()``. It needs Python >= 3.11,
numpy (1 or 2), msgpack, websockets and this package's files; nothing else of this package's requirements is imported,
so ``pip install --no-deps embodied-mem`` (or the source folder on ``PYTHONPATH``) is enough.

Rows are copies of the environment, stepped one after another. Autoreset is DISABLED or NEXT_STEP. Episode e of seed s
is the environment seeded with a hash of (s, e), for any row and any number of rows.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.wire.env_session import EnvServer
from embodied_mem.wire.server import token_from_environment

MODES = ("DISABLED", "NEXT_STEP")


class Copies:
    """N copies of a single environment, with the vector interface that `env_session` calls."""

    def __init__(self, make: Callable[[], Any], num_envs: int, autoreset_mode: str) -> None:
        """Make the copies.

        Raises:
            UsageError: the autoreset mode is none of `MODES`.
        """
        if autoreset_mode not in MODES:
            raise UsageError(f"expected autoreset_mode {' or '.join(MODES)} of this host, got {autoreset_mode!r}")
        self.num_envs, self.mode = num_envs, autoreset_mode
        self.envs = [make() for _ in range(num_envs)]
        self.space = space_json(self.envs[0].observation_space)
        self.actions = space_json(self.envs[0].action_space)
        self.metadata = {"render_modes": ["rgb_array"]}
        self._seed = 0
        self._counts = [0] * num_envs
        self._obs: list[Any] = [None] * num_envs
        self._terminated = np.zeros(num_envs, dtype=bool)
        self._truncated = np.zeros(num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start episodes; ``options`` are ``reset_mask`` (N,) bool and ``episode`` (N,) integers.

        Raises:
            UsageError: an option is malformed.
        """
        options = dict(options or {})
        mask = options.pop("reset_mask", np.ones(self.num_envs, dtype=bool))
        episode = options.pop("episode", None)
        if options:
            raise UsageError(f"expected the options reset_mask and episode, got {sorted(options)[:8]}")
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (self.num_envs,):
            raise UsageError(f"expected reset_mask as bool of shape {(self.num_envs,)}")
        if episode is not None and (
            np.shape(episode) != (self.num_envs,) or np.asarray(episode).dtype.kind not in "iu"
        ):
            raise UsageError(f"expected episode as integers of shape {(self.num_envs,)}")
        if seed is not None:
            if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
                raise UsageError(f"expected one seed >= 0, got {seed!r}")
            self._seed, self._counts = seed, [0] * self.num_envs
        if not mask.all() and any(item is None for item in self._obs):
            raise UsageError("expected a first reset of all rows")
        for row in map(int, np.flatnonzero(mask)):
            if episode is None:
                self._begin(row, self._seed + row, self._next(row))
            else:
                self._begin(row, self._seed, int(episode[row]))
        return self._observation(), {}

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play one action per row; a finished row stays as it is (DISABLED) or begins anew (NEXT_STEP)."""
        if any(item is None for item in self._obs):
            raise UsageError("expected reset before step")
        reward = np.zeros(self.num_envs, dtype=np.float64)
        waiting = self._terminated | self._truncated
        infos: dict[int, Mapping[str, Any]] = {}
        for row, env in enumerate(self.envs):
            if waiting[row]:
                if self.mode == "NEXT_STEP":
                    self._begin(row, self._seed + row, self._next(row))
                continue
            found = env.step(_action(actions[row], self.actions))
            if len(found) == 5:
                self._obs[row], reward[row], self._terminated[row], self._truncated[row], infos[row] = found
            else:
                self._obs[row], reward[row], done, infos[row] = found
                cut = bool(infos[row].get("TimeLimit.truncated", False))
                self._terminated[row], self._truncated[row] = bool(done) and not cut, bool(done) and cut
        ended = (self._terminated | self._truncated) & ~waiting
        flags = self._terminated.copy(), self._truncated.copy()
        return (
            self._observation(),
            reward,
            *flags,
            _final({row: infos[row] for row in map(int, np.flatnonzero(ended))}, ended),
        )

    def render(self) -> list[Any] | None:
        """Return one frame per row."""
        return [env.render() for env in self.envs]

    def close(self) -> None:
        """Close every copy."""
        for env in self.envs:
            env.close()

    def _next(self, row: int) -> int:
        self._counts[row] += 1
        return self._counts[row] - 1

    def _begin(self, row: int, seed: int, episode: int) -> None:
        if episode < 0:
            raise UsageError(f"expected episode numbers >= 0, got {episode}")
        number = int(np.random.SeedSequence([seed, episode]).generate_state(1)[0] >> 1)
        env = self.envs[row]
        if "seed" in inspect.signature(env.reset).parameters:
            found = env.reset(seed=number)
        else:
            env.seed(number)
            found = env.reset()
        self._obs[row] = found[0] if isinstance(found, tuple) and len(found) == 2 else found
        self._terminated[row] = self._truncated[row] = False

    def _observation(self) -> Any:
        return _stack(self.space, self._obs)


def space_json(space: Any) -> dict[str, Any]:
    """Return the JSON form (`spaces.space_to_json`) of a space of Gymnasium or old Gym, told by its class's name.

    Raises:
        UsageError: another kind of space.
    """
    kind = type(space).__name__
    if kind == "Dict":
        return {"type": "Dict", "spaces": {key: space_json(inner) for key, inner in space.spaces.items()}}
    if kind == "Box":
        low, high = (_bound(np.asarray(item)) for item in (space.low, space.high))
        dtype = np.dtype(space.dtype).name
        return {"type": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": dtype}
    if kind == "Discrete":
        return {"type": "Discrete", "n": int(space.n), "start": int(getattr(space, "start", 0))}
    if kind == "MultiDiscrete":
        nvec = np.asarray(space.nvec)
        return {"type": "MultiDiscrete", "nvec": nvec.tolist(), "start": np.zeros_like(nvec).tolist()}
    if kind == "MultiBinary":
        return {"type": "MultiBinary", "shape": list(space.shape)}
    raise UsageError(f"expected a Box, Discrete, MultiDiscrete, MultiBinary or Dict space, got {space}")


def host(make: Callable[..., Any], options: Mapping[str, Any], **settings: Any) -> EnvServer:
    """Return a server of copies of ``make(**options)``; see `EnvServer` for ``settings``."""

    def made(num_envs: int, autoreset_mode: str, given: Mapping[str, Any]) -> Copies:
        return Copies(lambda: make(**{**options, **given}), num_envs, autoreset_mode)

    one = make(**options)
    hello = {
        "server": f"embodied_mem.wire.host, Python {sys.version.split()[0]}, numpy {np.__version__}",
        "env": f"{make.__module__}:{make.__qualname__}",
        "observation_space": space_json(one.observation_space),
        "action_space": space_json(one.action_space),
        "about": {"options": {key: str(value) for key, value in options.items()}},
    }
    one.close()
    return EnvServer(made, hello, **settings)


def main(words: Sequence[str] | None = None) -> int:
    """Run the host from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m embodied_mem.wire.host", description=str(__doc__).split("\n")[0])
    parser.add_argument("factory", help="module:function that returns one environment")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="keyword of the factory")
    parser.add_argument("--client-options", action="store_true", help="let clients give keywords of their own")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8766, help="0 takes a free one")
    parser.add_argument("--rows", type=int, default=8, help="rows over all clients")
    given = parser.parse_args(words)
    module, _, name = given.factory.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        options = {key: _value(text) for key, _, text in (item.partition("=") for item in given.option)}
        make = getattr(importlib.import_module(module), name)
        settings = {"host": given.host, "port": given.port, "rows": given.rows, "token": token_from_environment()}
        server = host(make, options, client_options=given.client_options, **settings)
        server.run(lambda: print(f"serving {given.factory} at {server.address}", flush=True))
    except (UsageError, ImportError, AttributeError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    return 0


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _bound(bound: np.ndarray) -> Any:
    """Return one number where all entries agree, else nested lists; infinities as text."""
    named = [value if np.isfinite(value) else str(value) for value in bound.reshape(-1).tolist()]
    if named and all(value == named[0] for value in named):
        return named[0]
    out = np.empty(len(named), dtype=object)
    out[:] = named
    return out.reshape(bound.shape).tolist()


def _stack(space: Mapping[str, Any], rows: Sequence[Any]) -> Any:
    if space["type"] == "Dict":
        return {key: _stack(inner, [row[key] for row in rows]) for key, inner in space["spaces"].items()}
    dtype = {"Box": space.get("dtype"), "MultiBinary": "int8"}.get(space["type"], "int64")
    return np.stack([np.asarray(row, dtype=dtype) for row in rows])


def _action(action: Any, space: Mapping[str, Any]) -> Any:
    return int(action) if space["type"] == "Discrete" else action


def _final(infos: Mapping[int, Mapping[str, Any]], ended: np.ndarray) -> dict[str, Any]:
    """Return the numbers and texts in the infos of rows that ended, as arrays (N,) with Gymnasium's masks."""
    out: dict[str, Any] = {}
    for row, info in infos.items():
        for key, value in info.items():
            if not isinstance(value, bool | int | float | str | np.bool_ | np.number):
                continue
            kind = object if isinstance(value, str) else np.asarray(value).dtype
            values = out.setdefault(key, np.zeros(len(ended), dtype=kind))
            if values.dtype != kind:
                values = out[key] = values.astype(object)
            values[row] = value
            out.setdefault(f"_{key}", np.zeros(len(ended), dtype=bool))[row] = True
    return out


if __name__ == "__main__":
    sys.exit(main())
