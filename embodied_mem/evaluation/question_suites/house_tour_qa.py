"""HouseTourQA: questions about walks of 2 minutes, 1 hour and 10 hours through painted houses of the test split.

Every stream is drawn and encoded once. All memories get the same tokens and the same bytes and answer the same
questions through the same head (``house-head``). Tasks:

    short, long, very_long   120, 3600 and 36 000 seconds; memories of 1 % of the bytes of the history of 10 hours
    long_tight               the streams of ``long``; memories of 1 % of the bytes of their own history

Beside the memories stand

    blind         no tokens: what the words of a question give away
    last_frame    the latest frame
    full_history  every frame
    oracle        the frames of the question's evidence, out of all
    wiped:60      the first memory, emptied every 60 seconds
    shuffled      the first memory after the tour of other houses, its times moved to end at the question

Accuracy per kind and per tenth of the evidence's age; intervals by bootstrap over streams, then their questions.
Milliseconds per stage (decode, encode, write, retrieve, answer) are CPU time of the process, so that other load does
not count; ``wall_p95_ms`` of retrieval and answer alone is wall time.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.house_tour_cells import FREE, SIZED, CellKey, Record, Rules, Stream, StreamKey, measure
from embodied_mem.evaluation.house_tour_scores import columns, overall, verdicts
from embodied_mem.evaluation.memory_sizes import fit
from embodied_mem.evaluation.question_suite import Progress, QuestionSuite
from embodied_mem.evaluation.suite import Option
from embodied_mem.files import append_jsonl, atomic_write_json, read_json, read_jsonl
from embodied_mem.perception.house_view import load_net
from embodied_mem.perception.house_words import WIDTH
from embodied_mem.registry import register
from embodied_mem.results import make_result
from embodied_mem.stream.answerers import make_answerer
from embodied_mem.stream.entry import entry_bytes
from embodied_mem.stream.house_tour.questions import CHANCE, KINDS
from embodied_mem.stream.house_tour.replay import BUDGET
from embodied_mem.stream.house_tour.tours import LENGTHS

NAME = "house-tour-qa"
LEAD = "sparse_events"
"""Memory that comes first where none is named."""
STREAMS = {"short": 10, "long": 2, "very_long": 1}
"""Streams per length and seed."""
EACH = {"short": 3, "long": 8, "very_long": 24}
"""Questions per kind and stream."""
SEEDS = [0, 1, 2]
TASKS = {"short": "short", "long": "long", "long_tight": "long", "very_long": "very_long"}
"""Task -> length of its streams."""
TIGHT = "long_tight"
"""Task whose memories have 1 % of the bytes of their own history."""
_LEFT_OUT = ("none", "full_history")


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
            Option("--each", "each", int, "Questions per kind and stream (default: 3, 8, 24 by length)"),
            Option("--read", "read", str, f"What a question sees: {BUDGET} tokens recalled by 'question', or 'whole'"),
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
        tasks: some of `TASKS`; None for all.
        split: "test" (default) or "train".
        episodes: streams per length and seed; None for those of `STREAMS`.
        seeds: of the streams; None for `SEEDS`.
        controls: also measure the controls.
        out: folder for ``config.json``, ``streams.jsonl``, ``cells.jsonl``, ``result.json`` and ``tokens/``; None
            writes nothing.
        resume: leave out the cells that the folder holds already.
        shard: "i/n": every n-th stream only; the shard that finds all cells done writes the result.
        progress: called with cells done, all cells, and what is done.
        options: ``memory``, ``bytes``, ``each``, ``read``, ``answerer``.

    Raises:
        UsageError: a name or a number is wrong, or the folder holds something else.
    """
    config = _config(tasks, split, episodes, seeds, controls, dict(options or {}))
    answerer = make_answerer(config["answerer"])
    if not answerer.capabilities.embeds:
        raise UsageError(f"expected an answerer that takes tokens, {config['answerer']!r} does not")
    conditions, notes = _conditions(config)
    rules = Rules(config["split"], config["each"], config["read"], config["memories"][0])
    plan = {key: cells for key in _streams_of(config) if (cells := _cells_of(key, conditions))}
    index, count = _shard(shard)
    kept = _Kept(out, config, resume or shard is not None, shard)
    before, began, total = torch.get_num_threads(), time.perf_counter(), sum(len(cells) for cells in plan.values())
    # one thread, for costs that mean something
    torch.set_num_threads(1)
    try:
        net = load_net()
        for number, (key, cells) in enumerate(plan.items()):
            if number % count != index:
                continue
            stream = Stream(key, rules, net, out)
            if key not in kept.streams:
                kept.add_stream(key, stream.record())
            for cell in cells:
                if cell not in kept.cells:
                    if progress is not None:
                        progress(len(kept.cells), total, f"{key.length} {cell.name}")
                    kept.add_cell(cell, measure(stream, cell.name, cell.nbytes, answerer))
    finally:
        torch.set_num_threads(before)
    if shard is not None:
        kept.read()
    missing = {key for key, cells in plan.items() if any(cell not in kept.cells for cell in cells)}
    spent = time.perf_counter() - began
    notes += [f"{len(missing)} streams are left to other shards" for _ in list(missing)[:1]]
    result = _result(kept, plan, conditions, config, spent, out, notes)
    if out is not None and not missing:
        atomic_write_json(out / "result.json", result)
    return result


# What is to be done


def _config(
    tasks: list[str] | None, split: str | None, episodes: int | None, seeds: list[int] | None, controls: bool,
    given: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    for name in tasks or ():
        if name not in TASKS:
            raise UsageError(f"expected a task of {', '.join(TASKS)}, got {name!r}")
    chosen = [name for name in TASKS if not tasks or name in tasks]
    lengths = [name for name in LENGTHS if name in {TASKS[task] for task in chosen}]
    config = {
        "suite": NAME,
        "memories": list(given.get("memory") or _default_memories()),
        "bytes": given.get("bytes") or history_bytes(LENGTHS["very_long"][0]) // 100,
        "each": {name: given.get("each") or EACH[name] for name in lengths},
        "read": given.get("read") or "question",
        "answerer": given.get("answerer") or "house-head",
        "split": split or "test",
        "seeds": seeds or SEEDS,
        "tasks": chosen,
        "streams": {name: episodes or STREAMS[name] for name in lengths},
        "controls": controls,
    }
    if config["read"] not in ("whole", "question") or config["split"] not in ("test", "train"):
        raise UsageError(
            f"expected --read whole or question, --split test or train, got {config['read']!r}, {config['split']!r}"
        )
    return config


def _default_memories() -> list[str]:
    names = [name for name in registry.names("stream_memory") if name not in _LEFT_OUT]
    return sorted(names, key=lambda name: (name != LEAD, name))


def _conditions(config: dict[str, Any]) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return task -> condition -> bytes (0 for none), and a note about each memory that does not fit."""
    found: dict[str, dict[str, int]] = {}
    notes = []
    for task in config["tasks"]:
        nbytes = history_bytes(LENGTHS[TASKS[task]][0]) // 100 if task == TIGHT else config["bytes"]
        good: dict[str, int] = {}
        for name in config["memories"]:
            try:
                fit(name, nbytes, 1, WIDTH)
                good[name] = nbytes
            except UsageError as error:
                if name not in registry.names("stream_memory") and not name.startswith("memory:"):
                    raise
                notes.append(f"{task}: {name} is left out: {error}")
        if not good:
            continue
        if config["controls"]:
            good |= dict.fromkeys(FREE, 0)
            good |= dict.fromkeys(SIZED, nbytes) if config["memories"][0] in good else {}
        found[task] = good
    if not found:
        raise UsageError(f"expected at least one memory that fits; {'; '.join(notes)}")
    return found, notes


def _streams_of(config: dict[str, Any]) -> list[StreamKey]:
    return [
        StreamKey(length, seed, number)
        for length, count in config["streams"].items()
        for seed in config["seeds"]
        for number in range(count)
    ]


def _cells_of(key: StreamKey, conditions: dict[str, dict[str, int]]) -> list[CellKey]:
    """Return the cells of a stream, each once."""
    tasks = [task for task in conditions if TASKS[task] == key.length]
    return list(dict.fromkeys(CellKey(*key, name, n) for task in tasks for name, n in conditions[task].items()))


def _shard(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 1
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and 0 <= int(index) < int(count)):
        raise UsageError(f"expected --shard i/n with 0 <= i < n, got {text!r}")
    return int(index), int(count)


# What is done


class _Kept:
    """Streams and cells of a run, in memory and in its folder."""

    def __init__(self, out: Path | None, config: dict[str, Any], again: bool, shard: str | None) -> None:
        self.out, self.ending = out, "" if shard is None else f"-{shard.replace('/', '-of-')}"
        self.streams: dict[StreamKey, Record] = {}
        self.cells: dict[CellKey, Record] = {}
        if out is None:
            return
        out.mkdir(parents=True, exist_ok=True)
        file = out / "config.json"
        if not file.exists():
            atomic_write_json(file, config)
        elif not again:
            raise UsageError(f"{out} holds an evaluation already; give --resume, or another folder")
        elif read_json(file) != config:
            raise UsageError(f"{out} holds an evaluation with other options; give the same, or another folder")
        if again:
            self.read()

    def read(self) -> None:
        """Take what the folder holds, of all shards."""
        assert self.out is not None
        for file in sorted(self.out.glob("streams*.jsonl")):
            self.streams |= {StreamKey(*(row[f] for f in StreamKey._fields)): row for row in read_jsonl(file)}
        for file in sorted(self.out.glob("cells*.jsonl")):
            self.cells |= {CellKey(*(row[f] for f in CellKey._fields)): row for row in read_jsonl(file)}

    def add_stream(self, key: StreamKey, row: Record) -> None:
        """Keep a stream."""
        self.streams[key] = row
        if self.out is not None:
            append_jsonl(self.out / f"streams{self.ending}.jsonl", row)

    def add_cell(self, key: CellKey, row: Record) -> None:
        """Keep a cell."""
        self.cells[key] = row
        if self.out is not None:
            append_jsonl(self.out / f"cells{self.ending}.jsonl", row)


# Result


def _result(
    kept: _Kept, plan: dict[StreamKey, list[CellKey]], conditions: dict[str, dict[str, int]], config: dict[str, Any],
    spent: float, out: Path | None, notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    done = {key: kept.streams[key] for key, cells in plan.items() if all(cell in kept.cells for cell in cells)}
    tables = {task: columns(done, kept.cells, TASKS[task], names) for task, names in conditions.items()}
    tables = {task: table for task, table in tables.items() if table}
    first = config["memories"][0]
    tasks = {}
    for task, table in tables.items():
        tasks[task] = {
            "metrics": table.get(first, {}),
            "controls": {name: column for name, column in table.items() if name != first},
            "episodes": sum(key.length == TASKS[task] for key in done),
        }
    names = dict.fromkeys(name for table in tables.values() for name in table)
    every = {name: overall(tables, name) for name in names}
    notes = [
        *verdicts(tables, config["memories"]),
        *notes,
        f"the first column is the memory {first}; columns after it are the other memories and the controls",
        "chance: " + ", ".join(f"{kind} {CHANCE[kind]:.2f}" for kind in KINDS),
        "milliseconds are CPU time, wall_p95_ms wall time on a machine that did other work",
    ]
    asked = sum(len(row["questions"]) for row in done.values())
    return make_result(
        "eval", NAME, {**config, "command_line": _command(config)}, every.pop(first, {}), seeds=config["seeds"],
        episodes=len(done), controls=every, tasks=tasks, seconds=spent, out=out, notes=[f"{asked} questions", *notes],
    )  # fmt: skip


def _command(config: dict[str, Any]) -> str:
    words = ["embodied-mem eval", NAME, *(["--controls"] if config["controls"] else [])]
    if config["tasks"] != list(TASKS):
        words += [f"--task {name}" for name in config["tasks"]]
    if config["memories"] != _default_memories():
        words += [f"--memory {name}" for name in config["memories"]]
    if config["seeds"] != SEEDS:
        words.append(f"--seeds {','.join(str(seed) for seed in config['seeds'])}")
    usual = {name: STREAMS[name] for name in config["streams"]}
    if config["streams"] != usual:
        words.append(f"--episodes {next(iter(config['streams'].values()))}")
    if config["each"] != {name: EACH[name] for name in config["each"]}:
        words.append(f"--each {next(iter(config['each'].values()))}")
    if config["bytes"] != history_bytes(LENGTHS["very_long"][0]) // 100:
        words.append(f"--bytes {config['bytes']}")
    if config["read"] != "question":
        words.append(f"--read {config['read']}")
    return " ".join([*words, "--json"])
