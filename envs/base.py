"""Batched environments: N episodes in lockstep as arrays, with Gymnasium's vector interface and its N=1 view.

What a subclass of `BatchedEnv` writes is the game: `_begin`, `_advance`, `_observe`, `_final_info`, `privileged`. What
the base owns is everything that must be equal in all environments: seeds, autoreset, assigned episodes, action checks.

Seeds. ``reset(seed=s)`` seeds row i with s+i; the k-th episode of a row depends on (s+i, k) only, for any N.
``reset(options={"episode": (N,) int})`` makes a row play episode e of seed s: it depends on (s, e) only, not on the
row; the row's own count k does not move. ``options={"reset_mask": (N,) bool}`` restricts a reset to some rows; the
others are untouched and the full observations come back.

Autoreset. NEXT_STEP: the step after a final one ignores the row's action and returns the next episode's first
observation with reward 0. SAME_STEP: the final step returns the next episode's first observation; the old last one is
in ``info["final_obs"]``. DISABLED: the caller resets; a finished row that is stepped anyway stays inert (reward 0,
flags and observation stay).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from embodied_mem.envs import rng
from embodied_mem.errors import UsageError, nearest
from embodied_mem.spaces import check_actions

Observation = dict[str, np.ndarray] | np.ndarray


class BatchedEnv(VectorEnv, ABC):
    """N environments as arrays. A subclass sets ``single_observation_space`` and ``single_action_space``, then calls
    ``super().__init__``.

    Attributes:
        keys: (N,) uint64, key of the episode each row plays; all randomness of the episode comes from it.
        episodes: (N,) int64, its index (the row's count k, or the assigned e).
        all_active: True while `_advance` is called with every row active, so that it may skip masking.
    """

    metadata: dict[str, Any] = {"render_modes": []}
    fresh: ClassVar[bool] = False
    """True where `_observe` and `_advance` return new arrays at every call, which then need no copy."""
    open_options: ClassVar[bool] = False
    """True where the constructor takes more keywords than its signature names, and checks them itself."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        copy: bool = True,
    ) -> None:
        """Set up N rows; no episode is started before `reset`.

        Args:
            num_envs: N >= 1.
            autoreset_mode: see the module; a string is one of Gymnasium's values ("NextStep", "SameStep", "Disabled").
            render_mode: one of ``metadata["render_modes"]``, or None.
            copy: False lets the arrays that `step` returns be overwritten by the next call.

        Raises:
            UsageError: a value is out of range.
        """
        if isinstance(num_envs, bool) or not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise UsageError(f"expected num_envs >= 1 (int), got {num_envs!r}")
        modes = type(self).metadata.get("render_modes", [])
        if render_mode is not None and render_mode not in modes:
            raise UsageError(
                f"expected render_mode None or one of {modes} for {type(self).__name__}, got {render_mode!r}"
            )
        self.num_envs = int(num_envs)
        self.autoreset_mode = autoreset(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.keys = np.zeros(self.num_envs, dtype=np.uint64)
        self.episodes = np.zeros(self.num_envs, dtype=np.int64)
        self.all_active = True
        self._copy = copy and not self.fresh
        self._row_seeds = np.zeros(self.num_envs, dtype=np.uint64)
        self._assigned_seeds = np.zeros(self.num_envs, dtype=np.uint64)
        self._counts = np.zeros(self.num_envs, dtype=np.int64)
        self._started = False
        self._any_done = False
        self._terminated = np.zeros(self.num_envs, dtype=bool)
        self._truncated = np.zeros(self.num_envs, dtype=bool)
        self._done = np.zeros(self.num_envs, dtype=bool)
        self._every_row = np.ones(self.num_envs, dtype=bool)
        space = self.single_action_space
        self._discrete = (int(space.start), int(space.n)) if isinstance(space, spaces.Discrete) else None

    # What a subclass writes

    @abstractmethod
    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Start a new episode in ``rows`` (M,) int64; every random choice is drawn from ``keys`` (M,) uint64."""

    @abstractmethod
    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play ``actions`` (N, ...) in the rows of ``active`` (N,) bool.

        Returns (reward (N,) float32, terminated (N,) bool, truncated (N,) bool). A row that is not active keeps its
        state and returns 0, False, False.
        """

    @abstractmethod
    def _observe(self) -> Observation:
        """Return the observations of all rows. It depends on the state alone: two calls in a row give equal arrays."""

    def _final_info(self) -> dict[str, np.ndarray]:
        """Return what metrics need, as (N, ...) arrays that are valid in rows whose episode has just ended."""
        return {}

    def _render(self, row: int) -> Any:
        """Return one row's frame in ``render_mode``; written by environments that name render modes."""
        raise UsageError(f"expected {type(self).__name__} to write _render, since it names render modes")

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the hidden state that oracles read, as (N, ...) arrays; it never reaches observations or info."""
        return {}

    def describe(self, row: int) -> dict[str, Any]:
        """Return what does not change during the episode of ``row`` (a map, say) as JSON-able values, for reports."""
        return {}

    def trace(self, row: int) -> dict[str, Any]:
        """Return what a report draws of the present step of ``row`` (a pose, say) as JSON-able values."""
        return {}

    # Gymnasium's interface

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start new episodes; see the module for ``seed`` and for the options ``reset_mask`` and ``episode``.

        Args:
            seed: s >= 0, or one seed per row; None continues each row's count of episodes.
            options: ``reset_mask`` (N,) bool with at least one True; ``episode`` (N,) integers >= 0 (where masked).

        Returns:
            Observations of all N rows, and an empty info.

        Raises:
            UsageError: a seed or an option is malformed, or a first reset leaves rows out.
        """
        mask, assigned = self._options(dict(options or {}))
        if not self._started and not mask.all():
            raise UsageError(
                f"expected a first reset of all {self.num_envs} rows, got a reset_mask of {int(mask.sum())}"
            )
        self._seed(seed, mask)
        rows = np.flatnonzero(mask)
        self._start(rows, None if assigned is None else assigned[rows])
        self._set_done(self._done & ~mask)
        self._started = True
        return self._observation(), {}

    def step(self, actions: Any) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play one action per row; see the module for what happens in and after a final step.

        Returns:
            (observations, reward (N,) float32, terminated (N,) bool, truncated (N,) bool, info). In rows whose episode
            ends here, info holds the metrics, with a mask ``_key`` for every ``key``; otherwise it is empty.

        Raises:
            UsageError: `reset` was not called, or the actions do not fit the action space.
        """
        if not self._started:
            raise UsageError("expected reset() before the first step()")
        actions = self._checked(actions)
        waiting = self._done if self._any_done else None
        self.all_active = waiting is None
        reward, terminated, truncated = self._advance(actions, self._every_row if waiting is None else ~waiting)
        if self._copy:
            reward, terminated, truncated = reward.copy(), terminated.copy(), truncated.copy()
        ended = terminated | truncated
        any_ended = bool(ended.any())
        info = self._masked(self._final_info(), ended) if any_ended else {}
        done = ended
        if waiting is not None:
            if self.autoreset_mode is AutoresetMode.NEXT_STEP:
                self._start(np.flatnonzero(waiting), None)
            else:
                terminated |= self._terminated & waiting
                truncated |= self._truncated & waiting
                done = ended | waiting
        if any_ended and self.autoreset_mode is AutoresetMode.SAME_STEP:
            self._same_step(info, ended)
            done = np.zeros_like(ended)
        self._set_done(done)
        if self._any_done:
            self._terminated, self._truncated = terminated.copy(), truncated.copy()
        return self._observation(), reward, terminated, truncated, info

    def render(self) -> tuple[Any, ...] | None:
        """Return one frame per row, or None without a render mode."""
        if self.render_mode is None:
            return None
        return tuple(self._render(row) for row in range(self.num_envs))

    def render_row(self, row: int) -> Any:
        """Return the frame of one row, or None without a render mode."""
        return None if self.render_mode is None else self._render(row)

    # What the base owns

    def _options(self, options: dict[str, Any]) -> tuple[np.ndarray, np.ndarray | None]:
        n = self.num_envs
        mask = options.pop("reset_mask", None)
        assigned = options.pop("episode", None)
        if options:
            key = next(iter(options))
            known = ("reset_mask", "episode")
            raise UsageError(f"unknown reset option {key!r}{nearest(str(key), known)}; available: {', '.join(known)}")
        if mask is None:
            mask = self._every_row
        elif not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (n,):
            raise UsageError(f"expected reset_mask as a bool array of shape {(n,)}, got {_describe(mask)}")
        elif not mask.any():
            raise UsageError("expected a reset_mask with at least one True, got none")
        if assigned is not None:
            assigned = np.asarray(assigned)
            if assigned.dtype.kind not in "iu" or assigned.shape != (n,):
                raise UsageError(f"expected episode as an integer array of shape {(n,)}, got {_describe(assigned)}")
            if (assigned[mask] < 0).any():
                raise UsageError(f"expected episode numbers >= 0, got {assigned[mask].min()}")
        return mask, assigned

    def _seed(self, seed: int | Sequence[int] | None, mask: np.ndarray) -> None:
        if seed is None and self._started:
            return
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
        if not isinstance(seed, Sequence | np.ndarray):
            first = _natural(seed)
            super().reset(seed=first)
            row_seeds = _wrapped([first + row for row in range(self.num_envs)])
            assigned = _wrapped([first] * self.num_envs)
        else:
            if len(seed) != self.num_envs:
                raise UsageError(f"expected one seed or {self.num_envs} of them, got {len(seed)}")
            row_seeds = assigned = _wrapped([_natural(item) for item in seed])
            super().reset(seed=_natural(seed[0]))
        self._row_seeds[mask] = rng.seed_keys(row_seeds)[mask]
        self._assigned_seeds[mask] = rng.seed_keys(assigned)[mask]
        self._counts[mask] = 0

    def _start(self, rows: np.ndarray, assigned: np.ndarray | None) -> None:
        if assigned is None:
            episodes = self._counts[rows]
            self._counts[rows] = episodes + 1
            seeds = self._row_seeds[rows]
        else:
            episodes = assigned.astype(np.int64)
            seeds = self._assigned_seeds[rows]
        keys = rng.episode_keys(seeds, episodes)
        self.keys[rows] = keys
        self.episodes[rows] = episodes
        self._begin(rows, keys)

    def _same_step(self, info: dict[str, Any], ended: np.ndarray) -> None:
        last = self._observe() if self.fresh else _copied(self._observe())
        final = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(ended):
            final[row] = take(last, int(row))
        metrics = dict(info)
        info["final_obs"], info["_final_obs"] = final, ended.copy()
        info["final_info"], info["_final_info"] = metrics, ended.copy()
        self._start(np.flatnonzero(ended), None)

    def _set_done(self, done: np.ndarray) -> None:
        self._done = done
        self._any_done = bool(done.any())

    def _observation(self) -> Observation:
        return _copied(self._observe()) if self._copy else self._observe()

    def _checked(self, actions: Any) -> np.ndarray:
        # One comparison of the shifted values as unsigned numbers finds those that are too small and too large.
        if (
            self._discrete is not None
            and type(actions) is np.ndarray
            and actions.dtype == np.int64
            and actions.shape == (self.num_envs,)
        ):
            start, n = self._discrete
            shifted = actions if start == 0 else actions - start
            if shifted.view(np.uint64).max() < n:
                return actions
        return check_actions(self.single_action_space, actions, self.num_envs)

    @staticmethod
    def _masked(metrics: dict[str, np.ndarray], ended: np.ndarray) -> dict[str, Any]:
        info: dict[str, Any] = {}
        for name, values in metrics.items():
            values = np.asarray(values)
            empty = np.full_like(values, None) if values.dtype == object else np.zeros_like(values)
            empty[ended] = values[ended]
            info[name], info[f"_{name}"] = empty, ended.copy()
        return info


class SingleEnv(gymnasium.Env):
    """The N=1 view of a batched environment as a plain Gymnasium environment; a subclass names ``batched``.

    ``reset(options={"episode": e})`` plays episode e of the seed given at the last seeded reset.
    """

    batched: ClassVar[type[BatchedEnv]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take over the render modes of the batched class."""
        super().__init_subclass__(**kwargs)
        if hasattr(cls, "batched"):
            cls.metadata = dict(cls.batched.metadata)

    def __init__(self, *, render_mode: str | None = None, **kwargs: Any) -> None:
        """Set up the environment; ``kwargs`` are those of the batched class."""
        self.vector = self.batched(1, autoreset_mode=AutoresetMode.DISABLED, render_mode=render_mode, **kwargs)
        self.observation_space = self.vector.single_observation_space
        self.action_space = self.vector.single_action_space
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; returns (observation, empty info)."""
        super().reset(seed=seed)
        options = dict(options or {})
        if "episode" in options:
            options["episode"] = np.asarray(options["episode"]).reshape(-1)
        observed, _ = self.vector.reset(seed=seed, options=options)
        return take(observed, 0), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Play one action; info holds the metrics on the final step and is empty before it."""
        observed, reward, terminated, truncated, info = self.vector.step(np.asarray(action)[None])
        single = {name: _plain(value[0]) for name, value in info.items() if f"_{name}" in info}
        return take(observed, 0), float(reward[0]), bool(terminated[0]), bool(truncated[0]), single

    def render(self) -> Any:
        """Return the frame, or None without a render mode."""
        frames = self.vector.render()
        return None if frames is None else frames[0]

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the hidden state without the batch axis."""
        return {name: value[0] for name, value in self.vector.privileged().items()}

    def describe(self) -> dict[str, Any]:
        """Return what does not change during the episode, as JSON-able values."""
        return self.vector.describe(0)

    def trace(self) -> dict[str, Any]:
        """Return what a report draws of the present step, as JSON-able values."""
        return self.vector.trace(0)

    def close(self) -> None:
        """Release what the batched environment holds."""
        self.vector.close()


def autoreset(mode: AutoresetMode | str) -> AutoresetMode:
    """Return the Gymnasium autoreset mode of a mode or of its value or name ("NextStep", "NEXT_STEP", ...).

    Raises:
        UsageError: there is no such mode.
    """
    for item in AutoresetMode:
        if mode in (item, item.value, item.name):
            return item
    raise UsageError(f"expected autoreset_mode to be one of {[item.name for item in AutoresetMode]}, got {mode!r}")


def take(observed: Observation, row: int) -> Any:
    """Return one row of batched observations (dict of arrays, or array), without the batch axis."""
    if isinstance(observed, dict):
        return {name: value[row] for name, value in observed.items()}
    return observed[row]


def _copied(observed: Observation) -> Observation:
    if isinstance(observed, dict):
        return {name: value.copy() for name, value in observed.items()}
    return observed.copy()


def _natural(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise UsageError(f"expected a seed >= 0 (int), got {seed!r}")
    return int(seed)


def _wrapped(seeds: list[int]) -> np.ndarray:
    return np.array([seed & (1 << 64) - 1 for seed in seeds], dtype=np.uint64)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    return f"{type(value).__name__} {value!r}"
