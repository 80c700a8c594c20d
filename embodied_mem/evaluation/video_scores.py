"""From the rows of a video benchmark to its metrics: means of means, and intervals that resample whole videos.

Questions about one video share its difficulty, so the bootstrap draws videos, not questions. With the sums and counts
of every (video, task) in two matrices, one draw is a vector of multiplicities and all draws are two matrix products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embodied_mem.evaluation.statistics import LEVEL, RESAMPLES, summarise, wilson
from embodied_mem.results import metric
from embodied_mem.stream.qa.benchmark import Benchmark
from embodied_mem.stream.qa.run import STAGES

Row = dict[str, Any]
Metrics = dict[str, dict[str, Any]]
Average = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Sums (R, K) and counts (R, K) per task -> (R,) float64."""


def summarise_questions(rows: Sequence[Row], benchmark: Benchmark, against: Sequence[Row] | None = None) -> Metrics:
    """Return the metrics of one condition.

    Args:
        rows: one per question.
        benchmark: says how tasks are averaged.
        against: rows of the agent, for ``success_drop`` (agent minus this, over the questions both have).

    Returns:
        ``success`` (the benchmark's headline), ``accuracy`` (over questions), one ``group: ...`` per group and one
        ``label: ...`` per label, ``unparsed``, ``hit`` and ``overlap`` where evidence is known, ``answer_ms``,
        ``answer_ms_p95``, ``retrieve_ms``, ``decode_ms``, ``encode_ms`` and ``write_ms`` of a frame (memories only),
        ``mem_bytes``, ``mem_tokens``, ``images``, ``frames_dropped``.
    """
    found: Metrics = {
        "success": question_mean(counted(rows, benchmark), headline(rows, benchmark)),
        "accuracy": question_mean(rows, over_questions),
    }
    groups = {benchmark.group(row["task"]) for row in rows} - {None}
    for group in sorted(str(group) for group in groups):
        own = [row for row in rows if benchmark.group(row["task"]) == group]
        average = over_questions if benchmark.headline == "samples" else over_tasks
        found[f"group: {group}"] = question_mean(own, average)
    for label in sorted({label for row in rows for label in row["labels"]}):
        found[f"label: {label}"] = question_mean([row for row in rows if label in row["labels"]], over_questions)
    found["unparsed"] = question_mean(rows, over_questions, "unparsed")
    for name in ("hit", "overlap"):
        known = [row for row in rows if row.get(name) is not None]
        if known:
            found[name] = question_mean(known, over_questions, name)
    answer = [float(row["latency_ms"]["answer"]) for row in rows]
    found["answer_ms"] = summarise([[np.array(answer)]], "mean")
    found["answer_ms_p95"] = metric(float(np.quantile(answer, 0.95)) if answer else None, n=len(answer))
    found["retrieve_ms"] = summarise([[np.array([float(row["latency_ms"]["retrieve"]) for row in rows])]], "mean")
    for stage in STAGES:
        spent = [float(row["latency_ms"][stage]) for row in rows if stage in row["latency_ms"]]
        if spent:
            found[f"{stage}_ms"] = summarise([[np.array(spent)]], "mean")
    for name in ("mem_bytes", "mem_tokens", "images", "frames_dropped"):
        found[name] = summarise([[np.array([float(row[name]) for row in rows])]], "mean")
    if against is not None:
        found["success_drop"] = question_difference(against, rows, benchmark)
    return found


def over_questions(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean over all questions."""
    return _ratio(sums.sum(1), counts.sum(1))


def over_tasks(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the mean of the task means; a task that a draw left out is not in it."""
    there = counts > 0
    return _ratio(np.where(there, sums / np.where(there, counts, 1), 0.0).sum(1), there.sum(1))


def over_groups(groups: Sequence[Any]) -> Average:
    """Return the average over group means of task means, for tasks whose groups are ``groups`` (K,)."""
    members = [np.array([group == own for own in groups]) for group in dict.fromkeys(groups)]

    def average(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
        means = np.stack([over_tasks(sums[:, own], counts[:, own]) for own in members], 1)
        there = ~np.isnan(means)
        return _ratio(np.where(there, means, 0.0).sum(1), there.sum(1))

    return average


def headline(rows: Sequence[Row], benchmark: Benchmark) -> Average:
    """Return the benchmark's own average for the tasks of these rows that it counts."""
    if benchmark.headline == "samples":
        return over_questions
    if benchmark.headline == "tasks":
        return over_tasks
    return over_groups([benchmark.group(task) for task in _tasks(counted(rows, benchmark))])


def counted(rows: Sequence[Row], benchmark: Benchmark) -> Sequence[Row]:
    """Return the rows of tasks that are part of the headline; all where none is."""
    return [row for row in rows if row["task"] not in benchmark.apart] or rows


def question_mean(rows: Sequence[Row], average: Average, name: str = "score") -> dict[str, Any]:
    """Return one metric with its interval over videos; questions whose value is None are left out.

    Args:
        rows: the questions.
        average: of the tasks.
        name: field of the rows.
    """
    tasks = _tasks(rows)
    own = [row for row in rows if row[name] is not None]
    if not own:
        return metric(None, n=0)
    sums, counts = _matrices([(row["video_id"], row["task"], float(row[name])) for row in own], tasks)
    found = _interval(sums, counts, average, len(own))
    values = {float(row[name]) for row in own}
    if found["low"] is None or not values <= {0.0, 1.0} or (len(values) > 1 and average is not over_questions):
        return found
    # videos that all score the same would give a width of zero: a rate is never surer than Wilson over its questions
    low, high = wilson(sums.sum(), len(own))
    return {**found, "low": min(low, found["low"]), "high": max(high, found["high"])}


def question_difference(agent: Sequence[Row], control: Sequence[Row], benchmark: Benchmark) -> dict[str, Any]:
    """Return the headline of the agent minus that of a control, over the questions that both have a score for."""
    scores = {row["qid"]: row["score"] for row in control if row["score"] is not None}
    both = [row for row in counted(agent, benchmark) if row["qid"] in scores and row["score"] is not None]
    if not both:
        return metric(None, n=0)
    pairs = [(row["video_id"], row["task"], float(row["score"]) - float(scores[row["qid"]])) for row in both]
    # every average here is linear in the sums, so that of the differences is the difference of the averages
    found = _interval(*_matrices(pairs, _tasks(both)), headline(both, benchmark), len(both))
    return {**found, "interval": found["interval"] and f"paired_{found['interval']}"}


def _interval(sums: np.ndarray, counts: np.ndarray, average: Average, n: int) -> dict[str, Any]:
    center = float(average(sums.sum(0, keepdims=True), counts.sum(0, keepdims=True))[0])
    videos = len(sums)
    if videos < 2:
        return metric(center, n=n)
    draws = np.random.default_rng(0).multinomial(videos, np.full(videos, 1 / videos), size=RESAMPLES)
    values = average(draws @ sums, draws @ counts)
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return metric(center, float(low), float(high), n=n, interval="bootstrap95_videos")


def _matrices(values: Sequence[tuple[str, str, float]], tasks: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    videos = {name: place for place, name in enumerate(sorted({video for video, _, _ in values}))}
    columns = {name: place for place, name in enumerate(tasks)}
    sums, counts = np.zeros((2, len(videos), len(tasks)))
    where = [videos[video] for video, _, _ in values], [columns[task] for _, task, _ in values]
    np.add.at(sums, where, [value for _, _, value in values])
    np.add.at(counts, where, 1.0)
    return sums, counts


def _tasks(rows: Sequence[Row]) -> list[str]:
    return sorted({row["task"] for row in rows})


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)
