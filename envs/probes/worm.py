"""Working-memory trials after WorM: study some items, wait, answer a probe.

The ten tasks of the WorM benchmark (Sikarwar and Zhang 2023) as symbols instead of pictures; numbers, balance and
rewards are ours. An episode is one trial: L = ``load`` items are studied one per step, then come blanks (``delay``,
more for the shorter ones of mixed tasks, so that all trials take T steps), then the probes.

- item_recognition: L distinct items; was the probe among them?
- serial_recall: L items in order; what was item number p? (p = 1 .. L)
- serial_recognition: L items in order; is this what item number p was? (p = 1 .. L)
- change_detection: L items at distinct places; one is shown again: has it changed?
- complex_span: serial recall with a distractor after each item.
- memory_updating: L items at places, then L updates, each adding to the item of one place modulo S; what is there now?
- spatial_coordination: L places of a row; was the whole mirror-symmetric?
- spatial_free_recall: L places; then every place in turn: was it shown? (the source's map of all answers at once)
- spatial_integration: L / 2 pictures of two filled places; then a picture of L: is it all of them together?
- task_switching: a cue says which half counts, that of the item or that of the place (second half: yes). L / 2 frames
  to judge, a second cue, which may say the other, L / 2 more. Item and place always disagree.

Observation: (10 + 3 + S + P,) float32, one-hot task, phase (study, distractor, update or cue, probe), item (as a cue:
the rule), place or number; of spatial_integration all filled places. Actions: Discrete(S): the item, or 1 yes, 0 no.
Reward: 1 / probes per right answer.

Correlation horizon: delay + 1 to T - 1 steps, task_switching from 1 on. Without memory 1 / S where an item is asked
(serial_recall, complex_span, memory_updating), max(L, P - L) / P in spatial_free_recall, else 0.5: over all tasks with
P = 2 L (3.5 + 3 / S) / 10 = 0.3875. Oracle 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes.stream import UNASKED, BatchedStream, whole
from embodied_mem.errors import UsageError, nearest

STUDY, EXTRA, PROBE = range(3)
NONE = -1
PICTURES = 12
"""Most places of spatial_integration, whose pictures are 2^P codes."""
_TASK, _ITEM, _DISTINCT, _PLACE, _PAIR, _PICK, _TRUE, _OTHER, _ORDER, _DISTRACTOR, _HALF = range(11)
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
            places: P >= 4, even; at most 12 with spatial_integration.
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
        if "spatial_integration" in chosen and self.places > PICTURES:
            raise UsageError(
                f"expected places <= {PICTURES} with spatial_integration, got {places}; leave the task out of tasks"
            )
        self.tasks = chosen
        self._pictures = 1 + 3 * len(TASKS) * (self.items + 1) * (self.places + 1)
        probe = _choose(self, np.zeros(1, dtype=np.uint64))
        frames = [sum(part.shape[1] for part in TASKS[task](self, probe)[:2]) for task in chosen]
        super().__init__(num_envs, table=self._table(), answers=self.items, steps=max(frames) + self.delay, **kwargs)

    def _table(self) -> np.ndarray:
        task, phase, item, place = np.meshgrid(
            np.arange(len(TASKS)), np.arange(3), np.arange(self.items + 1), np.arange(self.places + 1), indexing="ij"
        )
        parts = [np.eye(len(TASKS))[task], np.eye(3)[phase]]
        parts += [np.eye(size + 1)[index][..., 1:] for index, size in ((item, self.items), (place, self.places))]
        shown = np.concatenate(parts, axis=-1).reshape(task.size, -1)
        tables = [np.zeros((1, shown.shape[1])), shown]
        if "spatial_integration" in self.tasks:
            filled = (np.arange(2**self.places)[:, None] >> np.arange(self.places)) & 1
            for kind in (STUDY, PROBE):
                picture = np.zeros((len(filled), shown.shape[1]))
                picture[:, list(TASKS).index("spatial_integration")] = 1
                picture[:, len(TASKS) + kind] = 1
                picture[:, -self.places :] = filled
                tables.append(picture)
        return np.concatenate(tables)

    def _code(self, task: str, phase: int, item: np.ndarray | int, place: np.ndarray | int) -> np.ndarray:
        """Return the codes of frames; item and place are broadcast, NONE shows none."""
        first = 3 * list(TASKS).index(task) + phase
        return 1 + (first * (self.items + 1) + np.asarray(item) + 1) * (self.places + 1) + np.asarray(place) + 1

    def _picture(self, phase: int, places: np.ndarray) -> np.ndarray:
        """Return the codes (M,) of pictures of spatial_integration with ``places`` (M, K) filled."""
        return self._pictures + (2**self.places if phase == PROBE else 0) + (1 << places).sum(axis=1)

    def _draw(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = np.zeros((len(keys), self.steps), dtype=np.int64)
        targets = np.full((len(keys), self.steps), UNASKED, dtype=np.int64)
        drawn = rng.integers(keys, _TASK, 0, len(self.tasks))
        # rows in the order of their tasks, so that what a task gets of all choices are slices
        order = drawn.argsort(kind="stable")
        choices = _choose(self, keys[order])
        ends = np.bincount(drawn, minlength=len(self.tasks)).cumsum().tolist()
        for task, first, end in zip(self.tasks, [0, *ends], ends, strict=False):
            if first < end:
                rows = order[first:end]
                study, probes, answers = TASKS[task](self, Choices(*(part[first:end] for part in choices)))
                codes[rows, : study.shape[1]] = study
                codes[rows, self.steps - probes.shape[1] :] = probes
                targets[rows, self.steps - probes.shape[1] :] = answers
        return codes, targets


class Choices(NamedTuple):
    """All random choices of M episodes, made together: a call costs more than a row."""

    items: np.ndarray
    """(M, L) independent items."""
    distinct: np.ndarray
    """(M, S) all items in random order."""
    distractors: np.ndarray
    """(M, L) further independent items."""
    half_items: np.ndarray
    """(M, L) independent items of the first half."""
    places: np.ndarray
    """(M, P) all places in random order."""
    pairs: np.ndarray
    """(M, P / 2) the first half of the places in random order."""
    order: np.ndarray
    """(M, L) 0 .. L - 1 in random order."""
    picks: np.ndarray
    """(M, L) independent numbers below L."""
    bits: np.ndarray
    """(M, L) independent bits."""
    shifts: np.ndarray
    """(M, L) independent numbers from 1 to S - 1, which change an item when added."""


def _choose(env: BatchedWorM, keys: np.ndarray) -> Choices:
    """Draw for the episodes of ``keys`` (M,)."""
    column, number = keys[:, None], np.arange(env.load)
    return Choices(
        items=rng.integers(column, _ITEM, 0, env.items, number),
        distinct=rng.permutation(keys, _DISTINCT, env.items),
        distractors=rng.integers(column, _DISTRACTOR, 0, env.items, number),
        half_items=rng.integers(column, _HALF, 0, env.items // 2, number),
        places=rng.permutation(keys, _PLACE, env.places),
        pairs=rng.permutation(keys, _PAIR, env.places // 2),
        order=rng.permutation(keys, _ORDER, env.load),
        picks=rng.integers(column, _PICK, 0, env.load, number),
        bits=rng.integers(column, _TRUE, 0, 2, number),
        shifts=rng.integers(column, _OTHER, 1, env.items, number),
    )


def _item_recognition(env: BatchedWorM, drawn: Choices) -> Trial:
    load, old = env.load, drawn.bits[:, 0]
    place = np.where(old == 1, drawn.picks[:, 0], load)
    probe = np.take_along_axis(drawn.distinct, place[:, None], axis=1)
    task = "item_recognition"
    return env._code(task, STUDY, drawn.distinct[:, :load], NONE), env._code(task, PROBE, probe, NONE), old[:, None]


def _serial_recall(env: BatchedWorM, drawn: Choices) -> Trial:
    items, task = drawn.items, "serial_recall"
    probes = np.broadcast_to(env._code(task, PROBE, NONE, np.arange(env.load)), items.shape)
    return env._code(task, STUDY, items, NONE), probes, items


def _serial_recognition(env: BatchedWorM, drawn: Choices) -> Trial:
    items, same, task = drawn.items, drawn.bits, "serial_recognition"
    shown = np.where(same == 1, items, (items + drawn.shifts) % env.items)
    return env._code(task, STUDY, items, NONE), env._code(task, PROBE, shown, np.arange(env.load)), same


def _change_detection(env: BatchedWorM, drawn: Choices) -> Trial:
    items, places, changed = drawn.items, drawn.places[:, : env.load], drawn.bits[:, :1]
    item, place = (np.take_along_axis(part, drawn.picks[:, :1], axis=1) for part in (items, places))
    item = (item + changed * drawn.shifts[:, :1]) % env.items
    task = "change_detection"
    return env._code(task, STUDY, items, places), env._code(task, PROBE, item, place), changed


def _complex_span(env: BatchedWorM, drawn: Choices) -> Trial:
    items, task = drawn.items, "complex_span"
    study = np.empty((len(items), 2 * env.load), dtype=np.int64)
    study[:, ::2] = env._code(task, STUDY, items, NONE)
    study[:, 1::2] = env._code(task, EXTRA, drawn.distractors, NONE)
    return study, np.broadcast_to(env._code(task, PROBE, NONE, np.arange(env.load)), items.shape), items


def _memory_updating(env: BatchedWorM, drawn: Choices) -> Trial:
    items, places, which, added = drawn.items, drawn.places[:, : env.load], drawn.picks, drawn.shifts
    total = ((which[:, :, None] == np.arange(env.load)) * added[:, :, None]).sum(axis=1)
    task = "memory_updating"
    updates = env._code(task, EXTRA, added, np.take_along_axis(places, which, axis=1))
    study = np.concatenate([env._code(task, STUDY, items, places), updates], axis=1)
    probes = env._code(task, PROBE, NONE, np.take_along_axis(places, drawn.order, axis=1))
    return study, probes, np.take_along_axis((items + total) % env.items, drawn.order, axis=1)


def _spatial_coordination(env: BatchedWorM, drawn: Choices) -> Trial:
    half, last = env.load // 2, env.places - 1
    places = np.concatenate([drawn.pairs[:, :half], last - drawn.pairs[:, :half]], axis=1)
    symmetric = drawn.bits[:, 0]
    # Else one place moves into a pair that is not used, which leaves two places without their mirror.
    free = np.where(drawn.bits[:, 1] == 1, drawn.pairs[:, half], last - drawn.pairs[:, half])
    rows, pick = np.arange(len(places)), drawn.picks[:, 0]
    places[rows, pick] = np.where(symmetric == 1, places[rows, pick], free)
    places = np.take_along_axis(places, drawn.order, axis=1)
    task = "spatial_coordination"
    probe = np.broadcast_to(env._code(task, PROBE, NONE, NONE), (len(places), 1))
    return env._code(task, STUDY, NONE, places), probe, symmetric[:, None]


def _spatial_free_recall(env: BatchedWorM, drawn: Choices) -> Trial:
    shown, task = drawn.places[:, : env.load], "spatial_free_recall"
    answers = np.zeros(drawn.places.shape, dtype=np.int64)
    np.put_along_axis(answers, shown, 1, axis=1)
    probes = np.broadcast_to(env._code(task, PROBE, NONE, np.arange(env.places)), answers.shape)
    return env._code(task, STUDY, NONE, shown), probes, answers


def _spatial_integration(env: BatchedWorM, drawn: Choices) -> Trial:
    filled, same = drawn.places[:, : env.load], drawn.bits[:, 0]
    parts = [env._picture(STUDY, filled[:, part : part + 2]) for part in range(0, env.load, 2)]
    # Else one of the filled places is empty and an empty one is filled.
    whole_one, rows, pick = filled.copy(), np.arange(len(filled)), drawn.picks[:, 0]
    whole_one[rows, pick] = np.where(same == 1, filled[rows, pick], drawn.places[:, env.load])
    return np.stack(parts, axis=1), env._picture(PROBE, whole_one)[:, None], same[:, None]


def _task_switching(env: BatchedWorM, drawn: Choices) -> Trial:
    rules, answers, half = drawn.picks[:, :2] % 2, drawn.bits, env.load // 2
    # Rule 0 is about the item, rule 1 about the place; where one says yes, the other says no.
    rule = rules.repeat(half, axis=1)
    high, right = (np.where(rule == about, answers, 1 - answers) for about in (0, 1))
    item = drawn.half_items + high * (env.items - env.items // 2)
    place = drawn.places[:, : env.load] % (env.places // 2) + right * (env.places // 2)
    task = "task_switching"
    cues, judged = env._code(task, EXTRA, rules, NONE), env._code(task, PROBE, item, place)
    probes = np.concatenate([judged[:, :half], cues[:, 1:], judged[:, half:]], axis=1)
    return cues[:, :1], probes, np.insert(answers, half, UNASKED, axis=1)


TASKS: dict[str, Callable[[BatchedWorM, Choices], Trial]] = {
    "item_recognition": _item_recognition,
    "serial_recall": _serial_recall,
    "serial_recognition": _serial_recognition,
    "change_detection": _change_detection,
    "complex_span": _complex_span,
    "memory_updating": _memory_updating,
    "spatial_coordination": _spatial_coordination,
    "spatial_free_recall": _spatial_free_recall,
    "spatial_integration": _spatial_integration,
    "task_switching": _task_switching,
}
"""Every task's trial, from the choices of M episodes."""


class WorM(SingleEnv):
    """N=1 view of `BatchedWorM`."""

    batched = BatchedWorM
