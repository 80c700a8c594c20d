"""Turn pytest's JUnit files into a committed result: how many tests passed, and how long each long form took.

python -m embodied_mem.experiments.test_report FILE.xml...         # writes experiments/results/test_full.json

Several files are parts of one run; a test that is in more than one counts as in the last.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.experiments.tables import RESULTS, update
from embodied_mem.files import atomic_write_json
from embodied_mem.results import make_result, metric

LONGEST = 25
"""Tests that are named, the slowest first."""


def report(*paths: Path) -> dict[str, Any]:
    """Return the result object of the JUnit files of a run.

    Raises:
        UsageError: one is not there or is none.
    """
    named: dict[tuple[str | None, str | None], ElementTree.Element] = {}
    for path in paths:
        try:
            found = ElementTree.parse(path).getroot().iter("testcase")
            named |= {(case.get("classname"), case.get("name")): case for case in found}
        except (OSError, ElementTree.ParseError) as error:
            raise UsageError(f"expected a JUnit file of pytest at {path}: {error}") from error
    cases = list(named.values())
    kinds = [_kind(case) for case in cases]
    metrics: dict[str, Any] = {kind: metric(kinds.count(kind)) for kind in ("passed", "failed", "skipped")}
    slowest = sorted(cases, key=_seconds, reverse=True)[:LONGEST]
    for case in slowest:
        metrics[f"{case.get('classname')}::{case.get('name')}_seconds"] = metric(round(_seconds(case), 1))
    notes = sorted({_reason(case) for case, kind in zip(cases, kinds) if kind == "skipped"})
    config = {"command_line": "make test-full"}
    joined = [f"joined from {len(paths)} files: every test counts as in the last one that has it"] if paths[1:] else []
    return make_result(
        "test",
        "full",
        config,
        metrics,
        seconds=sum(_seconds(case) for case in cases),
        notes=["seconds are those of all tests, one after another", *joined, *(f"skipped: {note}" for note in notes)],
    )


def _kind(case: ElementTree.Element) -> str:
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def _seconds(case: ElementTree.Element) -> float:
    return float(case.get("time") or 0.0)


def _reason(case: ElementTree.Element) -> str:
    skipped = case.find("skipped")
    return "" if skipped is None else str(skipped.get("message"))


def main(arguments: list[str]) -> int:
    """Write the result and its table; return the exit code: 0, 1 when a test failed, 2 on bad input."""
    if not arguments:
        print("usage: python -m embodied_mem.experiments.test_report FILE.xml...", file=sys.stderr)
        return 2
    try:
        result = report(*map(Path, arguments))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    atomic_write_json(RESULTS / "test_full.json", result)
    update()
    return int(result["metrics"]["failed"]["mean"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
