"""Records demonstrations of an environment or of every task of a suite, with an agent by name or a trained bundle.

A suite gives one data set per task, in a folder of its own: tasks differ in what they observe.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv

from embodied_mem import registry
from embodied_mem.agent import Agent
from embodied_mem.demonstrations.recorder import Progress, Recording, record
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.sources import Source, bundles, from_bundle, from_name
from embodied_mem.evaluation.suite import Task, load_suite, narrow


def record_demonstrations(
    what: str,
    out: str | Path,
    *,
    agent: str | None = "expert",
    checkpoint: str | Path | None = None,
    tasks: Sequence[str] | None = None,
    split: str | None = None,
    env_options: Mapping[str, Any] | None = None,
    num_envs: int | None = None,
    device: str = "auto",
    resume: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> list[dict[str, Any]]:
    """Record and return one summary per task.

    Args:
        what: a suite, or a Gymnasium id.
        out: folder of the data set; with a suite of several tasks, the folder that holds one per task.
        agent: registered name or ``module:attr``.
        checkpoint: folder of a trained agent, instead.
        tasks: tasks of the suite to record; None: all.
        split: split of the suite; None: its own.
        env_options: keyword arguments of the environments.
        num_envs: rows that step in lockstep.
        device: where a trained agent runs.
        resume: continue what is in ``out``.
        progress: see `record`.
        settings: fields of `Recording`.

    Raises:
        UsageError: bad input of any kind.
    """
    if (agent is None) == (checkpoint is None):
        raise UsageError("expected an agent or a checkpoint, one of both")
    source = from_name(str(agent)) if checkpoint is None else from_bundle(bundles(checkpoint)[0], device)
    options = {**dict(source.about.get("env_config") or {}), **(env_options or {}), **source.env_options}
    chosen = _tasks(what, tasks, split, options)
    folders = {task.name: Path(out) if len(chosen) == 1 else Path(out) / folder_name(task) for task in chosen}
    if len(set(folders.values())) < len(chosen):
        raise UsageError(f"tasks of {what!r} would share a folder: {', '.join(sorted(map(str, folders.values())))}")
    summaries = []
    for task in chosen:
        recording = Recording(env=task.env, agent=source.label, env_options=dict(task.kwargs), **settings)
        made = record(
            recording,
            _maker(source, task),
            folders[task.name],
            num_envs=num_envs,
            resume=resume,
            progress=progress,
        )
        summaries.append({"task": task.name, **made})
    return summaries


def folder_name(task: Task) -> str:
    """Return a folder for a task's data set: its name with the version last, as Minari's ids have it.

    >>> folder_name(Task("embodied_mem/Tabletop-Intercept-v0", "probe", variant="level-1"))
    'Tabletop-Intercept-level-1-v0'
    """
    short = task.env.rpartition(":")[2].removeprefix("embodied_mem/")
    head, _, version = short.rpartition("-v")
    name, number = (head, version) if version.isdigit() else (short, "0")
    plain = re.sub(r"[^-\w]+", "-", "-".join(part for part in (name, task.variant) if part))
    return f"{plain}-v{number}"


def _tasks(what: str, tasks: Sequence[str] | None, split: str | None, options: Mapping[str, Any]) -> list[Task]:
    if what in registry.names("suite"):
        return list(narrow(load_suite(what), tasks=tasks, split=split, overrides=options).tasks)
    if tasks or split:
        raise UsageError(f"--task and --split are for suites; {what!r} is none")
    return [Task(what, "probe", kwargs=dict(options))]


def _maker(source: Source, task: Task) -> Callable[[VectorEnv], Agent]:
    return lambda env: source.make(task, env)
