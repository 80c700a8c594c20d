"""When a memory must be cleared, and wrappers that give foreign vector environments the reset rules of ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from embodied_mem.envs import rng
from embodied_mem.envs.base import autoreset
from embodied_mem.errors import UsageError


def resets_from_done(done: np.ndarray, mode: AutoresetMode | str, first: np.ndarray) -> np.ndarray:
    """Return where an observation opens an episode: there the memory is cleared before it is read.

    Args:
        done: (B, T) bool, or (B,) for one step. ``done[:, t]`` is the ``terminated | truncated`` that came together
            with x_t; in DISABLED mode it is the ``reset_mask`` of the reset that x_t came from (False where x_t came
            from a step).
        mode: autoreset mode of the environment.
        first: (B,) bool, True where x_0 opens an episode apart from ``done``: it came from ``env.reset()`` or,
            in NEXT_STEP mode, the observation before it came with done True. A fragment that continues another one
            passes ``first = done_before[:, -1]`` in NEXT_STEP mode, else False.

    Returns:
        resets of the shape of ``done``, bool.

    Raises:
        UsageError: a shape or dtype does not fit.

    >>> done = np.array([[False, True, False, False]])
    >>> resets_from_done(done, "NEXT_STEP", np.array([True])).astype(int)
    array([[1, 0, 1, 0]])
    >>> resets_from_done(done, "SAME_STEP", np.array([True])).astype(int)
    array([[1, 1, 0, 0]])
    """
    done, first = np.asarray(done), np.asarray(first)
    if done.dtype != np.bool_ or done.ndim not in (1, 2):
        raise UsageError(f"expected done as bool of shape (B,) or (B, T), got {done.dtype} of shape {done.shape}")
    if first.dtype != np.bool_ or first.shape != done.shape[:1]:
        raise UsageError(f"expected first as bool of shape {done.shape[:1]}, got {first.dtype} of shape {first.shape}")
    steps = done[:, None] if done.ndim == 1 else done
    if autoreset(mode) is AutoresetMode.NEXT_STEP:
        resets = np.concatenate([first[:, None], steps[:, :-1]], axis=1)
    else:
        resets = steps.copy()
        resets[:, 0] |= first
    return resets[:, 0] if done.ndim == 1 else resets


class NextStepAutoreset(VectorWrapper):
    """Turn a SAME_STEP vector environment into a NEXT_STEP one, exactly.

    The final step returns the old episode's last observation (``final_obs``). At the next step the row is reset once
    more through Gymnasium's option ``reset_mask``, and the episode that began in between is thrown away: an
    environment that steps all rows together cannot hold one back. The price is one extra reset per episode.

    Limits: the environment must honour ``reset_mask`` (Gymnasium's own do); one that resets other rows too is refused
    at the first occurrence.
    """

    def __init__(self, env: VectorEnv) -> None:
        """Wrap ``env``; raises UsageError unless its autoreset mode is SAME_STEP."""
        mode = mode_of(env)
        if mode is not AutoresetMode.SAME_STEP:
            raise UsageError(f"expected an environment in SAME_STEP mode, got {mode.name}")
        super().__init__(env)
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self._waiting = np.zeros(env.num_envs, dtype=bool)

    def reset(self, *, seed: Any = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all rows, or those of ``reset_mask``."""
        mask = (options or {}).get("reset_mask")
        self._waiting &= False if mask is None else ~mask
        return self.env.reset(seed=seed, options=None if options is None else dict(options))

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step all rows; after its final step a row ignores one action and returns a first observation, reward 0."""
        observed, reward, terminated, truncated, info = self.env.step(actions)
        waiting = self._waiting
        if waiting.any():
            again, _ = self.env.reset(options={"reset_mask": waiting.copy()})
            _require_untouched(observed, again, waiting)
            observed = again
            reward, terminated, truncated = (np.where(waiting, 0, item) for item in (reward, terminated, truncated))
            terminated, truncated = terminated.astype(bool), truncated.astype(bool)
        done = terminated | truncated
        if done.any():
            observed = put_rows(observed, info["final_obs"], done)
        self._waiting = done
        return observed, reward, terminated, truncated, _live_info(info, ~waiting)


class AssignedEpisodes(VectorWrapper):
    """Give a foreign vector environment in DISABLED mode the ``episode`` option and inert finished rows.

    Episode e of seed s is the environment reset with a seed that is a hash of (s, e), so it is the same for any row and
    any number of rows. Without ``episode`` the k-th reset of row i uses the hash of (s + i, k), as built-in ones do.
    """

    def __init__(self, env: VectorEnv) -> None:
        """Wrap ``env``; raises UsageError unless its autoreset mode is DISABLED."""
        mode = mode_of(env)
        if mode is not AutoresetMode.DISABLED:
            raise UsageError(f"expected an environment in DISABLED mode, got {mode.name}")
        super().__init__(env)
        self._seed: int | None = None
        self._counts = np.zeros(env.num_envs, dtype=np.int64)
        self._terminated = np.zeros(env.num_envs, dtype=bool)
        self._truncated = np.zeros(env.num_envs, dtype=bool)
        self._must_reset = np.zeros(env.num_envs, dtype=bool)
        self._observed: Any = None

    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start new episodes; options ``reset_mask`` (N,) bool and ``episode`` (N,) int64, others are passed on."""
        options = dict(options or {})
        mask = options.pop("reset_mask", np.ones(self.num_envs, dtype=bool))
        episode = options.pop("episode", None)
        if seed is not None or self._seed is None:
            self._seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed)
            self._counts[mask] = 0
        seeds = np.full(self.num_envs, self._seed, dtype=np.uint64)
        if episode is None:
            seeds += np.arange(self.num_envs, dtype=np.uint64)
            episode = self._counts.copy()
            self._counts[mask] += 1
        else:
            episode = np.where(mask, np.asarray(episode), 0)
            if (episode < 0).any():
                raise UsageError(f"expected episode numbers >= 0, got {episode.min()}")
        keys = rng.episode_keys(rng.seed_keys(seeds), episode)
        # 31 bits: what every environment accepts as a seed.
        row_seeds: Any = [int(key >> np.uint64(33)) for key in keys]
        if self._observed is None or mask.all():
            observed, info = self.env.reset(seed=row_seeds, options=options or None)
            self._observed = observed
        else:
            observed, info = self.env.reset(seed=row_seeds, options={**options, "reset_mask": mask})
            self._observed = put_rows(self._observed, observed, mask)
        for flags in (self._terminated, self._truncated, self._must_reset):
            flags[mask] = False
        return _copy(self._observed), info

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step the rows that play; finished ones keep their last observation and flags and earn 0."""
        inert = self._terminated | self._truncated
        if self._must_reset.any():
            # The environment underneath refuses to step a finished row, so an inert one plays throw-away episodes.
            self.env.reset(options={"reset_mask": self._must_reset.copy()})
        observed, reward, terminated, truncated, info = self.env.step(actions)
        self._must_reset = terminated | truncated
        self._observed = put_rows(_copy(observed), self._observed, inert)
        self._terminated = np.where(inert, self._terminated, terminated)
        self._truncated = np.where(inert, self._truncated, truncated)
        flags = (self._terminated.copy(), self._truncated.copy())
        return _copy(self._observed), np.where(inert, 0, reward), *flags, _live_info(info, ~inert)


def mode_of(env: VectorEnv) -> AutoresetMode:
    """Return the autoreset mode of a vector environment, wrapped or not.

    The instance's own attribute comes first: Gymnasium's SyncVectorEnv writes the mode into metadata that
    environments of a class share.

    Raises:
        UsageError: the environment does not say.
    """
    while isinstance(env, VectorWrapper):
        if isinstance(env, NextStepAutoreset):
            return AutoresetMode.NEXT_STEP
        env = env.env
    mode = getattr(env, "autoreset_mode", None) or env.metadata.get("autoreset_mode")
    if mode is None:
        raise UsageError(f"{env} does not state metadata['autoreset_mode']; set it to an AutoresetMode")
    return autoreset(mode)


def put_rows(target: Any, source: Any, rows: np.ndarray) -> Any:
    """Return batched observations equal to ``source`` in ``rows`` (N,) bool, else to ``target``.

    Both may be arrays, dicts or tuples of arrays; ``source`` may be an object array of single observations
    (Gymnasium's ``final_obs``). ``target`` is not changed.
    """
    if not rows.any():
        return target
    if isinstance(source, np.ndarray) and source.dtype == object:
        return _put(target, list(source[rows]), rows)
    return _put(target, source, rows, batched=True)


def _put(target: Any, source: Any, rows: np.ndarray, batched: bool = False) -> Any:
    """Recurse into dicts and tuples; ``source`` is batched like ``target``, or a list of one observation per True."""
    if isinstance(target, dict | tuple):
        parts = target if isinstance(target, dict) else range(len(target))
        new = {
            key: _put(target[key], source[key] if batched else [one[key] for one in source], rows, batched)
            for key in parts
        }
        return new if isinstance(target, dict) else tuple(new.values())
    out = target.copy()
    out[rows] = source[rows] if batched else np.stack(source)
    return out


def _copy(observed: Any) -> Any:
    if isinstance(observed, dict):
        return {key: _copy(value) for key, value in observed.items()}
    if isinstance(observed, tuple):
        return tuple(_copy(value) for value in observed)
    return observed.copy()


def _live_info(info: Mapping[str, Any], live: np.ndarray) -> dict[str, Any]:
    """Bring metrics of SAME_STEP's ``final_info`` to the top and mask rows that wait or are inert."""
    info = {key: value for key, value in info.items() if key not in ("final_obs", "_final_obs", "_final_info")}
    metrics = info.pop("final_info", None)
    if isinstance(metrics, Mapping):
        info.update(metrics)
    return {
        key: value & live if key.startswith("_") and isinstance(value, np.ndarray) else value
        for key, value in info.items()
    }


def _require_untouched(before: Any, after: Any, reset: np.ndarray) -> None:
    if isinstance(before, dict | tuple):
        keys = before if isinstance(before, dict) else range(len(before))
        for key in keys:
            _require_untouched(before[key], after[key], reset)
    elif not np.array_equal(before[~reset], after[~reset], equal_nan=before.dtype.kind == "f"):
        raise UsageError(
            "the environment reset rows beyond options['reset_mask']; SAME_STEP cannot be converted for it"
        )
