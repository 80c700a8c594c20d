"""One environment that is played step by step, by a person or an agent, with everything a picture of it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

from embodied_mem.envs.base import BatchedEnv
from embodied_mem.envs.make import check_options, find_spec, make_vec, renders_pictures
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.sources import Source, bundles, from_bundle, from_name
from embodied_mem.evaluation.suite import Task
from embodied_mem.policies.rows import replace_rows
from embodied_mem.spaces import as_dict_obs, decode_text

VIEW = 320
"""Columns and rows of the picture a House renders where the agent itself does not look at pictures."""
PICTURES = ("rgb", "depth", "semantic")


@dataclass
class Episode:
    """What has happened since the last reset."""

    number: int
    """Index of the episode."""
    steps: int = 0
    score: float = 0.0
    action: str = ""
    """Name of the last action."""
    path: list[tuple[float, float]] = field(default_factory=list)
    """Floor positions x, z so far, metres."""
    ended: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    """``info`` of the final step."""


class Game:
    """One row of an environment.

    Args:
        env_id: any Gymnasium id; it must render rgb arrays to be shown.
        options: keywords of the environment.
        agent: name of a registered agent, or None.
        checkpoint: folder of a trained agent, or None.
        seed: seed of the episodes and of the agent's draws.
        shown: whether `frame` will be asked for.

    Raises:
        UsageError: the environment cannot be made or shows no pictures, or the agent does not fit it.
    """

    def __init__(
        self,
        env_id: str,
        options: Mapping[str, Any],
        agent: str | None,
        checkpoint: Path | None,
        seed: int,
        shown: bool = True,
    ) -> None:
        source = self._source(agent, checkpoint)
        self.env_id = find_spec(env_id).id
        if shown and not renders_pictures(env_id):
            raise UsageError(f"{self.env_id} renders no pictures, so it can be neither shown nor recorded")
        check_options(self.env_id, options)
        keywords = {**self._keywords(source, shown), **options}
        drawn: dict[str, Any] = {"render_mode": "rgb_array"} if shown else {}
        self.env = make_vec(env_id, 1, autoreset_mode="DISABLED", **{**drawn, **keywords})
        self.space = self.env.single_action_space
        self.agent = None if source is None else source.make(Task(self.env_id, "probe", kwargs=keywords), self.env)
        self.seed = seed
        self.state: Any = None
        self.episode = Episode(-1)
        self.observed: dict[str, np.ndarray] = {}
        self._reset = np.ones(1, bool)
        self.restart()

    @staticmethod
    def _source(agent: str | None, checkpoint: Path | None) -> Source | None:
        if checkpoint is not None:
            return from_bundle(bundles(checkpoint)[0], "cpu")
        return None if agent is None else from_name(agent)

    def _keywords(self, source: Source | None, shown: bool) -> dict[str, Any]:
        """Return the keywords that the agent's observations need, and those that make the pictures large."""
        trained = dict(source.about.get("env_config") or {}) if source is not None else {}
        if not shown or not self.env_id.removeprefix("embodied_mem/").startswith("House-"):
            return trained
        looks = any(name in PICTURES for name in trained.get("sensors", ()))
        return trained if looks else {**trained, "width": VIEW, "height": VIEW}

    @property
    def actions(self) -> list[str]:
        """Names of the actions of a Discrete action space, else empty."""
        if not isinstance(self.space, spaces.Discrete):
            return []
        named = getattr(self.env, "actions", None)
        first, count = int(self.space.start), int(self.space.n)
        return list(named) if named else [str(value) for value in range(first, first + count)]

    def restart(self) -> None:
        """Begin the next episode."""
        number = self.episode.number + 1
        first = {"seed": self.seed} if number == 0 else {}
        options = {"episode": np.array([number])}
        seen, _ = self.env.reset(**first, options=options)
        self._see(seen)
        self.episode = Episode(number)
        self._reset = np.ones(1, bool)
        self._mark()

    def step(self, action: Any = None) -> None:
        """Play one action (its index for a person); None asks the agent."""
        if action is None:
            chosen = self._ask()
        else:
            assert isinstance(self.space, spaces.Discrete)
            chosen = np.array([int(self.space.start) + int(action)])
        seen, reward, terminated, truncated, info = self.env.step(chosen)
        self._see(seen)
        episode = self.episode
        episode.steps += 1
        episode.score += float(reward[0])
        if isinstance(self.space, spaces.Discrete):
            episode.action = self.actions[int(chosen[0]) - int(self.space.start)]
        else:
            episode.action = str(np.round(chosen[0], 2))
        episode.ended = bool(terminated[0] | truncated[0])
        if episode.ended:
            facts = {name: value[0] for name, value in info.items() if not name.startswith("_")}
            episode.facts = {name: _plain(value) for name, value in facts.items()}
        self._mark()

    def frame(self) -> np.ndarray:
        """Return the environment's own picture (H, W, 3) uint8.

        Raises:
            UsageError: it renders none, or what it renders with is not installed.
        """
        try:
            rendered: Any = self.env.render()
        except DependencyNotInstalled as error:
            raise UsageError(f"{self.env_id} cannot be shown: {error}") from error
        picture = rendered[0] if isinstance(rendered, tuple | list) and rendered else None
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3:
            raise UsageError(f"{self.env_id} renders no rgb_array picture, so it cannot be shown")
        return picture

    def house(self) -> dict[str, Any] | None:
        """Return the map of a House, None elsewhere."""
        if not isinstance(self.env, BatchedEnv):
            return None
        found = self.env.describe(0)
        return found if found.get("kind") == "house" else None

    def trace(self) -> dict[str, Any]:
        """Return pose and distance of the present step where the environment tells them."""
        return self.env.trace(0) if isinstance(self.env, BatchedEnv) else {}

    @property
    def task(self) -> str:
        """What the agent is asked to do, in words; empty where nothing is said."""
        told = getattr(self.env, "_instruction", None)
        if isinstance(told, np.ndarray):
            return decode_text(told[0])
        return decode_text(self.observed["instruction"][0]) if "instruction" in self.observed else ""

    def close(self) -> None:
        """Release the environment."""
        self.env.close()

    def _ask(self) -> np.ndarray:
        if self.agent is None:
            raise UsageError("no agent plays: give --agent NAME or --checkpoint DIR")
        if self.state is None:
            self.state = self.agent.initial_state(1, self.seed)
        elif self._reset[0]:
            self.state = replace_rows(self.state, self.agent.initial_state(1, self.seed), self._reset)
        hidden = self.env.privileged() if self.agent.needs_privileged and isinstance(self.env, BatchedEnv) else None
        action, self.state, _ = self.agent.act(self.observed, self.state, self._reset, hidden)
        self._reset = np.zeros(1, bool)
        return np.asarray(action)

    def _see(self, seen: Any) -> None:
        self.observed = as_dict_obs(self.env.single_observation_space, seen)

    def _mark(self) -> None:
        place = self.trace().get("xz")
        if place is not None:
            self.episode.path.append((float(place[0]), float(place[1])))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return round(value, 4) if np.isfinite(value) else None
    return value if isinstance(value, bool | int | str) or value is None else str(value)
