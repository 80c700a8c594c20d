"""Every scripted walker on the street dev splits: the table of docs/suites/street.md.

python -m embodied_mem.experiments.street_baselines      # completes experiments/results/street/baselines.{json,md}

Rows that are in the file are kept; delete it to measure all anew. Needs EMBODIED_MEM_DATA. Walkers that draw play five
episode-set seeds: their figures are means with the standard deviation over seeds. Rates are times 100.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.evaluation import evaluate
from embodied_mem.files import atomic_write_json, atomic_write_text, read_json
from embodied_mem.results import machine_info

FOLDER = Path(__file__).resolve().parent / "results" / "street"
COLUMNS = ("tc", "spd", "sed", "ndtw", "sdtw", "ndtw_std", "cls", "kpa", "actions", "stopped")
COUNTS = ("spd", "actions")
"""Columns that are no rates."""
SEEDS = (0, 1, 2, 3, 4)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    suite: str
    split: str
    semantics: str
    agent: str
    max_actions: int = 55
    draws: bool = False

    @property
    def command(self) -> str:
        """The command that gives the line."""
        extra = [] if self.max_actions == 55 else [f"--max-actions {self.max_actions}"]
        extra += [f"--seeds {','.join(map(str, SEEDS))}"] if self.draws else []
        words = [f"embodied-mem eval {self.suite} --split {self.split} --semantics {self.semantics}"]
        return " ".join([*words, f"--agent {self.agent}", *extra, "--json"])


def _rows() -> list[Row]:
    rows = []
    for suite in ("touchdown", "map2seq"):
        fixed = ("stop", "forward", "forward40", "teacher", "rules")
        rows += [Row(suite, "dev_unseen", "touchdown", agent) for agent in fixed]
        if suite == "touchdown":
            rows += [Row(suite, "dev_unseen", "touchdown", name, 200) for name in ("teacher", "teacher_shortest")]
        drawn = ("random4", "random3", "junction_random")
        rows += [Row(suite, "dev_unseen", "touchdown", agent, draws=True) for agent in drawn]
        rows += [Row(suite, "dev_unseen", "velma", agent) for agent in ("forward40", "teacher", "rules")]
        rows += [Row(suite, "dev_unseen", "velma", "junction_random", draws=True)]
    return [*rows, *(Row("map2seq", "dev_seen", "touchdown", agent) for agent in ("stop", "forward", "forward40"))]


ROWS = _rows()


def measure(row: Row) -> dict[str, Any]:
    """Return the row with ``mean`` and ``deviation`` (over seeds; None for one) by column, rates times 100."""
    found = []
    for seed in SEEDS if row.draws else SEEDS[:1]:
        options = {"semantics": row.semantics, "max_actions": row.max_actions}
        result = evaluate(row.agent, row.suite, split=row.split, seeds=[seed], env_options=options, num_envs=256)
        found.append([result["metrics"][name]["mean"] for name in COLUMNS])
    scale = np.array([1.0 if name in COUNTS else 100.0 for name in COLUMNS])
    table = np.array(found) * scale
    deviation = table.std(axis=0, ddof=1).round(6).tolist() if row.draws else None
    return {
        **asdict(row),
        "command": row.command,
        "episodes": result["episodes"] * len(found),
        "mean": dict(zip(COLUMNS, table.mean(axis=0).round(6).tolist())),
        "deviation": None if deviation is None else dict(zip(COLUMNS, deviation)),
    }


def render(document: Mapping[str, Any]) -> str:
    """Return the Markdown of measured rows, one table per suite, split and semantics."""
    lines, last = [], None
    for row in document["rows"]:
        group = (row["suite"], row["split"], row["semantics"])
        if group != last:
            lines += ["", f"**`{group[0]}`, split `{group[1]}`, semantics `{group[2]}`**", ""]
            lines += [f"| agent | {' | '.join(COLUMNS)} |", "|---|" + "---:|" * len(COLUMNS)]
            last = group
        name = f"`{row['agent']}`" + ("" if row["max_actions"] == 55 else f", {row['max_actions']} actions")
        cells = [_cell(row, column) for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines).strip() + "\n"


def _cell(row: Mapping[str, Any], column: str) -> str:
    text = f"{row['mean'][column]:.2f}"
    return text if row["deviation"] is None or column != "tc" else f"{text} &plusmn; {row['deviation'][column]:.2f}"


def main(agents: Sequence[str]) -> None:
    """Measure the rows that are not on file yet (of all agents, or of some), writing both files after each."""
    path = FOLDER / "baselines.json"
    known = {row["command"]: row for row in read_json(path)["rows"]} if path.is_file() else {}
    for row in ROWS:
        if row.command not in known and (not agents or row.agent in agents):
            known[row.command] = measure(row)
            print(row.command, known[row.command]["mean"], file=sys.stderr, flush=True)
            write([known[item.command] for item in ROWS if item.command in known])


def write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write measured rows as JSON and Markdown."""
    command = "python -m embodied_mem.experiments.street_baselines"
    document = {"command": command, "machine": machine_info(), "rows": list(rows)}
    atomic_write_json(FOLDER / "baselines.json", document)
    atomic_write_text(FOLDER / "baselines.md", render(document))


if __name__ == "__main__":
    main(sys.argv[1:])
