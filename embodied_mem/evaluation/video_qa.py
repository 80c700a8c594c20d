"""`evaluate_video`: a stream memory and an answerer on a video benchmark, beside baselines, to files that resume."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embodied_mem import registry
from embodied_mem.config import to_dict
from embodied_mem.errors import UsageError, nearest
from embodied_mem.evaluation.plan import AGENT
from embodied_mem.evaluation.records import RESULT, Records, open_folder, record_key
from embodied_mem.evaluation.video_scores import summarise_questions
from embodied_mem.files import atomic_write_json
from embodied_mem.results import make_result, metric
from embodied_mem.stream.answerers.base import Answerer, make_answerer
from embodied_mem.stream.qa.baselines import BASELINES
from embodied_mem.stream.qa.benchmark import Benchmark, make_benchmark
from embodied_mem.stream.qa.judges import make_judge
from embodied_mem.stream.qa.run import Asker, Query, Row, RunConfig, Video, run_baseline, run_memory
from embodied_mem.stream.qa.sample import Sample
from embodied_mem.stream.qa.videos import Videos

PREFIX = "video:"
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Unit:
    """One stream under one condition."""

    condition: str
    videos: tuple[Video, ...]

    @property
    def samples(self) -> list[Sample]:
        return [sample for _, samples in self.videos for sample in samples]


def evaluate_video(
    name: str,
    data: str | Path,
    videos: str | Path,
    *,
    answerer: str | Answerer = "rule",
    answerer_config: Mapping[str, Any] | None = None,
    config: RunConfig | None = None,
    controls: bool | Sequence[str] = False,
    judge: str = "f1",
    judge_config: Mapping[str, Any] | None = None,
    tasks: Sequence[str] | None = None,
    questions: int | None = None,
    videos_per_stream: int = 1,
    query: Query | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a memory and an answerer on a benchmark and return the result object (`results.make_result`).

    Args:
        name: registered benchmark, with or without ``video:`` before it.
        data: annotation file or folder, as the benchmark's publication has it.
        videos: folder of the videos.
        answerer: registered name, or an `Answerer`.
        answerer_config: options of a named answerer.
        config: memory, encoder, mode and scoring.
        controls: True for all baselines (blind, last_frame, uniform, oracle), or their names.
        judge: who compares open answers, see `qa.judges.make_judge`.
        judge_config: options of a model judge's answerer.
        tasks: types of question to ask; default: all.
        questions: ask the first so many only.
        videos_per_stream: how many videos follow one another in one memory.
        query: question to a vector in the space of the memory's tokens; None recalls an overview.
        out: folder for config.json, episodes.jsonl (a row per question) and result.json; None writes nothing.
        resume: continue what is in ``out``; a stream that was cut off is read again from its start.
        progress: called with (questions done, all questions, condition).

    Raises:
        UsageError: bad input, a missing video, or an answerer that cannot answer; finished questions stay in ``out``.
    """
    started = time.monotonic()
    config = config or RunConfig()
    name = name.removeprefix(PREFIX)
    benchmark = make_benchmark(name)
    if config.official and benchmark.official_rule is None:
        raise UsageError(f"{name} publishes no rule for reading replies; run it without --official")
    samples = _chosen(benchmark, Path(data), tasks, questions)
    folder = Videos(videos)
    folder.check(samples)
    wanted = _baselines(controls)
    missing = {"oracle"} if not any(sample.evidence for sample in samples) else set()
    who = make_answerer(answerer, **(answerer_config or {})) if isinstance(answerer, str) else answerer
    units = _units(samples, folder, [item for item in wanted if item not in missing], videos_per_stream)
    label = answerer if isinstance(answerer, str) else type(answerer).__name__
    facts = {
        "suite": PREFIX + name,
        "about": registry.meta("benchmark", name).get("about"),
        "split": Path(data).name,
        "tasks": sorted({sample.task for sample in samples}),
        "questions": len(samples),
        "videos": len({sample.video_id for sample in samples}),
        "agents": [{"label": f"{config.memory} + {label}"}],
        "answerer": {"name": label, "config": _public(who)},
        "judge": {"name": judge, "config": dict(judge_config or {})} if benchmark.judged else None,
        "controls": wanted,
        "run": to_dict(config),
        "videos_per_stream": videos_per_stream,
        "recall": "by question" if query is not None else "overview",
        "official_rule": benchmark.official_rule if config.official else None,
    }
    who.prepare()
    records = Records(None) if out is None else open_folder(Path(out), facts, resume)
    asker = Asker(benchmark, who, make_judge(judge, judge_config), config)
    try:
        _run(units, asker, query, records, samples, progress or (lambda done, total, what: None))
    except BaseException:
        records.discard()
        raise
    result = _result(name, benchmark, facts, records.rows, wanted, missing)
    result |= {"seconds": round(time.monotonic() - started, 3), "out": None if out is None else str(out)}
    if out is not None:
        atomic_write_json(Path(out) / RESULT, result)
    return result


def _run(
    units: Sequence[_Unit],
    asker: Asker,
    query: Query | None,
    records: Records,
    samples: Sequence[Sample],
    report: Progress,
) -> None:
    number = {sample.qid: place for place, sample in enumerate(samples)}
    known = {record_key(row) for row in records.rows}
    total, done = sum(len(unit.samples) for unit in units), 0
    for unit in units:
        keys = {(sample.task, unit.condition, 0, 0, number[sample.qid]) for sample in unit.samples}
        if not keys <= known:
            rows = (
                run_memory(unit.videos, asker, query=query)
                if unit.condition == AGENT
                else run_baseline(unit.videos[0], unit.condition, asker)
            )
            for row in rows:
                place = {"condition": unit.condition, "checkpoint": 0, "seed": 0, "episode": number[row["qid"]]}
                records.add({**row, **place})
                done += 1
                report(done, total, unit.condition)
        else:
            done += len(keys)
            report(done, total, unit.condition)


def _result(
    name: str,
    benchmark: Benchmark,
    facts: dict[str, Any],
    rows: Sequence[Row],
    wanted: Sequence[str],
    missing: set[str],
) -> dict[str, Any]:
    by_condition = {item: [row for row in rows if row["condition"] == item] for item in (AGENT, *wanted)}
    agent = by_condition[AGENT]

    def controls(task: str | None) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for item in wanted:
            own = [row for row in by_condition[item] if task in (None, row["task"])]
            mine = [row for row in agent if task in (None, row["task"])]
            out[item] = _with_episode_keys(summarise_questions(own, benchmark, mine)) if own else None
        return out

    tasks = {}
    for task in sorted({row["task"] for row in agent}):
        own = [row for row in agent if row["task"] == task]
        tasks[task] = {
            "metrics": _with_episode_keys(summarise_questions(own, benchmark)),
            "controls": controls(task),
            "episodes": len(own),
        }
    notes = [
        "success is the benchmark's own average, accuracy the mean over questions; intervals resample videos",
        f"mode {facts['run']['mode']}: "
        + {
            "memory_only": "answers come from the memory alone, the video was shut while a question was open",
            "stream": "answers come from the memory and the latest raw frames before the question",
            "full": "the memory had seen the whole video when it was asked",
        }[facts["run"]["mode"]],
    ]
    if facts["official_rule"]:
        notes.append(f"official scoring: {facts['official_rule']}")
    if benchmark.judged and not facts["judge"]["name"].startswith("model:"):
        notes.append(f"open answers judged by rule {facts['judge']['name']!r}: not comparable with published scores")
    notes += [f"{item} is null: no question has a known stretch of evidence" for item in sorted(missing & set(wanted))]
    return make_result(
        "eval",
        PREFIX + name,
        facts,
        _with_episode_keys(summarise_questions(agent, benchmark)),
        seeds=(0,),
        episodes=len(agent),
        controls=controls(None),
        tasks=tasks,
        notes=notes,
    )


def _with_episode_keys(metrics: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Add what reports expect of every evaluation: a return, here the score of a question."""
    found = {**metrics, "return": metrics["accuracy"], "length": metric(1.0, n=metrics["accuracy"]["n"])}
    return {**found, "return_drop": metrics["success_drop"]} if "success_drop" in metrics else found


def _chosen(benchmark: Benchmark, data: Path, tasks: Sequence[str] | None, questions: int | None) -> list[Sample]:
    if questions is not None and questions < 1:
        raise UsageError(f"expected at least 1 question, got {questions}")
    samples = benchmark.load(data)
    known = sorted({sample.task for sample in samples})
    for task in tasks or ():
        if task not in known:
            raise UsageError(f"{data} has no task {task!r}{nearest(task, known)}; tasks: {', '.join(known)}")
    return [sample for sample in samples if not tasks or sample.task in tasks][:questions]


def _baselines(controls: bool | Sequence[str]) -> list[str]:
    if isinstance(controls, bool):
        return list(BASELINES) if controls else []
    for item in controls:
        if item not in BASELINES:
            raise UsageError(f"unknown baseline {item!r}{nearest(item, BASELINES)}; baselines: {', '.join(BASELINES)}")
    return list(dict.fromkeys(controls))


def _units(samples: Sequence[Sample], folder: Videos, wanted: Sequence[str], per_stream: int) -> list[_Unit]:
    if per_stream < 1:
        raise UsageError(f"expected at least 1 video per stream, got {per_stream}")
    clips: dict[tuple[str, float], list[Sample]] = {}
    for sample in samples:
        clips.setdefault((sample.video_id, float(sample.meta.get("start_s", 0.0))), []).append(sample)
    videos: list[Video] = [(folder.path(own[0]), tuple(own)) for own in clips.values()]
    streams = [tuple(videos[first : first + per_stream]) for first in range(0, len(videos), per_stream)]
    units = [_Unit(AGENT, stream) for stream in streams]
    for item in wanted:
        usable = [(path, [s for s in own if item != "oracle" or s.evidence]) for path, own in videos]
        units += [_Unit(item, ((path, tuple(own)),)) for path, own in usable if own]
    return units


def _public(answerer: Answerer) -> dict[str, Any]:
    """Return the config of an answerer; keys of services live in the environment, not in it."""
    try:
        return dict(to_dict(answerer.config))
    except (TypeError, AttributeError):
        return {}
