"""Working-memory trials after WorM: study some items, wait, answer a probe.

Seven of the ten tasks of the WorM benchmark (Sikarwar and Zhang 2023) as symbols instead of pictures; numbers, balance
and rewards are ours. Not here: spatial free recall (several answers at once), spatial integration, task switching.
An episode is one trial: L = ``load`` items are studied one per step, then come blanks (``delay``, more for the shorter
ones of mixed tasks, so that all trials take T steps), then one or L probes.

- item_recognition: L distinct items; was the probe among them?
- serial_recall: L items in order; what was item number p? (p = 1 .. L)
- serial_recognition: L items in order; is this what item number p was? (p = 1 .. L)
- change_detection: L items at distinct places; one is shown again: has it changed?
- complex_span: serial recall with a distractor after each item.
- memory_updating: L items at places, then L updates, each adding to the item of one place modulo S; what is there now?
- spatial_coordination: L places of a row; was the whole mirror-symmetric?

Observation: (7 + 3 + S + P,) float32, one-hot task, phase (study, distractor or update, probe), item, place or number.
Actions: Discrete(max(S, 2)): the item, or 1 yes, 0 no. Reward: 1 / probes per right answer.

Correlation horizon: delay + 1 to T - 1 steps. Without memory 1 / S where an item is asked (serial_recall, complex_span,
memory_updating), else 0.5: over all tasks (2 + 3 / S) / 7 = 0.339. Oracle 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.stream import UNASKED, BatchedStream, whole
from embodied_mem.errors import UsageError, nearest

STUDY, EXTRA, PROBE = range(3)
NONE = -1
_TASK, _ITEM, _PLACE, _PICK, _TRUE, _OTHER, _ORDER = range(7)
Trial = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Study and probe frames as codes (M, frames), answers (M, probes)."""


class BatchedWorM(BatchedStream):
    """N working-memory trials."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        tasks: str | Sequence[str] = "all",
        load: int = 4,
        delay: int = 4,
        items: int = 8,
        places: int = 8,
        **kwargs: Any,
    ) -> None:
        """Set up the trials.

        Args:
            num_envs: number of rows N.
            tasks: "all", one task, or several of which every episode draws one.
            load: L >= 2, even, below items and places.
            delay: blank steps at least, >= 0.
            items: S >= 3.
            places: P >= 4, even.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range, or there is no such task.
        """
        self.items, self.places = whole("items", items, 3), whole("places", places, 4)
        self.load, self.delay = whole("load", load, 2, min(self.items, self.places) - 1), whole("delay", delay, 0)
        if self.load % 2 or self.places % 2:
            raise UsageError(f"expected an even load and even places, got load={load}, places={places}")
        chosen = list(TASKS) if tasks == "all" else [tasks] if isinstance(tasks, str) else list(tasks)
        for task in chosen:
            if task not in TASKS:
                raise UsageError(f"unknown task {task!r}{nearest(str(task), TASKS)}; available: {', '.join(TASKS)}")
        if not chosen:
            raise UsageError("expected at least one task, got none")
        self.tasks = chosen
        probe = np.zeros(1, dtype=np.uint64)
        frames = [sum(part.shape[1] for part in TASKS[task](self, probe)[:2]) for task in chosen]
        super().__init__(num_envs, table=self._table(), answers=self.items, steps=max(frames) + self.delay, **kwargs)

    def _table(self) -> np.ndarray:
        task, phase, item, place = np.meshgrid(
            np.arange(len(TASKS)), np.arange(3), np.arange(self.items + 1), np.arange(self.places + 1), indexing="ij"
        )
        parts = [np.eye(len(TASKS))[task], np.eye(3)[phase]]
        parts += [np.eye(size + 1)[index][..., 1:] for index, size in ((item, self.items), (place, self.places))]
        shown = np.concatenate(parts, axis=-1).reshape(task.size, -1)
        return np.concatenate([np.zeros((1, shown.shape[1])), shown])

    def _code(self, task: str, phase: int, item: np.ndarray | int, place: np.ndarray | int) -> np.ndarray:
        """Return the codes of frames; item and place are broadcast, NONE shows none."""
        first = 3 * list(TASKS).index(task) + phase
        return 1 + (first * (self.items + 1) + np.asarray(item) + 1) * (self.places + 1) + np.asarray(place) + 1

    def _draw(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = np.zeros((len(keys), self.steps), dtype=np.int64)
        targets = np.full((len(keys), self.steps), UNASKED, dtype=np.int64)
        drawn = rng.integers(keys, _TASK, 0, len(self.tasks))
        for number, task in enumerate(self.tasks):
            rows = np.flatnonzero(drawn == number)
            if len(rows):
                study, probes, answers = TASKS[task](self, keys[rows])
                codes[rows, : study.shape[1]] = study
                codes[rows, self.steps - probes.shape[1] :] = probes
                targets[rows, self.steps - probes.shape[1] :] = answers
        return codes, targets


def _item_recognition(env: BatchedWorM, keys: np.ndarray) -> Trial:
    items, load = rng.permutation(keys, _ITEM, env.items), env.load
    old = rng.integers(keys, _TRUE, 0, 2)
    place = np.where(
        old == 1, rng.integers(keys, _PICK, 0, load), load + rng.integers(keys, _OTHER, 0, env.items - load)
    )
    probe = np.take_along_axis(items, place[:, None], axis=1)
    task = "item_recognition"
    return env._code(task, STUDY, items[:, :load], NONE), env._code(task, PROBE, probe, NONE), old[:, None]


def _list(env: BatchedWorM, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return L independent items (M, L) and the numbers (L,)."""
    number = np.arange(env.load)
    return rng.integers(keys[:, None], _ITEM, 0, env.items, number), number


def _serial_recall(env: BatchedWorM, keys: np.ndarray) -> Trial:
    items, number = _list(env, keys)
    probes = np.broadcast_to(env._code("serial_recall", PROBE, NONE, number), items.shape)
    return env._code("serial_recall", STUDY, items, NONE), probes, items


def _serial_recognition(env: BatchedWorM, keys: np.ndarray) -> Trial:
    items, number = _list(env, keys)
    same = rng.integers(keys[:, None], _TRUE, 0, 2, number)
    other = (items + rng.integers(keys[:, None], _OTHER, 1, env.items, number)) % env.items
    probes = env._code("serial_recognition", PROBE, np.where(same == 1, items, other), number)
    return env._code("serial_recognition", STUDY, items, NONE), probes, same


def _change_detection(env: BatchedWorM, keys: np.ndarray) -> Trial:
    items, _ = _list(env, keys)
    places = rng.permutation(keys, _PLACE, env.places)[:, : env.load]
    changed = rng.integers(keys, _TRUE, 0, 2)[:, None]
    pick = rng.integers(keys, _PICK, 0, env.load)[:, None]
    item, place = np.take_along_axis(items, pick, axis=1), np.take_along_axis(places, pick, axis=1)
    item = (item + changed * rng.integers(keys, _OTHER, 1, env.items)[:, None]) % env.items
    task = "change_detection"
    return env._code(task, STUDY, items, places), env._code(task, PROBE, item, place), changed


def _complex_span(env: BatchedWorM, keys: np.ndarray) -> Trial:
    items, number = _list(env, keys)
    distractors = rng.integers(keys[:, None], _OTHER, 0, env.items, number)
    study = np.empty((len(keys), 2 * env.load), dtype=np.int64)
    study[:, ::2] = env._code("complex_span", STUDY, items, NONE)
    study[:, 1::2] = env._code("complex_span", EXTRA, distractors, NONE)
    return study, np.broadcast_to(env._code("complex_span", PROBE, NONE, number), items.shape), items


def _memory_updating(env: BatchedWorM, keys: np.ndarray) -> Trial:
    items, number = _list(env, keys)
    places = rng.permutation(keys, _PLACE, env.places)[:, : env.load]
    which = rng.integers(keys[:, None], _PICK, 0, env.load, number)
    added = rng.integers(keys[:, None], _OTHER, 1, env.items, number)
    total = ((which[:, :, None] == number) * added[:, :, None]).sum(axis=1)
    order = rng.permutation(keys, _ORDER, env.load)
    task = "memory_updating"
    updates = env._code(task, EXTRA, added, np.take_along_axis(places, which, axis=1))
    study = np.concatenate([env._code(task, STUDY, items, places), updates], axis=1)
    probes = env._code(task, PROBE, NONE, np.take_along_axis(places, order, axis=1))
    return study, probes, np.take_along_axis((items + total) % env.items, order, axis=1)


def _spatial_coordination(env: BatchedWorM, keys: np.ndarray) -> Trial:
    half, last = env.load // 2, env.places - 1
    pairs = rng.permutation(keys, _PLACE, env.places // 2)
    places = np.concatenate([pairs[:, :half], last - pairs[:, :half]], axis=1)
    symmetric = rng.integers(keys, _TRUE, 0, 2)
    # Else one place moves into a pair that is not used, which leaves two places without their mirror.
    free = np.take_along_axis(pairs, rng.integers(keys, _ITEM, half, env.places // 2)[:, None], axis=1)[:, 0]
    free = np.where(rng.integers(keys, _OTHER, 0, 2) == 1, free, last - free)
    rows, pick = np.arange(len(keys)), rng.integers(keys, _PICK, 0, env.load)
    places[rows, pick] = np.where(symmetric == 1, places[rows, pick], free)
    places = np.take_along_axis(places, rng.permutation(keys, _ORDER, env.load), axis=1)
    task = "spatial_coordination"
    probe = np.broadcast_to(env._code(task, PROBE, NONE, NONE), (len(keys), 1))
    return env._code(task, STUDY, NONE, places), probe, symmetric[:, None]


TASKS: dict[str, Callable[[BatchedWorM, np.ndarray], Trial]] = {
    "item_recognition": _item_recognition,
    "serial_recall": _serial_recall,
    "serial_recognition": _serial_recognition,
    "change_detection": _change_detection,
    "complex_span": _complex_span,
    "memory_updating": _memory_updating,
    "spatial_coordination": _spatial_coordination,
}
"""Every task's trial, from episode keys (M,)."""


class WorM(SingleEnv):
    """N=1 view of `BatchedWorM`."""

    batched = BatchedWorM
