"""`evaluate`: any agent on a suite, beside its controls, with intervals; to files that resume and merge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv

from embodied_mem.agent import PolicyAgent
from embodied_mem.devices import resolve_device
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.casting import (
    Bundles,
    Cast,
    cast_controls,
    find_agents,
    make_env,
    playable,
    with_options,
)
from embodied_mem.evaluation.controls.contract import Control, parse_control
from embodied_mem.evaluation.plan import AGENT, Block, Shard, block_size, blocks
from embodied_mem.evaluation.records import RESULT, TRACES, Record, Records, check_shards, merge_shards, open_folder
from embodied_mem.evaluation.replays import Outcomes, replay
from embodied_mem.evaluation.runner import play_block
from embodied_mem.evaluation.suite import SEED_BASE, Suite, load_suite, narrow
from embodied_mem.evaluation.summary import summarise_records
from embodied_mem.evaluation.traces import TraceWatcher, plain
from embodied_mem.files import atomic_write_json
from embodied_mem.results import make_result

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Plan:
    """Everything that is settled before the first episode."""

    suite: Suite
    cast: Cast
    controls: dict[str, Control]
    seeds: tuple[int, ...]
    episodes: int
    num_envs: int
    traces: int
    work: list[Block]
    config: dict[str, Any]
    notes: list[str]


def evaluate(
    agent: Any,
    suite: str | Suite,
    *,
    none: Bundles = None,
    tasks: Sequence[str] | None = None,
    split: str | None = None,
    env_options: Mapping[str, Any] | None = None,
    episodes: int | None = None,
    seeds: Sequence[int] | None = None,
    controls: bool | Sequence[str] = False,
    num_envs: int | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    shard: str | None = None,
    traces: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate an agent on a suite and return the result object (`results.make_result`).

    Args:
        agent: a registered name, ``module:attr``, the folder of a trained agent or of a run, an `Agent`, or a function
            of observations; a list of folders is several checkpoints of one agent (training seeds), and intervals are
            then bootstrapped over them.
        suite: registered name, or a `Suite`.
        none: folder (or one per checkpoint) of the agent trained with memory ``none``, for that control; by default it
            is looked for beside the checkpoint.
        tasks: names of the suite's tasks to play; default: those the agent was trained for, or all.
        split: split of the suite; default: the suite's own.
        env_options: keyword arguments for every environment, over those of the suite.
        episodes: episodes per task and seed.
        seeds: episode-set seeds.
        controls: True for the suite's controls, or their names (``"wiped:8"``).
        num_envs: rows that step in lockstep.
        device: where trained agents run: ``auto | cpu | cuda[:i]``.
        out: folder for config.json, episodes.jsonl, traces/ and result.json; None writes nothing.
        resume: continue what is in ``out``: finished episodes are kept, and the result is the one that an
            uninterrupted run gives.
        shard: ``i/n`` plays part i of n into a folder inside ``out``; the shard that completes the set merges it.
        traces: episodes per task and condition that are traced for reports (needs ``out``).
        progress: called with (episodes done, all episodes, what is played).

    Raises:
        UsageError: bad input of any kind; nothing is played then.
    """
    started = time.monotonic()
    part = None if shard is None else Shard.parse(shard)
    if part is not None and out is None:
        raise UsageError("expected an output folder (out) for a shard: the shards are merged there")
    plan = _plan(agent, suite, none, tasks, split, env_options, episodes, seeds, controls, num_envs, device, traces)
    root = None if out is None else Path(out)
    folder = root if root is None or part is None else root / part.folder
    if root is not None and part is not None:
        check_shards(root, part.count, plan.config, resume)
    records = Records(None) if folder is None else open_folder(folder, plan.config, resume)
    mine = plan.work if part is None else part.part(plan.work)
    try:
        env_steps = _play(plan, mine, records, progress or (lambda done, total, label: None))
    except BaseException:
        records.discard()
        raise

    def finish(rows: Sequence[Record], folder: Path | None, notes: Sequence[str] = ()) -> dict[str, Any]:
        seconds = time.monotonic() - started
        return _finish(plan, rows, folder, notes, seconds=seconds, env_steps=env_steps)

    if part is None or root is None:
        return finish(records.rows, folder)
    result = finish(records.rows, folder, [f"shard {shard}: part of an evaluation"])
    merged = merge_shards(root, part.count, plan.work, plan.config)
    if merged is None:
        return result
    return finish(merged, root, [f"merged from {part.count} shards; seconds and env_steps are those of the last one"])


def _plan(
    agent: Any,
    suite: str | Suite,
    none: Bundles,
    tasks: Sequence[str] | None,
    split: str | None,
    env_options: Mapping[str, Any] | None,
    episodes: int | None,
    seeds: Sequence[int] | None,
    controls: bool | Sequence[str],
    num_envs: int | None,
    device: str,
    traces: int,
) -> _Plan:
    chosen = load_suite(suite) if isinstance(suite, str) else suite
    seeds = tuple(chosen.seeds if seeds is None else seeds)
    _check_numbers(seeds, episodes, num_envs, traces)
    device = resolve_device(device)
    chosen = narrow(chosen, tasks=tasks, split=split)
    parsed = {name: parse_control(name) for name in _control_names(chosen, controls)}
    agents = find_agents(agent, device)
    chosen = with_options(chosen, agents, env_options or {})
    episodes = _episodes(chosen) if episodes is None else episodes
    fewest = max([1, *(control.min_rows for control in parsed.values())])
    num_envs = max(min(chosen.num_envs, episodes), fewest) if num_envs is None else num_envs
    for name, control in parsed.items():
        if num_envs < control.min_rows:
            raise UsageError(f"control {name!r} needs at least {control.min_rows} rows, got num_envs={num_envs}")
    chosen, notes = playable(chosen, agents, explicit=bool(tasks))
    cast = cast_controls(chosen, agents, parsed, none, device)
    counts = {name: len(players) for name, players in cast.players.items()}
    size = block_size(episodes, num_envs)
    work = [
        block
        for block in blocks(chosen, counts, seeds=seeds, episodes=episodes, block=size)
        if (block.task.name, block.condition) not in cast.unavailable
    ]
    config = _config(chosen, cast, list(parsed), seeds, episodes, num_envs, device)
    return _Plan(chosen, cast, parsed, seeds, episodes, num_envs, traces, work, config, notes)


def _play(plan: _Plan, work: Sequence[Block], records: Records, report: Progress) -> int:
    """Play what is not on record yet; return the environment steps taken."""
    total, done, taken = sum(len(block.episodes) for block in work), 0, 0

    def emit(record: Record) -> None:
        nonlocal done
        records.add(plain(record))
        done += 1
        report(done, total, _label(block))

    for task in plan.suite.tasks:
        left = [block for block in work if block.task.name == task.name]
        ready = [block for block in left if records.has_all(block)]
        done += sum(len(block.episodes) for block in ready)
        if len(ready) == len(left):
            continue
        with closing(make_env(task, plan.num_envs)) as env:
            for block in left:
                if block not in ready:
                    taken += _play_one(plan, block, env, records, emit)
    return taken


def _play_one(plan: _Plan, block: Block, env: VectorEnv, records: Records, emit: Callable[[Record], None]) -> int:
    watcher = None
    control = Control() if block.condition == AGENT else plan.controls[block.condition]
    agent = plan.cast.players[block.condition][block.checkpoint].make(block.task, env)
    first = block.seed == plan.seeds[0] and block.checkpoint == 0 and block.episodes.start == 0
    if records.folder is not None and plan.traces and first:
        # A replay from the observations is the episode itself only where nothing was done to the memory.
        explained = agent.module if isinstance(agent, PolicyAgent) and not control.disturbs_memory else None
        watcher = TraceWatcher(records.folder / TRACES, block, plan.traces, explained)
    outcomes = Outcomes() if watcher is not None and plan.suite.outcomes and block.condition == AGENT else None
    taken = play_block(env, agent, control, block, emit, watcher, None if outcomes is None else outcomes.keep)
    if watcher is not None and outcomes is not None:
        for record, actions in outcomes.chosen(plan.traces):
            if not replay(block, plain(record), actions, watcher):
                plan.notes.append(f"episode {record['episode']} of {_label(block)} went otherwise when played again")
    return taken


def _finish(
    plan: _Plan,
    rows: Sequence[Record],
    folder: Path | None,
    notes: Sequence[str],
    *,
    seconds: float,
    env_steps: int,
) -> dict[str, Any]:
    summary = summarise_records(plan.suite, rows, list(plan.controls), plan.cast.unavailable)
    result = plain(
        make_result(
            "eval",
            plan.suite.name,
            plan.config,
            summary["metrics"],
            seeds=plan.seeds,
            episodes=sum(row["condition"] == AGENT for row in rows),
            controls=summary["controls"],
            tasks=summary["tasks"],
            seconds=seconds,
            env_steps=env_steps,
            out=folder,
            notes=[*plan.suite.notes, *plan.notes, *plan.cast.reasons(plan.suite), *notes],
        )
    )
    if folder is not None:
        atomic_write_json(folder / RESULT, result)
    return result


def _config(
    suite: Suite,
    cast: Cast,
    controls: Sequence[str],
    seeds: Sequence[int],
    episodes: int,
    num_envs: int,
    device: str,
) -> dict[str, Any]:
    tasks = [
        {"name": task.name, "env": task.env, "kwargs": dict(task.kwargs), "family": task.family, "chance": task.chance}
        for task in suite.tasks
    ]
    return plain(
        {
            "suite": suite.name,
            "about": suite.about,
            "split": suite.split,
            "tasks": tasks,
            "agents": [{"label": source.label, **source.identity} for source in cast.players[AGENT]],
            "none": [source.identity for source in cast.players.get("none", [])],
            "controls": list(controls),
            "seeds": list(seeds),
            "seed_base": SEED_BASE,
            "episodes": episodes,
            "num_envs": num_envs,
            "device": device,
        }
    )


def _control_names(suite: Suite, controls: bool | Sequence[str]) -> list[str]:
    if isinstance(controls, bool):
        return list(suite.controls) if controls else []
    return list(dict.fromkeys([controls] if isinstance(controls, str) else controls))


def _episodes(suite: Suite) -> int:
    """Return the episodes per task and seed where the user names none."""
    if suite.episodes is not None:
        return suite.episodes
    with closing(make_env(suite.tasks[0], 1)) as env:
        return int(env.unwrapped.items)  # type: ignore[attr-defined]


def _check_numbers(seeds: Sequence[int], episodes: int | None, num_envs: int | None, traces: int) -> None:
    if not seeds or any(seed < 0 for seed in seeds) or len(set(seeds)) != len(seeds):
        raise UsageError(f"expected different seeds >= 0, got {list(seeds)}")
    for name, value, least in (("episodes", episodes, 1), ("num_envs", num_envs, 1), ("traces", traces, 0)):
        if value is not None and value < least:
            raise UsageError(f"expected {name} >= {least}, got {value}")


def _label(block: Block) -> str:
    return f"{block.task.name.removeprefix('embodied_mem/')} {block.condition}"
