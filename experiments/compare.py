"""Put evaluations of the same episodes side by side in one result: the first as the agent, the others beside it.

Controls that the first was played with stay beside them.

python -m embodied_mem.experiments.compare OUT.json LABEL=RESULT.json LABEL=RESULT.json ...
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_json, read_json

SAME = ("command", "name", "seeds", "episodes")
"""Keys in which the results must agree."""


def compare(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return one result from results of `evaluate` (label -> result), whose controls are the other labels.

    Raises:
        UsageError: fewer than two results, or they are not of the same suite, tasks, seeds and number of episodes.
    """
    if len(results) < 2:
        raise UsageError(f"expected at least two results, got {list(results)}")
    (label, first), *others = results.items()
    for name, other in others:
        for key in SAME:
            if other[key] != first[key]:
                raise UsageError(f"expected {key} {first[key]!r} in {name!r} as in {label!r}, got {other[key]!r}")
        if list(other["tasks"]) != list(first["tasks"]):
            raise UsageError(f"expected tasks {list(first['tasks'])} in {name!r}, got {list(other['tasks'])}")
    tasks = {
        task: {
            **content,
            "controls": _beside(content, {name: other["tasks"][task]["metrics"] for name, other in others}),
        }
        for task, content in first["tasks"].items()
    }
    return {
        **first,
        "config": {**first["config"], "compared": {name: result["config"] for name, result in results.items()}},
        "controls": _beside(first, {name: other["metrics"] for name, other in others}),
        "tasks": tasks,
        "seconds": sum(result["seconds"] for result in results.values()),
        "env_steps": sum(result["env_steps"] or 0 for result in results.values()),
        "notes": [f"the column agent is {label!r}; all columns played the same episodes", *first["notes"]],
    }


def _beside(own: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return other columns, then the controls of the first result that none of them is named like."""
    return {**others, **{name: value for name, value in own.get("controls", {}).items() if name not in others}}


def main(arguments: Sequence[str]) -> None:
    """Read the results, write the comparison."""
    if len(arguments) < 3 or not all("=" in item for item in arguments[1:]):
        raise UsageError(f"expected OUT.json LABEL=RESULT.json LABEL=RESULT.json ..., got {list(arguments)}")
    pairs = [item.rpartition("=") for item in arguments[1:]]
    labels = [label for label, _, _ in pairs]
    if len(set(labels)) < len(labels):
        raise UsageError(f"expected every label once, got {labels}")
    missing = [path for _, _, path in pairs if not Path(path).is_file()]
    if missing:
        raise UsageError(f"no such file: {', '.join(missing)}")
    atomic_write_json(Path(arguments[0]), compare({label: read_json(Path(path)) for label, _, path in pairs}))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UsageError as error:
        sys.exit(f"error: {error}")
