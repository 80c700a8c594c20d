"""The AI2-THOR environments: a batch of rows, each with a player of its own.

A player that dies or falls silent ends the episode of its row: truncated, with ``info["invalid"]`` True and no metrics
that count. The player is started again for the next episode; the lost episode is not repeated. Where it fails while an
episode is set up, that episode begins with zeros and ends, invalid, at its first step.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from embodied_mem.config import override
from embodied_mem.envs.base import BatchedEnv, Observation, SingleEnv
from embodied_mem.envs.thor.nav import NavRules, ObjectNavRow, PointNavRow
from embodied_mem.envs.thor.observe import check_sensors, sensor_space
from embodied_mem.envs.thor.player import PlayerConfig
from embodied_mem.envs.thor.row import Outcome, Row
from embodied_mem.envs.thor.scenes import scene_list
from embodied_mem.envs.thor.seats import Failure, make_seats
from embodied_mem.errors import UsageError, nearest


class BatchedThor(BatchedEnv):
    """N rows of one game on AI2-THOR.

    Args:
        num_envs: N; each row has a player process.
        split: "train", "val" or "test" scenes.
        procthor: file of ProcTHOR houses to play in instead of iTHOR's rooms.
        scenes: play in so many scenes of the split only; 0 = all.
        sensors: observation names: rgb, depth, semantic, pose, intrinsics and the game's own.
        backend: "local" (rows take turns in this process) or "ray" (an actor per row).
        actor_cpus: logical CPUs a Ray actor asks for.
        options: fields of `player.PlayerConfig` and of the game's rules, e.g. ``player="standin", width=64``.

    Raises:
        UsageError: an unknown split, sensor, back end or option, or a value that does not fit.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "top_down"]}
    open_options: ClassVar[bool] = True
    row: ClassVar[type[Row]]
    rules: ClassVar[Any]
    default_sensors: ClassVar[tuple[str, ...]] = ("rgb", "vector", "goal")
    player_defaults: ClassVar[PlayerConfig] = PlayerConfig()

    def __init__(
        self,
        num_envs: int = 1,
        *,
        split: str = "train",
        procthor: str = "",
        scenes: int = 0,
        sensors: Sequence[str] | None = None,
        backend: str = "local",
        actor_cpus: float = 1.0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        copy: bool = True,
        **options: Any,
    ) -> None:
        self.config, self.game = _configure(type(self).__name__, options, self.player_defaults, self.rules)
        self.sensor_names = tuple(sensors) if sensors is not None else self.default_sensors
        check_sensors(self.sensor_names, self.row.own)
        self.split = split
        self.scenes = self._scenes(split, procthor, scenes)
        self.single_observation_space = spaces.Dict(
            {
                name: self.row.own_space(name, self.game) if name in self.row.own else sensor_space(name, self.config)
                for name in self.sensor_names
            }
        )
        self.single_action_space = spaces.Discrete(len(self.row.actions))
        super().__init__(num_envs, autoreset_mode=autoreset_mode, render_mode=render_mode, copy=copy)
        self.invalid = np.zeros(self.num_envs, dtype=np.bool_)
        """(N,) bool: the episode of the row was lost with its player."""
        self.reasons = [""] * self.num_envs
        """What happened to the player of each row in its latest failure."""
        self.facts: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        self._seen = {
            name: np.zeros((self.num_envs, *space.shape), space.dtype)
            for name, space in self.single_observation_space.spaces.items()
        }
        make = functools.partial(self.row, self.config, self.game, self.sensor_names, self.scenes)
        self._seats = make_seats(backend, make, self.num_envs, self.config, actor_cpus)

    def _scenes(self, split: str, procthor: str, limit: int) -> list[Any]:
        """Return what episodes are drawn from."""
        return scene_list(split, procthor, limit)

    def _items(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Return (M,) which item of a listed data set each row plays; games that draw by key take no notice."""
        return self.episodes[rows]

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        items = self._items(rows, keys)
        given = {int(row): (int(key), int(item)) for row, key, item in zip(rows, keys, items)}
        self.invalid[rows] = False
        for row, answer in self._seats.call("begin", given).items():
            self.facts[row] = {}
            if isinstance(answer, Failure):
                self._lose(row, answer)
                for buffer in self._seen.values():
                    buffer[row] = 0
            else:
                self._keep(row, answer)

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = self.num_envs
        reward, terminated, truncated = np.zeros(n, np.float32), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        # A row that lost its episode while it was set up ends here without being asked.
        playing = {int(row): (int(actions[row]),) for row in np.flatnonzero(active & ~self.invalid)}
        truncated |= active & self.invalid
        for row, answer in (self._seats.call("act", playing) if playing else {}).items():
            if isinstance(answer, Failure):
                self._lose(row, answer)
                truncated[row] = True
                continue
            self._keep(row, answer)
            reward[row], terminated[row], truncated[row] = answer.reward, answer.terminated, answer.truncated
        return reward, terminated, truncated

    def _lose(self, row: int, failure: Failure) -> None:
        self.invalid[row] = True
        self.reasons[row] = failure.reason
        self.facts[row] = {**self.row.final, "invalid": True, "env_failure": 1}

    def _keep(self, row: int, outcome: Outcome) -> None:
        for name, value in outcome.observation.items():
            self._seen[name][row] = value
        self.facts[row] = outcome.facts

    def _observe(self) -> Observation:
        return self._seen

    def _final_info(self) -> dict[str, np.ndarray]:
        blank = {**self.row.final, "invalid": False, "env_failure": 0}
        rows = [{**blank, **facts} for facts in self.facts]
        return {name: np.array([facts[name] for facts in rows]) for name in blank}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the hidden state of all rows, see the game's; a row that lost its player has nan and zeros."""
        asked: dict[int, tuple] = {row: () for row in np.flatnonzero(~self.invalid)}
        answers = {row: a for row, a in self._seats.call("privileged", asked).items() if not isinstance(a, Failure)}
        if not answers:
            return {}
        out: dict[str, np.ndarray] = {}
        for name, example in next(iter(answers.values())).items():
            shapes = [answer[name].shape for answer in answers.values()]
            shape = tuple(max(sizes) for sizes in zip(*shapes))
            fill = np.nan if example.dtype.kind == "f" else 0
            out[name] = np.full((self.num_envs, *shape), fill, example.dtype)
            for row, answer in answers.items():
                part: tuple[Any, ...] = (row, *(slice(0, size) for size in answer[name].shape))
                out[name][part] = answer[name]
        return out

    def _render(self, row: int) -> np.ndarray:
        """Return the (H, W, 3) uint8 picture of a row: first person, or from above."""
        method = "top_down" if self.render_mode == "top_down" else "picture"
        answer = self._seats.call(method, {row: ()})[row]
        return np.zeros((self.config.height, self.config.width, 3), np.uint8) if isinstance(answer, Failure) else answer

    def pids(self) -> list[int | None]:
        """Return the process ids of the players; None where there is none at present."""
        answers = self._seats.call("pid", {row: () for row in range(self.num_envs)})
        return [None if isinstance(answers[row], Failure) else answers[row] for row in range(self.num_envs)]

    def close_extras(self, **kwargs: Any) -> None:
        """End all players."""
        # A constructor that refused its options has no seats yet.
        if "_seats" in self.__dict__:
            self._seats.close()


def _configure(owner: str, options: dict[str, Any], *configs: Any) -> list[Any]:
    """Return ``configs`` (dataclasses with disjoint fields) with each option given to the one that has the field."""
    names = [{item.name for item in fields(config)} for config in configs]
    known = sorted(set().union(*names))
    for name in options:
        if name not in known:
            hint = nearest(name, known)
            raise UsageError(f"{owner} has no option {name!r}{hint}; available: {', '.join(known)}")
    return [
        override(config, {name: value for name, value in options.items() if name in mine})
        for config, mine in zip(configs, names)
    ]


class BatchedThorObjectNav(BatchedThor):
    """N rows of Thor-ObjectNav-v0."""

    row = ObjectNavRow
    rules = NavRules()


class BatchedThorPointNav(BatchedThor):
    """N rows of Thor-PointNav-v0."""

    row = PointNavRow
    rules = NavRules()
    player_defaults = replace(PlayerConfig(), visibility=1.5)


class ThorObjectNav(SingleEnv):
    """Thor-ObjectNav-v0 as a plain Gymnasium environment."""

    batched = BatchedThorObjectNav


class ThorPointNav(SingleEnv):
    """Thor-PointNav-v0 as a plain Gymnasium environment."""

    batched = BatchedThorPointNav
