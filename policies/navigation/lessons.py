"""What the teacher does on synthetic routes of the seen area, and several texts for each, as tensors.

A walk keeps to the route up to its goal and then goes on straight for ``overshoot`` actions: what an agent sees that
did not stop in time. Now and then a wrong rotation is played while the teacher's own action is recorded (DART, Laskey
et al. 2017), so that the walks show the way back. Routes are played once; texts are written anew for each of ``texts``.

Memory: M (T F 4 + texts W) bytes for M routes of at most T = 55 actions, F observed numbers and W tokens: 60 MB for
12,000 routes. Recording takes some 20 s on one core, of which most is writing texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.perception.street_words import tokenize
from embodied_mem.spaces import encode_text

ACTIONS = 55
"""T: published number of actions of an episode."""
_TEXT_STREAM = 91
_CHUNK = 512


@dataclass(frozen=True)
class LessonConfig:
    """What is learnt from."""

    routes: int = 6000
    """Routes per style."""
    styles: tuple[str, ...] = ("map2seq", "touchdown")
    """Kinds of routes and texts; an agent that learns both can be evaluated on both."""
    texts: int = 4
    """Texts per route."""
    seed: int = 0
    """Seed of routes and texts; every training seed reads the same lessons."""
    noise: float = 0.02
    """Rate of wrong rotations."""
    overshoot: int = 8
    """Actions played beyond the goal."""
    num_envs: int = 500
    """Rows that step in lockstep."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.routes, self.texts, self.num_envs) < 1 or self.overshoot < 0 or not 0 <= self.noise < 1:
            raise UsageError(
                "expected lessons.routes, texts and num_envs >= 1, overshoot >= 0 and noise in [0, 1), "
                f"got {self.routes}, {self.texts}, {self.num_envs}, {self.overshoot} and {self.noise}"
            )
        if not self.styles:
            raise UsageError("expected at least one style in lessons.styles, got none")


class Lesson(NamedTuple):
    """A batch of walks with a text each."""

    obs: dict[str, Tensor]
    """Entries (B, T, ...), without the text."""
    tokens: Tensor
    """(B, W) int64 concepts of the text."""
    target: Tensor
    """(B, T) int64 the teacher's move, -1 where it stops or has stopped."""
    good: Tensor
    """(B, T) bool, stopping here is a success."""
    valid: Tensor
    """(B, T) bool, False after the end of the walk."""
    counts: Tensor
    """(B, T, 3) int64 turns made, junctions since the last turn, panoramas since the last junction; -1 at the goal."""


@dataclass(frozen=True)
class Lessons:
    """M walks of at most T actions."""

    obs: dict[str, Tensor]
    """Entries (M, T, ...)."""
    target: Tensor
    """(M, T) int8, see `Lesson`."""
    good: Tensor
    """(M, T) bool."""
    counts: Tensor
    """(M, T, 3) int8, see `Lesson`."""
    lengths: np.ndarray
    """(M,) int64 actions of each walk."""
    tokens: Tensor
    """(M, texts, W) uint8."""

    def batch(self, chosen: np.ndarray, generator: np.random.Generator) -> Lesson:
        """Return the walks ``chosen`` (B,), with one of their texts each."""
        rows = torch.from_numpy(chosen)
        which = torch.from_numpy(generator.integers(0, self.tokens.shape[1], len(chosen)))
        steps = int(self.lengths[chosen].max())
        tokens = self.tokens[rows, which].long()
        width = max(1, int((tokens != 0).sum(1).max()))
        return Lesson(
            {key: value[rows, :steps] for key, value in self.obs.items()},
            tokens[:, :width],
            self.target[rows, :steps].long(),
            self.good[rows, :steps],
            torch.arange(steps) < torch.from_numpy(self.lengths[chosen]).unsqueeze(1),
            self.counts[rows, :steps].long(),
        )


def record_lessons(env_id: str, env_config: Mapping[str, Any], config: LessonConfig, words: int) -> Lessons:
    """Return the lessons of a run.

    Args:
        env_id: the street environment.
        env_config: its keyword arguments; sensors but for ``instruction`` are recorded.
        config: what is recorded.
        words: W, tokens kept of a text.

    Raises:
        UsageError: the environment is another one, or its data are missing.
    """
    parts = [_record_style(env_id, env_config, config, style, words) for style in config.styles]
    return Lessons(
        {key: torch.cat([part.obs[key] for part in parts]) for key in parts[0].obs},
        torch.cat([part.target for part in parts]),
        torch.cat([part.good for part in parts]),
        torch.cat([part.counts for part in parts]),
        np.concatenate([part.lengths for part in parts]),
        torch.cat([part.tokens for part in parts]),
    )


def lesson_env(env_config: Mapping[str, Any], style: str, items: int, seed: int, split: str) -> dict[str, Any]:
    """Return the keyword arguments of an environment that lists synthetic episodes of a style."""
    own = {"data": "synthetic", "language": "varied", "order": "listed", "style": style, "items": items}
    return {**env_config, **own, "split": split, "world_seed": seed}


def _record_style(env_id: str, env_config: Mapping[str, Any], config: LessonConfig, style: str, words: int) -> Lessons:
    options = lesson_env(env_config, style, config.routes, config.seed, "train")
    seen = tuple(name for name in options.get("sensors", ("vector", "instruction")) if name != "instruction")
    rows = min(config.num_envs, config.routes)
    with closing(make_vec(env_id, rows, autoreset_mode=AutoresetMode.DISABLED, **{**options, "sensors": seen})) as env:
        street: Any = env.unwrapped
        if not hasattr(street, "teacher"):
            raise UsageError(f"street imitation learns in embodied_mem/Street-v0, got {env_id}")
        walks = [_walk(env, street, first, config) for first in range(0, config.routes, rows)]
        texts = write_texts(street, config, style)
        tokens = torch.stack([read_texts(part, words) for part in texts], dim=1)
    return Lessons(
        {key: torch.from_numpy(np.concatenate([walk[0][key] for walk in walks])[: config.routes]) for key in seen},
        torch.from_numpy(np.concatenate([walk[1] for walk in walks])[: config.routes]),
        torch.from_numpy(np.concatenate([walk[2] for walk in walks])[: config.routes]),
        torch.from_numpy(np.concatenate([walk[3] for walk in walks])[: config.routes]),
        np.concatenate([walk[4] for walk in walks])[: config.routes],
        tokens,
    )


def _walk(
    env: Any, street: Any, first: int, config: LessonConfig
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Play items ``first`` and on, one per row; return entries (N, T, ...), targets, good (N, T), counts, lengths."""
    n, steps = env.num_envs, ACTIONS
    stop, forward = street.actions.index("stop"), street.actions.index("forward")
    draw = np.random.default_rng((config.seed, first))
    numbers = first + np.arange(n)
    obs, _ = env.reset(seed=config.seed, options={"reset_mask": np.ones(n, bool), "episode": numbers})
    seen: dict[str, list[np.ndarray]] = {key: [] for key in obs}
    targets, good = np.full((n, steps), -1, np.int8), np.zeros((n, steps), bool)
    along, counts = _counts(street, numbers), np.full((n, steps, 3), -1, np.int8)
    lengths, arrived, beyond = np.zeros(n, np.int64), np.zeros(n, bool), np.zeros(n, np.int64)
    for t in range(steps):
        for key, value in obs.items():
            seen[key].append(value)
        facts = env.unwrapped.privileged()
        teacher = facts["street_teacher"]
        arrived |= (teacher == stop) | (teacher < 0)
        targets[:, t] = np.where(arrived, -1, teacher)
        good[:, t] = facts["street_reached"]
        place = np.minimum(facts["street_visited"] - 1, along.shape[1] - 1)
        counts[:, t] = np.where(arrived[:, None], -1, along[np.arange(n), place])
        lengths = np.where(beyond <= config.overshoot, t + 1, lengths)
        beyond += arrived
        move = np.where(arrived, forward, teacher)
        slips = ~arrived & (draw.random(n) < config.noise)
        side = np.where(draw.random(n) < 0.5, street.actions.index("left"), street.actions.index("right"))
        if t + 1 < steps:
            obs, *_ = env.step(np.where(slips, side, move).astype(np.int64))
    return {key: np.stack(values, 1) for key, values in seen.items()}, targets, good, counts, lengths


def _counts(street: Any, numbers: np.ndarray) -> np.ndarray:
    """Return (N, L, 3) int8: turns made, junctions since the last one, panoramas since a junction, by place on a route.

    A turn counts as made on the panorama after its junction, a junction as reached on itself.
    """
    from embodied_mem.envs.street.course import find_junctions

    data = street.data
    found = np.zeros((len(numbers), data.route.shape[1], 3), np.int8)
    for row, number in enumerate(numbers % len(data)):
        junctions = {
            item.place: item for item in find_junctions(street.graph, data.route[number, : data.length[number]])
        }
        turns = since = walked = 0
        for place in range(int(data.length[number])):
            here, before = junctions.get(place), junctions.get(place - 1)
            if before is not None and before.turn:
                turns, since = turns + 1, 0
            walked = 0 if here is not None else walked + (place > 0)
            since += here is not None
            found[row, place] = turns, since, walked
    return found


def write_texts(street: Any, config: LessonConfig, style: str) -> list[list[str]]:
    """Return the texts of every episode, ``texts`` lists: first those that it has, then further ones for the route."""
    from embodied_mem.envs.street.landmarks import place_landmarks
    from embodied_mem.envs.street.phrasing import say

    draw = np.random.default_rng((config.seed, _TEXT_STREAM))
    data, layer = street.data, place_landmarks(street.graph, config.seed)
    texts: list[list[str]] = [[] for _ in range(config.texts)]
    for item in range(config.routes):
        route, heading = data.route[item, : data.length[item]], int(data.heading[item])
        texts[0].append(data.texts[item])
        for told in texts[1:]:
            told.append(say(street.graph, layer, route, heading, style, draw))
    return texts


def read_texts(texts: Sequence[str], words: int) -> Tensor:
    """Return the concepts (N, words) uint8 of some texts."""
    found = []
    for start in range(0, len(texts), _CHUNK):
        part = texts[start : start + _CHUNK]
        length = max(1, *(len(text.encode()) for text in part))
        codes = torch.from_numpy(np.stack([encode_text(text, length) for text in part]))
        found.append(tokenize(codes, words).to(torch.uint8))
    return torch.cat(found)
