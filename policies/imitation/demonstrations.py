"""Demonstrations that the environment's scripted expert makes, with noise on what is done, cached as one file.

Noise is put on the actions on their way to the environment while the expert's own are recorded (DART, Laskey et al.
2017): the demonstrations then show how to go on from where an imitator ends up. Episodes that fail are left out, unless
a policy that is told the return learns from them too (``failures``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from gymnasium.vector import AutoresetMode

from embodied_mem.config import to_dict
from embodied_mem.demonstrations import Episode, open_dataset
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_file
from embodied_mem.policies.imitation.episode import play_episodes
from embodied_mem.policies.scripted.oracle import expert

_ATTEMPTS = 3
"""Episodes that may be played per episode that is kept."""


@dataclass(frozen=True)
class DemonstrationConfig:
    """What is recorded."""

    episodes: int = 256
    """Successful episodes."""
    seed: int = 0
    """Seed of the episode set."""
    noise: float = 0.02
    """Standard deviation of the noise on actions in [-1, 1]; 0 for none."""
    noisy: tuple[int, ...] = (0, 1, 2)
    """Action dimensions that get noise."""
    num_envs: int = 32
    """Rows that step in lockstep."""
    path: str | None = None
    """Data set to learn from instead (``embodied-mem record``: LeRobot v3 or Minari)."""
    failures: bool = False
    """Keep episodes that fail: for ``agent.policy=decision``, which is told the return."""
    cache: str | None = None
    """Folder shared by runs; null keeps the file in the run's own folder."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.episodes < 1 or self.num_envs < 1 or self.seed < 0 or self.noise < 0:
            raise UsageError(
                "expected demos.episodes and num_envs >= 1, seed and noise >= 0, "
                f"got {self.episodes}, {self.num_envs}, {self.seed}, {self.noise}"
            )


def record(env_id: str, env_config: Mapping[str, Any], config: DemonstrationConfig) -> list[Episode]:
    """Return successful episodes of the environment's expert, with ``config.failures`` all of them.

    Raises:
        UsageError: there is no expert for the environment, its observations have no ``vector``, ``noisy`` names actions
            that it does not have, or it fails too often.
    """
    rows = min(config.num_envs, config.episodes)
    found: list[Episode] = []
    played = 0
    with closing(make_vec(env_id, rows, autoreset_mode=AutoresetMode.DISABLED, **env_config)) as env:
        if "vector" not in getattr(env.single_observation_space, "spaces", {}):
            raise UsageError(f"expected observations with the entry 'vector', got {env.single_observation_space}")
        alter = _noise(config, env.single_action_space)
        while len(found) < config.episodes:
            if played >= _ATTEMPTS * config.episodes:
                raise UsageError(
                    f"the expert of {env_id} solved {len(found)} of {played} episodes; lower demos.noise {config.noise}"
                )
            count = config.episodes - len(found)
            made = play_episodes(env, expert(env_id, env), count, config.seed, first=played, alter=alter)
            found += [episode for episode in made if episode.success or config.failures]
            played += count
    return found


def demonstrations(
    env_id: str, env_config: Mapping[str, Any], config: DemonstrationConfig, folder: Path
) -> list[Episode]:
    """Return the data set that ``config.path`` names, or what `record` gives, which is kept in a file.

    Args:
        env_id: Gymnasium id.
        env_config: keyword arguments of the environment.
        config: what is recorded.
        folder: where the file goes unless ``config.cache`` names one.

    Raises:
        UsageError: as `record`, or as `read_dataset`.
        OSError: the file cannot be written.
    """
    if config.path is not None:
        return read_dataset(Path(config.path), env_id, env_config, failures=config.failures)
    what = {**to_dict(config), "env": env_id, "env_config": dict(env_config)}
    for key in ("path", "cache", "num_envs"):
        what.pop(key)
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:12]
    path = Path(config.cache or folder) / f"demonstrations-{digest}.npz"
    if path.is_file():
        return load_episodes(path)
    episodes = record(env_id, env_config, config)
    save_episodes(path, episodes)
    return episodes


def read_dataset(path: Path, env_id: str, env_config: Mapping[str, Any], *, failures: bool = False) -> list[Episode]:
    """Return the successful episodes of a data set, with ``failures`` all of them.

    Raises:
        UsageError: there is none, a file is damaged, no episode succeeded, or state or actions are not those of the
            environment.
    """
    episodes = [episode for episode in open_dataset(path) if episode.success or failures]
    if not episodes:
        raise UsageError(f"expected successful episodes in {path}, found none")
    with closing(make_vec(env_id, 1, autoreset_mode=AutoresetMode.DISABLED, **env_config)) as env:
        parts = getattr(env.single_observation_space, "spaces", {})
        wanted = (parts["vector"].shape if "vector" in parts else None), env.single_action_space.shape
    got = episodes[0].state.shape[1:], episodes[0].actions.shape[1:]
    if got != wanted:
        raise UsageError(f"expected state and actions of shapes {wanted}, as {env_id} has, got {got} in {path}")
    return episodes


def save_episodes(path: Path, episodes: Sequence[Episode]) -> None:
    """Write episodes with the same kinds of entries into one npz file, atomically."""
    arrays = {
        "lengths": np.array([len(item) for item in episodes]),
        "seeds": np.array([item.seed for item in episodes]),
        "success": np.array([item.success for item in episodes]),
        "instruction": np.array([item.instruction for item in episodes]),
        "state": np.concatenate([item.state for item in episodes]),
        "actions": np.concatenate([item.actions for item in episodes]),
    }
    for key in episodes[0].images:
        arrays[f"images/{key}"] = np.concatenate([item.images[key] for item in episodes])
    with atomic_file(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def load_episodes(path: Path) -> list[Episode]:
    """Read what `save_episodes` wrote.

    Raises:
        UsageError: the file is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        cuts = np.cumsum(arrays["lengths"])[:-1]
        parts = {
            key: np.split(value, cuts)
            for key, value in arrays.items()
            if key in ("state", "actions") or key.startswith("images/")
        }
        return [
            Episode(
                instruction=str(arrays["instruction"][k]),
                state=parts["state"][k],
                actions=parts["actions"][k],
                images={key.removeprefix("images/"): part[k] for key, part in parts.items() if "/" in key},
                seed=int(arrays["seeds"][k]),
                success=bool(arrays["success"][k]),
            )
            for k in range(len(arrays["lengths"]))
        ]
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UsageError(f"{path} holds no demonstrations ({error}); remove it and they are recorded again") from error


def _noise(config: DemonstrationConfig, space: Any) -> Any:
    if not config.noise:
        return None
    if any(not 0 <= k < space.shape[0] for k in config.noisy):
        raise UsageError(f"expected demos.noisy within 0 to {space.shape[0] - 1}, got {config.noisy}")
    generator = np.random.default_rng(config.seed)

    def alter(actions: np.ndarray) -> np.ndarray:
        noisy = actions.copy()
        wide = generator.normal(0.0, config.noise, (len(actions), len(config.noisy)))
        noisy[:, list(config.noisy)] += wide.astype(actions.dtype)
        return np.clip(noisy, space.low, space.high)

    return alter
