"""Suites: what is played, how it is scored and which controls stand beside the score. A suite is one file of data.

    @register("suite", "my-suite")
    def my_suite() -> Suite: ...

Episodes are a set (split, seed, number): every agent and every control plays the same ones. Evaluation adds `SEED_BASE`
to the seeds that users give, so that they never name the episodes of a training run with the same small seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from embodied_mem import registry
from embodied_mem.errors import UsageError, nearest

SEED_BASE = 1_000_000_000


@dataclass(frozen=True)
class Task:
    """One environment of a suite."""

    env: str
    """Gymnasium id."""
    family: str
    """Metric family, see `families.FAMILIES`: "probe", "goal_nav", "multion", "instruction", "street", "vln"."""
    variant: str = ""
    """Tells apart tasks of one environment; part of the task's name."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    splits: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"test": {}})
    """Split name to what it adds to the keyword arguments."""
    chance: float | None = None
    """Success of the best agent without memory, where known; shown in reports."""
    success_distance: float | None = None
    """Success radius in metres, for the goal-navigation families."""
    agent_options: tuple[str, ...] = ()
    """Keyword arguments that describe the agent's sensors: taken from a trained agent's own environment."""
    view_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that make pictures for reports, used where the agent itself sees none."""
    home_keys: tuple[str, ...] = ()
    """Keyword arguments that tell for whom the task is: by default a trained agent plays those it was trained with."""
    max_steps: int | None = None
    """Steps after which an episode is cut by the runner; None: the environment ends it."""

    @property
    def name(self) -> str:
        """Key of the task in results: the id, and the variant after a colon."""
        return f"{self.env}:{self.variant}" if self.variant else self.env


@dataclass(frozen=True)
class Option:
    """An option that a suite adds to ``embodied-mem eval``; it becomes a keyword argument of the environments."""

    flag: str
    """Name on the command line, ``--some-thing``."""
    key: str
    """Keyword argument of the environments."""
    kind: type
    """``str``, ``int`` or ``float``; ``list`` for words that may be given several times."""
    about: str
    """Help text."""


@dataclass(frozen=True)
class Suite:
    """A list of tasks with their protocol."""

    name: str
    """Name on the command line."""
    about: str
    """One line for lists and reports."""
    tasks: tuple[Task, ...]
    """What is played."""
    episodes: int | None = 200
    """Episodes per task and seed; None: every item that the first task's environment lists, once."""
    seeds: tuple[int, ...] = (0,)
    """Episode-set seeds."""
    controls: tuple[str, ...] = ("none", "wiped:8", "shuffled", "oracle")
    """Controls that ``--controls`` runs."""
    split: str = "test"
    """Split that is played unless another is asked for."""
    num_envs: int = 64
    """Rows that step in lockstep."""
    options: tuple[Option, ...] = ()
    """Options on the command line beside the common ones."""
    outcomes: bool = False
    """Trace a success and a typical failure of the agent too, for reports (see `replays`)."""
    notes: tuple[str, ...] = ()
    """What goes into every result: tasks of the published suite that are left out, and why."""


def load_suite(name: str) -> Suite:
    """Return the suite registered under ``name``.

    Raises:
        UsageError: there is none; the nearest name and the list are in the message.
    """
    found = registry.get("suite", name)
    return found if isinstance(found, Suite) else found()


def narrow(
    suite: Suite,
    *,
    tasks: Sequence[str] | None = None,
    split: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Suite:
    """Return the suite with some tasks only, the keyword arguments of one split, and the user's own on top.

    Args:
        suite: the suite.
        tasks: names, or parts of names that fit at least one task; None: all.
        split: name of a split; None: the suite's own.
        overrides: keyword arguments for every environment that is left.

    Raises:
        UsageError: a task or the split does not exist.
    """
    chosen = [task for task in suite.tasks if not tasks or any(_fits(word, task) for word in tasks)]
    for word in tasks or ():
        if not any(_fits(word, task) for task in suite.tasks):
            known = [task.name for task in suite.tasks]
            raise UsageError(
                f"suite {suite.name!r} has no task {word!r}{nearest(word, known)}; tasks: {', '.join(known)}"
            )
    split = split or suite.split
    known = sorted({name for task in chosen for name in task.splits})
    if any(split not in task.splits for task in chosen):
        close = nearest(split, known)
        raise UsageError(f"suite {suite.name!r} has no split {split!r}{close}; splits: {', '.join(known)}")
    done = [replace(task, kwargs={**task.kwargs, **task.splits[split], **(overrides or {})}) for task in chosen]
    return replace(suite, tasks=tuple(done), split=split)


def _fits(word: str, task: Task) -> bool:
    short = task.name.removeprefix("embodied_mem/")
    return word in (task.name, task.env, short, *short.split(":"))
