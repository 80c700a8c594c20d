"""``embodied-mem eval``: any agent on a suite, beside memory controls, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from embodied_mem.cli import video_suite
from embodied_mem.cli.output import counting, emit_json, stdout
from embodied_mem.cli.suite_options import SuiteCommand, chosen
from embodied_mem.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command to the app."""

    @app.command("eval", cls=SuiteCommand)
    def evaluate_command(
        ctx: typer.Context,
        suite: str = typer.Argument(
            ..., help="Name of a suite (embodied-mem list suites), or video:NAME (embodied-mem list benchmarks)."
        ),
        agent: str | None = typer.Option(None, "--agent", help="Registered agent, or module:attr of your own."),
        checkpoint: list[str] = typer.Option(
            [], "--checkpoint", help="Folder of a trained agent or of a run; repeat for several training seeds."
        ),
        none: list[str] = typer.Option([], "--none", help="The same preset trained with memory 'none'; repeatable."),
        task: list[str] = typer.Option([], "--task", help="Play these tasks of the suite only; repeatable."),
        split: str | None = typer.Option(None, "--split", help="Split of the suite (default: the suite's own)."),
        episodes: int | None = typer.Option(None, "--episodes", help="Episodes per task and seed."),
        seeds: str | None = typer.Option(None, "--seeds", help="Episode-set seeds, for example 0,1,2."),
        controls: bool = typer.Option(False, "--controls", help="Run the suite's controls too."),
        control: list[str] = typer.Option(
            [], "--control", help="Run this control (wiped:8, shuffled, ...); repeatable."
        ),
        env: list[str] = typer.Option([], "--env", help="key=value for every environment; repeatable."),
        num_envs: int | None = typer.Option(None, "--num-envs", help="Episodes that step in lockstep."),
        device: str = typer.Option("auto", "--device", help="auto, cpu, cuda or cuda:i."),
        out: Path | None = typer.Option(None, "--out", help="Folder to write (default: runs/eval/SUITE-AGENT)."),
        resume: bool = typer.Option(False, "--resume", help="Continue what --out holds."),
        shard: str | None = typer.Option(None, "--shard", help="Play part i/n only; the last shard merges all."),
        traces: int = typer.Option(2, "--traces", help="Episodes per task and condition that are traced for reports."),
        as_json: bool = typer.Option(False, "--json", help="Print one JSON value on stdout."),
    ) -> None:
        """Evaluate an agent on a suite, with intervals and per-episode records."""
        from embodied_mem.config import parse_overrides
        from embodied_mem.evaluation import evaluate
        from embodied_mem.evaluation.question_suite import is_question_suite, load_question_suite

        if is_question_suite(suite):
            if agent is not None or checkpoint or none or control or env or num_envs is not None:
                raise UsageError(f"{suite} compares stream memories: it takes no agent, environment or single control")
            if out is None and (resume or shard is not None):
                raise UsageError("expected --out DIR with --resume or --shard: the folder to continue or to share")
            folder = _fresh_folder(suite, "memories") if out is None else out
            with counting("streams") as report:
                result = load_question_suite(suite).run(
                    tasks=task or None,
                    split=split,
                    episodes=episodes,
                    seeds=_seeds(seeds),
                    controls=controls,
                    out=folder,
                    resume=resume,
                    shard=shard,
                    progress=report,
                    options=chosen(ctx),
                )
            _show(result, answered(result), folder, as_json)
            return
        if suite.startswith(video_suite.PREFIX):
            unused: dict[str, Any] = {"--agent": agent, "--checkpoint": checkpoint, "--none": none, "--split": split}
            unused |= {"--env": env, "--seeds": seeds, "--num-envs": num_envs, "--shard": shard}
            video_suite.refuse(suite, unused)
            if out is None and resume:
                raise UsageError("expected --out DIR with --resume: the folder to continue")
            given = chosen(ctx)
            folder = _fresh_folder(suite.replace(":", "-"), video_suite.default_label(given)) if out is None else out
            with counting("questions") as report:
                result = video_suite.run_benchmark(
                    suite,
                    given,
                    controls=control or controls,
                    tasks=task or None,
                    questions=episodes,
                    out=folder,
                    resume=resume,
                    progress=report,
                )
            _show(result, video_suite.tables(result), folder, as_json)
            return
        who = _who(agent, checkpoint)
        if out is None and (resume or shard is not None):
            raise UsageError("expected --out DIR with --resume or --shard: the folder to continue or to share")
        folder = _fresh_folder(suite, agent or checkpoint[0]) if out is None else out
        with counting("episodes") as report:
            result = evaluate(
                who,
                suite,
                none=none or None,
                tasks=task or None,
                split=split,
                env_options={**parse_overrides(env), **chosen(ctx)},
                episodes=episodes,
                seeds=_seeds(seeds),
                controls=control or controls,
                num_envs=num_envs,
                device=device,
                out=folder,
                resume=resume,
                shard=shard,
                traces=traces,
                progress=report,
            )
        _show(result, comparisons(result), folder, as_json)


def _show(result: dict[str, Any], tables: Sequence[Table], folder: Path, as_json: bool) -> None:
    if as_json:
        emit_json(result)
        return
    for table in tables:
        stdout.print(table)
    for note in result["notes"]:
        stdout.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    stdout.print(f"written to {result['out']}; report: embodied-mem view {folder}", markup=False, soft_wrap=True)


def answered(result: dict[str, Any]) -> list[Table]:
    """Return one table per task of a suite of questions: memories and controls down, accuracy and cost across."""
    tables = []
    for name, found in result["tasks"].items():
        table = Table(title=f"{name}: {found['episodes']} streams", title_justify="left")
        table.add_column("memory", no_wrap=True)
        for column in ("accuracy", "bytes", "retrieve ms", "answer ms"):
            table.add_column(column, justify="right", no_wrap=True)
        for row, metrics in {result["config"]["memories"][0]: found["metrics"], **found["controls"]}.items():
            if not metrics:
                continue
            costs = [metrics[key]["mean"] for key in ("bytes", "retrieve_ms", "answer_ms")]
            table.add_row(row, _cell(metrics["success"]), *("-" if cost is None else f"{cost:.4g}" for cost in costs))
        tables.append(table)
    return tables


def _who(agent: str | None, checkpoint: list[str]) -> Any:
    if (agent is None) == (not checkpoint):
        raise UsageError("expected either --agent NAME or --checkpoint DIR (repeatable)")
    if agent is not None:
        return agent
    return [Path(folder) for folder in checkpoint]


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdigit() for word in words):
        raise UsageError(f"expected --seeds as whole numbers joined by commas (0,1,2), got {text!r}")
    return [int(word) for word in words]


def _fresh_folder(suite: str, agent: str) -> Path:
    """Return ``runs/eval/SUITE-AGENT``, with a number behind it where that is taken."""
    parts = [part for part in Path(agent).parts if part not in ("/", ".", "..", "agent")]
    label = "-".join(parts[-2:]).replace(":", "-") or "agent"
    base = Path("runs") / "eval" / f"{suite}-{label}"
    found, number = base, 1
    while found.exists():
        number += 1
        found = base.with_name(f"{base.name}-{number}")
    return found


def comparisons(result: dict[str, Any]) -> list[Table]:
    """Return one table per task of a result: conditions down; success, what the control costs and return across."""
    agents = result["config"]["agents"]
    who = agents[0]["label"] + (f" and {len(agents) - 1} more checkpoints" if len(agents) > 1 else "")
    parts = {name.removeprefix("embodied_mem/"): found for name, found in result["tasks"].items()}
    if len(parts) > 1:
        parts["all tasks"] = result
    tables = []
    for name, found in parts.items():
        table = Table(title=f"{name}: {who}", title_justify="left")
        table.add_column("condition", no_wrap=True)
        for column in ("success", "agent minus control", "return", "episodes"):
            table.add_column(column, justify="right", no_wrap=True)
        for condition, metrics in {"agent": found["metrics"], **found["controls"]}.items():
            table.add_row(condition, *_cells(metrics))
        tables.append(table)
    return tables


def _cells(metrics: dict[str, Any] | None) -> list[str]:
    if metrics is None:
        return ["null", "", "", ""]
    score = metrics["return"]["mean"]
    cells = [_cell(metrics.get("success")), _cell(metrics.get("success_drop"))]
    return [*cells, "-" if score is None else f"{score:.2f}", str(metrics["return"]["n"])]


def _cell(metric: dict[str, Any] | None) -> str:
    if metric is None or metric["mean"] is None:
        return "-" if metric else ""
    if metric["low"] is None:
        return f"{metric['mean']:.2f}"
    return f"{metric['mean']:.2f} \\[{metric['low']:.2f}, {metric['high']:.2f}]"
