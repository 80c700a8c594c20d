"""Who plays what: the agents under test, the stand-ins of the controls, and which tasks and controls are possible.

All of it is settled before the first episode, so that bad input costs nothing and every shard sees the same plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

from embodied_mem import registry
from embodied_mem.envs.make import check_options, make_vec
from embodied_mem.envs.previous_action import ENTRY as PREVIOUS_ACTION
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import sources
from embodied_mem.evaluation.controls.contract import Control
from embodied_mem.evaluation.plan import AGENT
from embodied_mem.evaluation.sources import Source, Unsuited
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.policies.rows import why_not_rows

PICTURES = ("rgb", "depth", "semantic")

Bundles = str | Path | Sequence[str | Path] | None


@dataclass
class Cast:
    """Who plays each condition, and what cannot be played."""

    players: dict[str, list[Source]]
    """Condition ("agent" or a control) -> who plays it, one per checkpoint."""
    unavailable: dict[tuple[str, str], str] = field(default_factory=dict)
    """(task name, control) -> why that control is null there."""

    def reasons(self, suite: Suite) -> list[str]:
        """Return one note per control that cannot be played, tasks joined."""
        found: dict[tuple[str, str], list[str]] = {}
        for (task, control), reason in self.unavailable.items():
            found.setdefault((control, reason), []).append(task)
        return [
            f"{control} is null{'' if len(tasks) == len(suite.tasks) else ' on ' + ', '.join(tasks)}: {reason}"
            for (control, reason), tasks in found.items()
        ]


def make_env(task: Task, num_envs: int) -> VectorEnv:
    """Return the vector environment of a task, autoreset off.

    Raises:
        UsageError: the environment cannot be made, or an option is not its own.
    """
    check_options(task.env, task.kwargs)
    return make_vec(task.env, num_envs, autoreset_mode=AutoresetMode.DISABLED, **task.kwargs)


def find_agents(agent: Any, device: str) -> list[Source]:
    """Return the agents under test: one, or several checkpoints of one.

    Args:
        agent: what `evaluate` takes.
        device: where trained agents run.

    Raises:
        UsageError: there is none, or several that are not checkpoints.
    """
    items = agent if isinstance(agent, list | tuple) else [agent]
    found = [source for item in items for source in _sources(item, device)]
    if not found:
        raise UsageError("expected at least one agent, got none")
    if len(found) > 1 and any(source.folder is None for source in found):
        raise UsageError("expected one agent, or several checkpoints of one; evaluate different agents one by one")
    return found


def with_options(suite: Suite, players: Sequence[Source], options: Mapping[str, Any]) -> Suite:
    """Return the suite with the sensors that a trained agent was built for, and the user's options on top."""
    trained = dict(players[0].about.get("env_config") or {})
    tasks = []
    for task in suite.tasks:
        own = {name: trained[name] for name in (*task.agent_options, PREVIOUS_ACTION) if name in trained}
        kwargs = {**task.kwargs, **own, **options, **players[0].env_options}
        pictures = {} if set(PICTURES) & set(kwargs.get("sensors") or ()) else dict(task.view_options)
        tasks.append(replace(task, kwargs={**pictures, **kwargs}))
    return replace(suite, tasks=tuple(tasks))


def playable(suite: Suite, players: Sequence[Source], explicit: bool) -> tuple[Suite, list[str]]:
    """Return the suite with the tasks that the agents can play, and notes on what was left out.

    Args:
        suite: narrowed suite.
        players: the agents under test.
        explicit: True if the user named the tasks: each must then be playable.

    Raises:
        UsageError: no task is playable, or one that was asked for is not.
    """
    if players[0].folder is None:
        return suite, []
    kept, reasons = [], []
    for task in suite.tasks:
        with closing(make_env(task, 1)) as env:
            try:
                for source in players:
                    source.make(task, env)
                kept.append(task)
            except Unsuited as error:
                if explicit:
                    raise
                reasons.append(str(error))
    if not kept:
        raise UsageError(f"the agent fits no task of suite {suite.name!r}: {reasons[0]}")
    about = players[0].about
    at_home = [task for task in kept if _is_home(task, str(about.get("env") or ""), about.get("env_config") or {})]
    if at_home and not explicit:
        kept = at_home
    if len(kept) == len(suite.tasks):
        return suite, []
    note = f"played {len(kept)} of {len(suite.tasks)} tasks: the others are not what the agent was trained for"
    return replace(suite, tasks=tuple(kept)), [note]


def cast_controls(
    suite: Suite, agents: list[Source], controls: Mapping[str, Control], none: Bundles, device: str
) -> Cast:
    """Return who plays every condition, after trying each on its environment.

    Args:
        suite: the suite as it will be played.
        agents: the agents under test.
        controls: by name.
        none: folders of the agents without memory, or None to look beside the checkpoints.
        device: where trained agents run.

    Raises:
        UsageError: a trained agent's twin without memory is missing, or a folder holds something else.
    """
    cast = Cast({AGENT: agents})
    for name, control in controls.items():
        try:
            cast.players[name] = _stand_ins(control, agents, none, device)
        except Unsuited as error:
            cast.unavailable.update({(task.name, name): str(error) for task in suite.tasks})
    for task in suite.tasks:
        with closing(make_env(task, 2)) as env:
            for name in [name for name in controls if name in cast.players]:
                reason = _why_not(controls[name], cast.players[name], task, env)
                if reason:
                    cast.unavailable[(task.name, name)] = reason
    return cast


def _why_not(control: Control, players: Sequence[Source], task: Task, env: VectorEnv) -> str | None:
    for source in players:
        try:
            agent = source.make(task, env)
        except UsageError as error:
            return str(error)
        if control.disturbs_memory:
            memory = getattr(getattr(agent, "module", None), "memory", None)
            if "stateless" in getattr(memory, "properties", ()):
                return f"memory {source.memory!r} keeps nothing from step to step"
            reason = why_not_rows(agent.initial_state(2, seed=0), 2)
            if reason:
                return reason
    return None


def _sources(agent: Any, device: str) -> list[Source]:
    if isinstance(agent, Source):
        return [agent]
    # A folder that happens to be named like a registered agent is meant only when it is given as a path.
    if isinstance(agent, Path) or (
        isinstance(agent, str) and agent not in registry.names("agent") and Path(agent).is_dir()
    ):
        return [sources.from_bundle(folder, device) for folder in sources.bundles(agent)]
    return [sources.from_name(agent) if isinstance(agent, str) else sources.from_object(agent)]


def _stand_ins(control: Control, agents: list[Source], none: Bundles, device: str) -> list[Source]:
    """Return who plays a control: the agent's own checkpoints, its twins without memory, or a registered agent."""
    if control.stand_in == "":
        return agents
    if control.stand_in != "none":
        return [sources.from_name(control.stand_in)]
    if none is not None:
        given = [none] if isinstance(none, str | Path) else list(none)
        folders = [bundle for item in given for bundle in sources.bundles(item)]
    elif agents[0].folder is None:
        raise Unsuited(f"agent {agents[0].label!r} is not trained from a preset; give a bundle with --none DIR")
    else:
        folders = [sources.bundle_without_memory(source.folder) for source in agents if source.folder is not None]
    found = [sources.from_bundle(folder, device) for folder in dict.fromkeys(folders)]
    for source in found:
        if source.memory != "none":
            raise UsageError(f"expected an agent trained with memory 'none' in {source.folder}, got {source.memory!r}")
    return found


def _is_home(task: Task, env_id: str, trained: Mapping[str, Any]) -> bool:
    same = all(trained.get(key, task.kwargs.get(key)) == task.kwargs.get(key) for key in task.home_keys)
    return same and _short(task.env) == _short(env_id)


def _short(env_id: str) -> str:
    return env_id.rpartition(":")[2].removeprefix("embodied_mem/")
