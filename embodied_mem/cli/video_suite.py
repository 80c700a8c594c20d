"""``embodied-mem eval video:NAME``: a stream memory and an answerer on a video benchmark of the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from rich.table import Table

from embodied_mem.errors import UsageError
from embodied_mem.evaluation.suite import Option

PREFIX = "video:"

OPTIONS: tuple[Option, ...] = (
    Option("--data", "data", str, "Annotation file or folder, as its publication has it."),
    Option("--videos", "videos", str, "Folder of the videos (files, or folders of frames)."),
    Option("--answerer", "answerer", str, "Who answers (embodied-mem list answerers); default rule."),
    Option("--answerer-option", "answerer_option", list[str], "key=value for the answerer; repeatable."),
    Option("--memory", "memory", str, "Stream memory (embodied-mem list stream-memories); default flash_vstream."),
    Option("--memory-option", "memory_option", list[str], "key=value for the memory; repeatable."),
    Option("--encoder", "encoder", str, "Encoder of the frames; default grid."),
    Option("--encoder-option", "encoder_option", list[str], "key=value for the encoder; repeatable."),
    Option("--mode", "mode", str, "memory_only, stream or full; default memory_only."),
    Option("--fps", "fps", float, "Frames per second that are looked at; default 1."),
    Option("--budget", "budget", int, "Tokens recalled for one question; default 256."),
    Option("--frames", "frames", int, "Raw frames of the baselines and of --mode stream; default 8."),
    Option("--frame-side", "frame_side", int, "Longer side of kept and shown frames, 0 keeps none; default 224."),
    Option("--max-tokens", "max_tokens", int, "Longest reply; default 64."),
    Option("--judge", "judge", str, "Of open answers: exact, f1, anls or model:ANSWERER; default f1."),
    Option("--judge-option", "judge_option", list[str], "key=value for a model judge; repeatable."),
    Option("--videos-per-stream", "videos_per_stream", int, "Videos that follow one another in one memory; default 1."),
    Option("--audio", "audio", bool, "Give the memory the sound too (needs the extra video)."),
    Option("--speech", "speech", str, "Folder of a speech model: words go into the memory (extra video)."),
    Option("--official", "official", bool, "Score as the published scorer does, quirks included."),
)
_RUN = (
    "memory", "encoder", "mode", "fps", "budget", "frames", "frame_side", "max_tokens", "audio", "speech", "official",
)  # fmt: skip


def run_benchmark(suite: str, given: dict[str, Any], **common: Any) -> dict[str, Any]:
    """Return the result of a benchmark.

    Args:
        suite: ``video:NAME``.
        given: options of `OPTIONS` that were given.
        common: further arguments of `evaluation.video_qa.evaluate_video`.

    Raises:
        UsageError: an option is missing or wrong.
    """
    from embodied_mem.config import parse_overrides
    from embodied_mem.evaluation.video_qa import evaluate_video
    from embodied_mem.stream.qa.run import RunConfig

    for name in ("data", "videos"):
        if name not in given:
            raise UsageError(f"expected --{name} with {suite}: annotations and videos are the user's own")
    known = {field.name for field in fields(RunConfig)}
    run = {name: given[name] for name in _RUN if name in given and name in known}
    for name in ("memory", "encoder"):
        options = parse_overrides(given.get(f"{name}_option") or [])
        run |= {"memory_config" if name == "memory" else "encoder_options": options}
    return evaluate_video(
        suite,
        given["data"],
        given["videos"],
        answerer=given.get("answerer", "rule"),
        answerer_config=parse_overrides(given.get("answerer_option") or []),
        config=RunConfig(**run),
        judge=given.get("judge", "f1"),
        judge_config=parse_overrides(given.get("judge_option") or []),
        videos_per_stream=given.get("videos_per_stream", 1),
        **common,
    )


def refuse(suite: str, options: dict[str, Any]) -> None:
    """Refuse common options of ``eval`` that mean nothing for a video benchmark.

    Raises:
        UsageError: one was given.
    """
    for flag, value in options.items():
        if value:
            raise UsageError(f"{flag} has no meaning with {suite}; give --memory and --answerer")


def score_table(result: dict[str, Any]) -> Table:
    """Return one row per condition: success, how far the memory is ahead of it, accuracy."""
    who = result["config"]["agents"][0]["label"]
    table = _table(
        f"{result['name']}: {who}, {result['config']['run']['mode']}", ("success", "memory minus", "accuracy", "n")
    )
    for condition, metrics in _conditions(result).items():
        if metrics is None:
            table.add_row(condition, "null", "", "", "")
            continue
        cells = (_interval(metrics[name]) if name in metrics else "" for name in ("success", "success_drop"))
        table.add_row(condition, *cells, _number(metrics["accuracy"]), str(metrics["accuracy"]["n"]))
    return table


def cost_table(result: dict[str, Any]) -> Table:
    """Return one row per condition: unparsed replies, latency, bytes, images."""
    table = _table("what it costs", ("unparsed", "answer ms (p95)", "recall ms", "bytes", "images"))
    for condition, metrics in _conditions(result).items():
        if metrics is not None:
            milliseconds = f"{_number(metrics['answer_ms'], 1)} ({_number(metrics['answer_ms_p95'], 1)})"
            table.add_row(
                condition,
                _number(metrics["unparsed"]),
                milliseconds,
                _number(metrics["retrieve_ms"], 2),
                _number(metrics["mem_bytes"], 0),
                _number(metrics["images"], 1),
            )
    return table


def stage_table(result: dict[str, Any]) -> Table | None:
    """Return the milliseconds of a frame by stage, None for a run that kept none."""
    stages = ("decode", "encode", "write")
    known = [name for name in stages if f"{name}_ms" in result["metrics"]]
    if not known:
        return None
    table = _table("milliseconds of a frame", known)
    table.add_row("memory", *(_number(result["metrics"][f"{name}_ms"], 2) for name in known))
    return table


def group_table(result: dict[str, Any]) -> Table | None:
    """Return success by group and task, None where there is one task only."""
    groups = {name: item for name, item in result["metrics"].items() if name.startswith(("group: ", "label: "))}
    tasks = {f"task: {name}": task["metrics"]["accuracy"] for name, task in result["tasks"].items()}
    if len(tasks) + len(groups) < 2:
        return None
    table = _table("by kind of question", ("success", "n"))
    for name, item in {**groups, **tasks}.items():
        table.add_row(name, _interval(item), str(item["n"]))
    return table


def tables(result: dict[str, Any]) -> Sequence[Table]:
    """Return what is printed of a result."""
    found = (score_table(result), cost_table(result), stage_table(result), group_table(result))
    return [item for item in found if item is not None]


def default_label(given: dict[str, Any]) -> str:
    """Return a name for the run's folder."""
    return f"{given.get('memory', 'flash_vstream')}-{Path(str(given.get('answerer', 'rule'))).name}"


def _conditions(result: dict[str, Any]) -> dict[str, Any]:
    return {"memory": result["metrics"], **result["controls"]}


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _number(item: dict[str, Any], digits: int = 3) -> str:
    return "-" if item["mean"] is None else f"{item['mean']:,.{digits}f}"


def _interval(item: dict[str, Any]) -> str:
    if item["mean"] is None:
        return "-"
    if item["low"] is None:
        return f"{item['mean']:.3f}"
    return f"{item['mean']:.2f} \\[{item['low']:.2f}, {item['high']:.2f}]"
