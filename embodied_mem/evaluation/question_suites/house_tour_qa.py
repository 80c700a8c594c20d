"""HouseTourQA: questions about walks of 2 minutes, 1 hour and 10 hours through painted houses of the test split.

Every stream is drawn and encoded once. All memories get the same tokens and the same bytes and answer the same
questions through the same head (``house-head``); beside them stand

    blind         no tokens: what the words of a question give away
    last_frame    the latest frame
    full_history  every frame
    oracle        the frames of the question's evidence, out of all
    wiped:60      the first memory, emptied every 60 seconds
    shuffled      the first memory after the tour of other houses, its times moved to end at the question

Accuracy per kind and per tenth of the evidence's age; intervals by bootstrap over streams, then their questions.
Milliseconds are CPU time of the process, so that other load does not count; ``answer_p95_ms`` alone is wall time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.memory_sizes import fit
from embodied_mem.evaluation.question_suite import Progress, QuestionSuite
from embodied_mem.evaluation.statistics import summarise
from embodied_mem.evaluation.suite import SEED_BASE, Option
from embodied_mem.files import append_jsonl, atomic_write_json, read_json, read_jsonl
from embodied_mem.perception.house_view import load_net
from embodied_mem.perception.house_words import WIDTH
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric
from embodied_mem.stream.answerers import Answerer, make_answerer, request_for
from embodied_mem.stream.entry import entry_bytes
from embodied_mem.stream.evidence import Evidence
from embodied_mem.stream.house_tour.questions import CHANCE, KINDS, Question, ask
from embodied_mem.stream.house_tour.replay import Reading, Recalled, encode_cached, encode_stream, replay
from embodied_mem.stream.house_tour.tours import LENGTHS, TourStream
from embodied_mem.stream.memory import StreamMemory, make_stream_memory

NAME = "house-tour-qa"
STREAMS = {"short": 10, "long": 3, "very_long": 1}
"""Streams per length and seed."""
WIPE_S = 60
_OTHER_SECONDS = 1800
_CONTROLS = ("blind", "last_frame", "full_history", "oracle", f"wiped:{WIPE_S}", "shuffled")
_TENTHS = 10
Record = dict[str, Any]
Metrics = dict[str, Any]


@register("question_suite", NAME, about="questions about walks of 2 minutes to 10 hours through painted houses")
def house_tour_qa() -> QuestionSuite:
    """Return the suite."""
    return QuestionSuite(
        NAME,
        "questions about walks of 2 minutes to 10 hours through painted houses",
        run,
        (
            Option("--memory", "memory", list, "Stream memory to compare; repeatable (default: all, at equal bytes)"),
            Option("--bytes", "bytes", int, "Bytes each memory may hold (default: 1 % of the history of 10 hours)"),
            Option("--each", "each", int, "Questions per kind and stream (default: 3)"),
            Option("--read", "read", str, "What a question sees: 'whole' memory (default) or recalled by 'question'"),
            Option("--answerer", "answerer", str, "Answerer that takes tokens (default: house-head)"),
        ),
    )


def history_bytes(seconds: int) -> int:
    """Return the bytes of the history of a stream: a token per second."""
    return seconds * entry_bytes(1, WIDTH, 0)


def run(
    *,
    tasks: list[str] | None = None,
    split: str | None = None,
    episodes: int | None = None,
    seeds: list[int] | None = None,
    controls: bool = False,
    out: Path | None = None,
    resume: bool = False,
    shard: str | None = None,
    progress: Progress | None = None,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Evaluate memories; see the module, and `QuestionSuite.run`.

    Args:
        tasks: lengths of streams; None for all.
        split: "test" (default) or "train".
        episodes: streams per length and seed; None for those of `STREAMS`.
        seeds: of the streams.
        controls: also measure the controls.
        out: folder for ``config.json``, ``streams.jsonl``, ``result.json`` and ``tokens/``; None writes nothing.
        resume: leave out the streams that the folder holds already.
        shard: "i/n": every n-th stream only; the shard that finds all streams done writes the result.
        progress: called with streams done, all streams, and what is done.
        options: ``memory``, ``bytes``, ``each``, ``read``, ``answerer``.

    Raises:
        UsageError: a name or a number is wrong, or the folder holds something else.
    """
    given = dict(options or {})
    names = list(given.get("memory") or [n for n in registry.names("stream_memory") if n not in _LEFT_OUT])
    lengths = _lengths(tasks)
    split, seeds = split or "test", seeds or [0]
    config: dict[str, Any] = {
        "suite": NAME, "memories": names, "bytes": given.get("bytes") or history_bytes(LENGTHS["very_long"][0]) // 100,
        "each": given.get("each") or 3, "read": given.get("read") or "whole",
        "answerer": given.get("answerer") or "house-head", "split": split, "seeds": seeds, "lengths": lengths,
        "streams": {name: episodes or STREAMS[name] for name in lengths}, "controls": controls,
    }  # fmt: skip
    if config["read"] not in ("whole", "question") or split not in ("test", "train"):
        raise UsageError(f"expected --read whole or question, --split test or train, got {config['read']!r}, {split!r}")
    answerer = make_answerer(config["answerer"])
    if not answerer.capabilities.embeds:
        raise UsageError(f"expected an answerer that takes tokens, {config['answerer']!r} does not")
    names, left_out = _fitting(names, config["bytes"])
    plan = [(name, seed, n) for name in lengths for seed in seeds for n in range(config["streams"][name])]
    index, count = _shard(shard)
    records = _open(out, config, resume or shard is not None)
    began = time.perf_counter()
    with _one_thread():
        net = load_net()
        for number, (length, seed, stream) in enumerate(plan):
            if number % count != index or (length, seed, stream) in records:
                continue
            if progress is not None:
                progress(len(records), len(plan), f"{NAME} {length}")
            record = _stream(net, answerer, names, (length, seed, stream), config, out)
            records[length, seed, stream] = record
            if out is not None:
                append_jsonl(out / _file(shard), record)
    if out is not None and shard is not None:
        records = _read(out)
    missing = [key for key in plan if key not in records]
    spent = time.perf_counter() - began
    notes = [*left_out, *(f"{len(missing)} streams are left to other shards" for _ in missing[:1])]
    result = _result([records[key] for key in plan if key in records], names, config, spent, out, notes)
    if out is not None and not missing:
        atomic_write_json(out / "result.json", result)
    return result


_LEFT_OUT = ("none", "full_history")


# One stream


def _stream(
    net: Any, answerer: Answerer, names: Sequence[str], key: tuple[str, int, int], config: dict[str, Any],
    out: Path | None,
) -> Record:  # fmt: skip
    """Return what every condition answered about one stream."""
    length, seed, stream = key
    seconds, houses = LENGTHS[length]
    own = (SEED_BASE + seed) * 1000 + stream
    tour = TourStream(seconds, own, config["split"], houses)
    done = encode_cached(out, f"{config['split']}-{length}-{seed}-{stream}", tour, net)
    questions = ask(done.log, config["each"], own)
    record: Record = {
        "task": length, "seed": seed, "stream": stream, "encode_ms": round(done.encode_ms, 4), "conditions": {},
        "questions": [
            {"kind": q.kind, "text": q.text, "options": q.options, "answer": q.answer, "ask_s": q.ask_s,
             "evidence": q.evidence, "age": q.age} for q in questions
        ],
    }  # fmt: skip
    reading: Reading = config["read"]
    for name in names:
        memory, _ = fit(name, config["bytes"], 1, WIDTH)
        record["conditions"][name] = _answers(answerer, replay(memory, done.tokens, questions, reading))
    if config["controls"]:
        for name in _CONTROLS:
            found = _control(name, names[0], done.tokens, questions, config, own, net)
            record["conditions"][name] = _answers(answerer, found)
    return record


def _control(
    name: str, first: str, tokens: np.ndarray, questions: list[Question], config: dict[str, Any], own: int, net: Any
) -> Any:
    """Return an iterator of what a control recalls."""
    if name == "oracle":
        return (_oracle(tokens, q) for q in questions)
    if name == "shuffled":
        other = encode_stream(TourStream(_OTHER_SECONDS, own + 7919, config["split"], 4), net).tokens
        return _shuffled(_sized(first, config), other, questions, config["read"])
    if name.startswith("wiped"):
        return replay(_sized(first, config), tokens, questions, config["read"], WIPE_S)
    kept = {"blind": "none", "last_frame": "last_k", "full_history": "full_history"}[name]
    memory = make_stream_memory(kept, **({"slots": 1} if name == "last_frame" else {}))
    return replay(memory, tokens, questions)


def _sized(name: str, config: dict[str, Any]) -> StreamMemory:
    return fit(name, config["bytes"], 1, WIDTH)[0]


def _oracle(tokens: np.ndarray, question: Question) -> Recalled:
    first, last = int(question.evidence[0]), int(question.evidence[1])
    times = torch.arange(first, last + 1, dtype=torch.float64)
    rows = torch.from_numpy(tokens[first : last + 1])
    evidence = Evidence(rows, torch.stack([times, times], 1), (), (), last + 1, question.ask_s)
    return Recalled(question, evidence, rows.numel() * 4, 0.0, 0.0)


def _shuffled(memory: StreamMemory, other: np.ndarray, questions: list[Question], reading: Reading) -> Any:
    end = float(len(other) - 1)
    at_end = [replace(q, ask_s=end) for q in questions]
    for question, got in zip(questions, replay(memory, other, at_end, reading)):
        times = (got.evidence.times + question.ask_s - end).clamp(min=0)
        evidence = replace(got.evidence, times=times, until_s=question.ask_s)
        yield replace(got, question=question, evidence=evidence)


def _answers(answerer: Answerer, recalled: Any) -> Record:
    """Return choices, parts of the cost and bytes, one value per question."""
    rows: Record = {key: [] for key in ("choice", "write_ms", "read_ms", "head_ms", "answer_ms", "bytes", "tokens")}
    for got in recalled:
        began, wall = time.process_time(), time.perf_counter()
        q = got.question
        # the text of entries is nothing to an answerer of tokens
        request = request_for(q.text, replace(got.evidence, text=()), options=q.options, embeds=True)
        answer = answerer.answer(request)
        rows["head_ms"].append(round(1000 * (time.process_time() - began), 4))
        rows["answer_ms"].append(round(1000 * (time.perf_counter() - wall) + got.read_ms, 4))
        rows["choice"].append(answer.choice)
        rows["write_ms"].append(round(got.write_ms, 5))
        rows["read_ms"].append(round(got.read_ms, 4))
        rows["bytes"].append(got.nbytes)
        rows["tokens"].append(len(got.evidence.tokens))
    return rows


# Result


def _result(
    records: list[Record], names: list[str], config: dict[str, Any], spent: float, out: Path | None, notes: list[str]
) -> dict[str, Any]:
    tasks = {}
    for length in config["lengths"]:
        part = [record for record in records if record["task"] == length]
        if part:
            columns = {name: _column(part, name) for name in part[0]["conditions"]}
            tasks[length] = {
                "metrics": columns[names[0]],
                "controls": {name: column for name, column in columns.items() if name != names[0]},
                "episodes": len(part),
            }
    every = {name: _overall(records, tasks, name) for name in (records[0]["conditions"] if records else ())}
    notes = [
        *notes,
        f"the first column is the memory {names[0]}; columns after it are the other memories and the controls",
        "chance: " + ", ".join(f"{kind} {CHANCE[kind]:.2f}" for kind in KINDS),
        "milliseconds are CPU time, answer_p95_ms wall time on a machine that did other work",
    ]
    first = every.pop(names[0], {})
    asked = sum(len(record["questions"]) for record in records)
    return make_result(
        "eval", NAME, {**config, "command_line": _command(config)}, first, seeds=config["seeds"], episodes=len(records),
        controls=every, tasks=tasks, seconds=spent, out=out, notes=[f"{asked} questions", *notes],
    )  # fmt: skip


def _command(config: dict[str, Any]) -> str:
    words = ["embodied-mem eval", NAME, "--controls"] if config["controls"] else ["embodied-mem eval", NAME]
    counts = set(config["streams"].values())
    if config["streams"] != {name: STREAMS[name] for name in config["lengths"]} and len(counts) == 1:
        words.append(f"--episodes {counts.pop()}")
    if config["lengths"] != list(LENGTHS):
        words += [f"--task {name}" for name in config["lengths"]]
    if set(config["memories"]) != {name for name in registry.names("stream_memory") if name not in _LEFT_OUT}:
        words += [f"--memory {name}" for name in config["memories"]]
    words += [f"--bytes {config['bytes']} --each {config['each']} --read {config['read']} --json"]
    return " ".join(words)


def _column(records: list[Record], name: str) -> Metrics:
    """Return the metrics of one condition at one length."""
    right, kinds, ages = [], [], []
    for record in records:
        asked, got = record["questions"], record["conditions"][name]
        right.append(np.array([float(c == q["answer"]) for c, q in zip(got["choice"], asked)]))
        kinds.append(np.array([q["kind"] for q in asked]))
        ages.append(np.array([-1.0 if q["age"] is None else q["age"] for q in asked]))
    found: Metrics = {"success": _rate(right)}
    for kind in KINDS:
        found[f"success_{kind}"] = _rate([r[k == kind] for r, k in zip(right, kinds)])
    for tenth in range(_TENTHS):
        low, high = tenth / _TENTHS, (tenth + 1) / _TENTHS + (tenth == _TENTHS - 1)
        found[f"success_age_{tenth}"] = _rate([r[(a >= low) & (a < high)] for r, a in zip(right, ages)])
    chosen = [c is not None for record in records for c in record["conditions"][name]["choice"]]
    found["unparsed_rate"] = metric(1 - float(np.mean(chosen)) if chosen else None, n=len(chosen))
    for key in ("write_ms", "read_ms", "head_ms"):
        values = _values(records, name, key)
        found[key] = metric(float(np.median(values)) if len(values) else None, n=len(values), interval=None)
    waits = _values(records, name, "answer_ms")
    found["answer_p95_ms"] = metric(float(np.percentile(waits, 95)) if len(waits) else None, n=len(waits))
    found["encode_ms"] = metric(float(np.mean([record["encode_ms"] for record in records])), n=len(records))
    for key in ("bytes", "tokens"):
        values = _values(records, name, key)
        found[key] = metric(float(values.max()) if len(values) else None, n=len(values))
    return found


def _values(records: list[Record], name: str, key: str) -> np.ndarray:
    return np.concatenate([np.asarray(record["conditions"][name][key], np.float64) for record in records])


def _rate(streams: list[np.ndarray]) -> Metrics:
    """Return a rate whose interval resamples streams, then the questions of each."""
    found = summarise([[values] for values in streams], "rate")
    named = found["interval"] and found["interval"].replace("checkpoints", "streams")
    return {**found, "interval": named}


def _overall(records: list[Record], tasks: dict[str, Any], name: str) -> Metrics:
    """Return accuracy over all lengths, what is kept of the whole history, and how 10 hours compare to 2 minutes."""
    found: Metrics = {}
    rows = {
        length: task["metrics"] if name not in task["controls"] else task["controls"][name]
        for length, task in tasks.items()
    }
    right = [
        np.array([float(c == q["answer"]) for c, q in zip(record["conditions"][name]["choice"], record["questions"])])
        for record in records
    ]
    found["success"] = _rate(right)
    for length, row in rows.items():
        found[f"success_{length}"] = row["success"]
        controls = tasks[length]["controls"]
        if "blind" in controls and "full_history" in controls:
            blind, full = (controls[key]["success"]["mean"] for key in ("blind", "full_history"))
            own = row["success"]["mean"]
            if None not in (blind, full, own) and full > blind:
                found[f"kept_{length}"] = metric((own - blind) / (full - blind), n=row["success"]["n"])
    if "short" in rows and "very_long" in rows:
        for kind in ("last", "what"):
            pair = [rows[length][f"success_{kind}"]["mean"] for length in ("very_long", "short")]
            if None not in pair:
                found[f"success_{kind}_10h_minus_2min"] = metric(pair[0] - pair[1])
        costs = [rows[k]["read_ms"]["mean"] + rows[k]["head_ms"]["mean"] for k in ("very_long", "short")]
        found["ratio_answer_10h_over_2min"] = metric(costs[0] / costs[1] if costs[1] else None)
    return found


# Names and files


def _lengths(tasks: list[str] | None) -> list[str]:
    for name in tasks or ():
        if name not in LENGTHS:
            raise UsageError(f"expected a task of {', '.join(LENGTHS)}, got {name!r}")
    return [name for name in LENGTHS if not tasks or name in tasks]


def _fitting(names: list[str], nbytes: int) -> tuple[list[str], list[str]]:
    """Return the memories that fit, and a note about each that does not."""
    good, notes = [], []
    for name in names:
        try:
            fit(name, nbytes, 1, WIDTH)
            good.append(name)
        except UsageError as error:
            if name not in registry.names("stream_memory") and not name.startswith("memory:"):
                raise
            notes.append(f"{name} is left out: {error}")
    if not good:
        raise UsageError(f"expected at least one memory that fits into {nbytes} bytes; {'; '.join(notes)}")
    return good, notes


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 0 <= int(index) < int(count)):
        raise UsageError(f"expected --shard i/n with 0 <= i < n, got {text!r}")
    return int(index), int(count)


def _file(shard: str | None) -> str:
    return "streams.jsonl" if shard is None else f"streams-{shard.replace('/', '-of-')}.jsonl"


def _open(out: Path | None, config: dict[str, Any], again: bool) -> dict[tuple[str, int, int], Record]:
    """Return the records of a folder that is continued, none for a fresh one."""
    if out is None:
        return {}
    out.mkdir(parents=True, exist_ok=True)
    file = out / "config.json"
    if file.exists():
        if not again:
            raise UsageError(f"{out} holds an evaluation already; give --resume, or another folder")
        if read_json(file) != config:
            raise UsageError(f"{out} holds an evaluation with other options; give the same, or another folder")
    else:
        atomic_write_json(file, config)
    return _read(out) if again else {}


def _read(out: Path) -> dict[tuple[str, int, int], Record]:
    rows = [row for file in sorted(out.glob("streams*.jsonl")) for row in read_jsonl(file)]
    return {(row["task"], row["seed"], row["stream"]): row for row in rows}


class _one_thread:
    """Torch with one thread, for costs that mean something."""

    def __enter__(self) -> None:
        self.before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self.before)
