"""What the street suites share: every episode of a split in its order, and the options of the command line."""

from __future__ import annotations

from embodied_mem.evaluation.suite import Option, Suite, Task

ENV = "embodied_mem/Street-v0"
SPLITS = ("dev_unseen", "dev_seen")
# Keyword arguments of the environment that describe the agent, not the task.
AGENT_OPTIONS = ("sensors", "instruction_length", "max_links", "panoramas", "semantics")
OPTIONS = (
    Option("--data", "data", str, "Your own split (FILE.jsonl or .jsonl.gz) instead of the published one."),
    Option("--semantics", "semantics", str, "Rules of motion: touchdown (default) or velma."),
    Option(
        "--max-actions", "max_actions", int, "Actions until an episode is cut (default 55; recorded rollouts: all)."
    ),
)


def street_suite(name: str, about: str) -> Suite:
    """Return the suite of a data set (``name``)."""
    task = Task(
        ENV,
        "street",
        variant=name,
        kwargs={"data": name, "style": name, "order": "listed", "record": True},
        splits={split: {"split": split} for split in SPLITS},
        agent_options=AGENT_OPTIONS,
    )
    return Suite(name, about, (task,), episodes=None, split=SPLITS[0], options=OPTIONS)
