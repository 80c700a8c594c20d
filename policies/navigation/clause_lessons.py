"""Walks of a clause follower along synthetic routes of the seen area, as the decisions that it has to take.

A walk keeps to its route up to the goal and then goes on straight for ``overshoot`` panoramas: what is seen by who did
not stop in time. It is played in the environment by the follower's own odometer, so that what is learnt from is what
will be seen. The pointer to the clause moves as the text is read, so every text of a route is a walk of its own.

Memory: about 55 bytes a decision, 60 MB for 20,000 walks of 55 decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.navigation import odometer
from embodied_mem.policies.navigation.clause_follower import Seen
from embodied_mem.policies.navigation.clauses import SIDE, Clauses, read_clauses
from embodied_mem.policies.navigation.lessons import ACTIONS, LessonConfig, lesson_env, write_texts


class ClauseLesson(NamedTuple):
    """A batch of B walks."""

    tokens: Tensor
    """(B, K, W) int64."""
    numbers: Tensor
    """(B, K, 4) int64."""
    total: Tensor
    """(B,) int64."""
    seen: Seen
    """Decisions (B, T)."""
    target: Tensor
    """(B, T) int64 link to take, -1 at the goal and beyond."""
    good: Tensor
    """(B, T) bool, stopping here is a success."""
    valid: Tensor
    """(B, T) bool, False after the end of the walk."""


@dataclass(frozen=True)
class ClauseLessons:
    """M walks of at most T decisions with their texts."""

    clauses: Clauses
    """Of the M texts."""
    counts: np.ndarray
    """(M, T, P) uint8, see `odometer.COUNTS`."""
    angles: np.ndarray
    """(M, T, L) int16."""
    sides: np.ndarray
    """(M, T, L) int8."""
    traffic: np.ndarray
    """(M, T, L) int16."""
    open: np.ndarray
    """(M, T, L) bool."""
    target: np.ndarray
    """(M, T) int8."""
    good: np.ndarray
    """(M, T) bool."""
    lengths: np.ndarray
    """(M,) int64 decisions of each walk."""

    def batch(self, chosen: np.ndarray) -> ClauseLesson:
        """Return the walks ``chosen`` (B,)."""
        steps = int(self.lengths[chosen].max())
        clauses = int(self.clauses.total[chosen].max())
        parts = (self.counts, self.angles, self.sides, self.traffic)
        counts, angles, sides, traffic = (_tensor(part[chosen, :steps]) for part in parts)
        seen = Seen(counts, angles, sides, traffic, torch.from_numpy(self.open[chosen, :steps]))
        return ClauseLesson(
            _tensor(self.clauses.tokens[chosen, :clauses]),
            _tensor(self.clauses.numbers[chosen, :clauses]),
            _tensor(self.clauses.total[chosen]),
            seen,
            _tensor(self.target[chosen, :steps]),
            torch.from_numpy(self.good[chosen, :steps]),
            torch.from_numpy(np.arange(steps) < self.lengths[chosen, None]),
        )


def record_walks(env_id: str, env_config: Mapping[str, Any], config: LessonConfig) -> ClauseLessons:
    """Return the walks of a run, ``routes`` x ``texts`` of every style.

    Raises:
        UsageError: the environment is another one, or its data are missing.
    """
    parts = [part for style in config.styles for part in _record_style(env_id, env_config, config, style)]
    clauses = Clauses(*(np.concatenate(items) for items in zip(*(part.clauses for part in parts))))
    names = ("counts", "angles", "sides", "traffic", "open", "target", "good", "lengths")
    return ClauseLessons(clauses, *(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _record_style(env_id: str, env_config: Mapping[str, Any], config: LessonConfig, style: str) -> list[ClauseLessons]:
    options = lesson_env(env_config, style, config.routes, config.seed, "train")
    seen = tuple(name for name in options.get("sensors", ("vector", "instruction")) if name != "instruction")
    rows = min(config.num_envs, config.routes)
    with closing(make_vec(env_id, rows, autoreset_mode=AutoresetMode.DISABLED, **{**options, "sensors": seen})) as env:
        street: Any = env.unwrapped
        if not hasattr(street, "teacher"):
            raise UsageError(f"a clause follower learns in embodied_mem/Street-v0, got {env_id}")
        found = []
        for texts in write_texts(street, config, style):
            clauses = read_clauses(texts)
            walks = [_walk(env, street, clauses, first, config) for first in range(0, config.routes, rows)]
            whole = [np.concatenate(items)[: config.routes] for items in zip(*walks)]
            found.append(ClauseLessons(clauses, *whole))
    return found


def _walk(env: Any, street: Any, clauses: Clauses, first: int, config: LessonConfig) -> tuple[np.ndarray, ...]:
    """Play items ``first`` and on, one per row; return the arrays of `ClauseLessons` for N rows."""
    n, steps, rows = env.num_envs, ACTIONS, np.arange(env.num_envs)
    items = (first + rows) % len(street.data)
    route, length = street.data.route[items], street.data.length[items]
    heads = _headings(street.graph, route)
    obs, _ = env.reset(seed=config.seed, options={"reset_mask": np.ones(n, bool), "episode": first + rows})
    state, reset = odometer.fresh_state(n), np.ones(n, bool)
    links = street.max_links
    counts = np.zeros((n, steps, len(odometer.COUNTS)), np.uint8)
    angles, traffic = np.zeros((n, steps, links), np.int16), np.zeros((n, steps, links), np.int16)
    sides = np.zeros((n, steps, links), np.int8)
    open_, target = np.zeros((n, steps, links), bool), np.full((n, steps), -1, np.int8)
    open_[:, :, 0] = True
    good, taken = np.zeros((n, steps), bool), np.zeros(n, np.int64)
    beyond = np.zeros(n, np.int64)
    for _ in range(steps):
        state, seen = odometer.look(state, obs["vector"], obs.get("traffic"), reset)
        facts = street.privileged()
        place = facts["street_visited"] - 1
        arrived = (place >= length - 1) | (beyond > 0)
        # A border that cannot be entered stands for the goal behind it.
        arrived |= seen.decides & (facts["street_pano"] != route[rows, np.minimum(place, length - 1)])
        wanted = odometer.wrap(heads[rows, np.minimum(place, length - 1)] - facts["street_heading"])
        link = np.abs(seen.turned - wanted[:, None]).argmin(1)
        chosen = np.where(arrived, odometer.straightest(seen), link)
        due = seen.decides & (beyond <= config.overshoot)
        at = taken[due]
        counts[due, at], angles[due, at], traffic[due, at] = seen.counts[due], seen.angles[due], seen.traffic[due]
        sides[due, at] = seen.sides[due]
        open_[due, at], good[due, at] = seen.open[due], facts["street_reached"][due]
        target[due, at] = np.where(arrived, -1, link)[due]
        taken += due
        beyond += seen.decides & arrived
        turns = np.minimum(state["turns"], clauses.total[items] - 1)
        side = clauses.numbers[items, turns, SIDE].astype(np.int64)
        state, action = odometer.act(state, seen, chosen, side)
        obs, *_ = env.step(action)
        reset = np.zeros(n, bool)
    return counts, angles, sides, traffic, open_, target, good, taken


def _headings(graph: Any, route: np.ndarray) -> np.ndarray:
    """Return the headings (N, L) of the links along routes (N, L), 0 at the goal and on padding."""
    size = len(graph.names)
    keys = graph.links[:, 0] * size + graph.links[:, 2]
    order = np.argsort(keys)
    here, there = route[:, :-1].astype(np.int64), route[:, 1:].astype(np.int64)
    place = np.searchsorted(keys[order], np.where(there < 0, 0, here * size + there)).clip(max=len(keys) - 1)
    found = np.where(there < 0, 0, graph.links[order[place], 1])
    return np.concatenate([found, np.zeros((len(route), 1), np.int64)], axis=1)


def _tensor(part: np.ndarray) -> Tensor:
    return torch.from_numpy(part.astype(np.int64))
