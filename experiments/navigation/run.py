"""Play the navigation comparison; cells that are there are kept, so it can be made in parts.

What the result file holds of as many episodes and steps stands until it is played again, also by other seeds: ``n``
counts the episodes of all of them.

python -m embodied_mem.experiments.navigation.run [--players 'a|b'] [--episodes 100] [--steps 1200000] [--seeds 0]
                                                  [--work runs/navigation] [--minutes M] [--out FILE]

Registered agents are played as they are. Trained ones are the preset ``house-multi-object-nav`` with another memory, as
many steps of PPO in one-room houses as that preset has, and are played on every task without further training; only
instructions are played by agents of their own, as many steps of ``house-instruction-following``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.evaluation.evaluate import evaluate
from embodied_mem.experiments.navigation.plan import (
    CONTROLLED,
    CORE,
    FOLLOW_PRESET,
    MAP,
    PLAYERS,
    PRESET,
    SETTINGS,
    Player,
    Setting,
)
from embodied_mem.experiments.training import train
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.policies.training.run import RUN_FILE
from embodied_mem.policies.training.seed_run import RESULT_FILE
from embodied_mem.results import make_result

FILE = Path(__file__).resolve().parents[1] / "results" / "navigation.json"

Cells = dict[str, dict[str, dict[str, Any]]]
"""Setting -> player (or "player, control") -> metrics."""


def find_agent(player: Player, preset: str, seeds: Sequence[int], steps: int, work: Path) -> Any:
    """Return what plays a row: the name of a registered agent, or folders of trained ones, trained where missing."""
    if player.agent is not None:
        return player.agent
    run = work / folder_of(player.name) / ("run" if preset == PRESET else f"run-{preset}")
    budget: dict[str, Any] = {"stop.env_steps": steps, "stop.seconds": None, "anneal_steps": steps}
    budget |= {"log.tensorboard": False}
    for seed in seeds:
        if not (run / f"seed{seed}" / RESULT_FILE).is_file():
            train(preset, seeds=[seed], out=run, resume=(run / RUN_FILE).is_file(), **budget, **player.changes)
    return [run / f"seed{seed}" for seed in seeds]


def play(player: Player, setting: Setting, agent: Any, episodes: int, work: Path) -> dict[str, Any]:
    """Return the result of a cell, kept in ``work``."""
    out = cell_of(player, setting, work)
    if (out / RESULT_FILE).is_file():
        return read_json(out / RESULT_FILE)
    controls: Any = list(player.controls) if setting.name in CONTROLLED else False
    options = {"episodes": episodes, "controls": controls, "num_envs": 25, "device": "cpu", "traces": 0}
    return evaluate(agent, setting.suite(), out=out, resume=out.exists(), **options)


def table(cells: Mapping[str, Mapping[str, dict[str, Any]]], config: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the result of cells: the map's metrics stand first in every task, the others beside it."""
    tasks, figures = {}, {}
    for name, rows in cells.items():
        main = rows.get(MAP, {})
        tasks[name] = {"metrics": main, "controls": {row: item for row, item in rows.items() if row != MAP}}
        for row, item in rows.items():
            if "spl" in item:
                figures[f"spl: {row}: {name}"] = item["spl"]
    return make_result(
        "experiment",
        "when does a map pay?",
        config,
        figures,
        seeds=config["seeds"],
        tasks=tasks,
        seconds=seconds,
        notes=[
            *verdicts(cells),
            "small: one room, 200 steps (100 for 1 goal); large: two or three rooms, 500 steps; goals of three kinds",
            *training_seeds(cells, config["episodes"]),
            f"trained rows: {config['steps']:,} steps of PPO with 3 goals in small houses, played as they are",
            f"instruction of 3: 3 landmarks told at once; trained rows: {config['steps']:,} steps of `{FOLLOW_PRESET}`",
            "oracle map: knows the house and the place of every goal; octree and grid: nothing learnt",
        ],
    )


def training_seeds(cells: Mapping[str, Mapping[str, dict[str, Any]]], episodes: int) -> list[str]:
    """Return a line per task: how many training seeds each trained row holds, the first ones of ``--seeds``."""
    lines, trained = [], [item.name for item in PLAYERS if item.agent is None]
    for name, rows in cells.items():
        held = [f"{row} {rows[row]['spl']['n'] // episodes}" for row in trained if "spl" in rows.get(row, {})]
        if held:
            lines.append(f"{name}: training seeds: {', '.join(held)}")
    return lines


def verdicts(cells: Mapping[str, Mapping[str, dict[str, Any]]]) -> list[str]:
    """Return a line per task with an instruction or four goals or more: is the map's SPL above all sequence memories'?

    Intervals of 95 %: "apart" where the lowest value of the map lies above the highest of every sequence memory.
    """
    lines, sequences = [], [item.name for item in PLAYERS if item.kind == "sequence"]
    for name, rows in cells.items():
        others = {row: rows[row]["spl"] for row in sequences if row in rows}
        if MAP not in rows or not others or any(f"{count} goal" in name for count in (1, 2, 3)):
            continue
        best = max(others, key=lambda row: others[row]["high"])
        apart = rows[MAP]["spl"]["low"] > others[best]["high"]
        missing = f"; not played: {', '.join(set(sequences) - set(others))}" if len(others) < len(sequences) else ""
        lines.append(
            f"{name}: SPL of {MAP} {'apart from' if apart else 'not apart from'} {len(others)} sequence "
            f"memories, the highest {best}{missing}"
        )
    return lines


def cell_of(player: Player, setting: Setting, work: Path) -> Path:
    """Return the folder of a cell."""
    return work / folder_of(player.name) / folder_of(setting.name)


def folder_of(name: str) -> str:
    """Return a name as a folder."""
    return name.replace(",", "").replace(":", "-").replace("+", "and").replace(" ", "-")


def read_cells(file: Path, episodes: int, steps: int) -> tuple[Cells, dict[str, Any]]:
    """Return the cells of a result file, and the result; nothing of one with other episodes or steps."""
    cells: Cells = {item.name: {} for item in SETTINGS}
    found = read_json(file) if file.is_file() else {}
    if (found.get("config", {}).get("episodes"), found.get("config", {}).get("steps")) != (episodes, steps):
        return cells, {}
    for name, task in found["tasks"].items():
        cells[name] = {**({MAP: task["metrics"]} if task["metrics"] else {}), **task["controls"]}
    return cells, found


def in_order(rows: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return rows in the order of the players, those of controls after all of them."""
    names = [item.name for item in PLAYERS]
    return {row: rows[row] for row in sorted(rows, key=lambda row: names.index(row) if row in names else len(names))}


def main(words: Sequence[str] | None = None) -> None:
    """Play what is missing and write the file after every row; rows that do not fit the time are left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--players", default="all", help="labels joined by a bar")
    parser.add_argument("--settings", default="|".join(CORE), help="labels joined by a bar, or all")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=1_200_000)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--work", type=Path, default=Path("runs/navigation"))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="CPU minutes after which no cell is begun")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(words)
    seeds = [int(word) for word in given.seeds.split(",")]
    players = [item for item in PLAYERS if given.players == "all" or item.name in given.players.split("|")]
    settings = [item for item in SETTINGS if given.settings == "all" or item.name in given.settings.split("|")]
    cells, before = read_cells(given.out, given.episodes, given.steps)
    began, seconds = time.process_time(), float(before.get("seconds", 0.0))
    for player in players:
        agents: dict[str, Any] = {}
        for setting in settings:
            done = (cell_of(player, setting, given.work) / RESULT_FILE).is_file()
            if not done and time.process_time() - began >= 60 * given.minutes:
                continue
            if not done and setting.preset not in agents:
                agents[setting.preset] = find_agent(player, setting.preset, seeds, given.steps, given.work)
            found = play(player, setting, agents.get(setting.preset), given.episodes, given.work)
            seconds += 0.0 if done and player.name in cells[setting.name] else found["seconds"]
            cells[setting.name][player.name] = found["metrics"]
            for control, item in found["controls"].items():
                if item:
                    cells[setting.name][f"{player.name}, {control}"] = item
            spl = found["metrics"]["spl"]
            print(player.name, "|", setting.name, "| spl", spl["mean"], spl["low"], spl["high"], flush=True)
        command = f"python -m embodied_mem.experiments.navigation.run --episodes {given.episodes} --steps {given.steps}"
        config = {
            "preset": PRESET,
            "by_setting": True,
            "seeds": sorted({*seeds, *before.get("seeds", ())}),
            "episodes": given.episodes,
            "steps": given.steps,
        }
        command += f" --seeds {','.join(map(str, config['seeds']))}"
        shown = {name: in_order(rows) for name, rows in cells.items() if rows}
        result = table(shown, {**config, "command_line": command}, seconds)
        left = {p.name: sum(p.name not in cells[item.name] for item in settings) for p in PLAYERS}
        if any(left.values()):
            cells_left = "; ".join(f"{name} on {count} tasks" for name, count in left.items() if count)
            result["notes"].append(f"not played yet: {cells_left}")
        atomic_write_json(given.out, result)


if __name__ == "__main__":
    main()
