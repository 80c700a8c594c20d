"""TIDEE and its ablations on generated houses: the table of docs/training/tidee.md.

python -m embodied_mem.experiments.tidee [--houses 60] [--test 30] [--steps 200] [--out FILE]

The placement network is trained twice, with and without the memory graph; every row tidies the same messes of unseen
houses.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.envs.house.generator import GeneratorConfig
from embodied_mem.envs.house.sources import GeneratedHouses
from embodied_mem.evaluation.statistics import summarise
from embodied_mem.files import atomic_write_json
from embodied_mem.policies.tidee.scene import scene_of
from embodied_mem.policies.tidee.tidy import TidyConfig, tidy
from embodied_mem.policies.tidee.training import Tidee, TideeConfig
from embodied_mem.results import make_result

FILE = Path(__file__).resolve().parent / "results" / "tidee.json"
HOUSE = GeneratorConfig(rooms=(3, 4), boxes=60, clutter=0.9)
METRICS = ("found", "precision", "placed_right", "walked", "visits", "prop_fixed", "energy_prop")
ROWS: dict[str, tuple[bool, dict[str, bool]]] = {
    "tidee": (True, {}),
    "no memory graph": (False, {}),
    "random receptacle": (True, {"random_receptacle": True}),
    "no search": (True, {"no_search": True}),
}
"""Name of a row -> whether its networks have the memory graph, and what is switched in the task."""


def measure(houses: int, test: int, steps: int, width: int, seed: int = 0) -> dict[str, Any]:
    """Return the result: the first row as the agent, the ablations as its controls.

    Args:
        houses: generated houses to remember and learn from.
        test: unseen houses, one mess each.
        steps: updates of each network.
        width: features of the networks.
        seed: of training and messes.
    """
    learned = GeneratedHouses(HOUSE, "train", houses)
    scenes = [scene_of(learned.plan(k)) for k in range(houses)]
    unseen = GeneratedHouses(HOUSE, "test", test)
    plans = [plan for plan in (unseen.plan(k) for k in range(test)) if len(scene_of(plan).items)]
    began = time.perf_counter()
    full = Tidee.fit(scenes, TideeConfig(width=width, steps=steps, seed=seed))
    without = Tidee.fit(scenes, TideeConfig(width=width, steps=steps, seed=seed, use_memory=False), ("placement",))
    # The graph concerns the placement network alone; detector and search are the same in every row.
    without.misplaced, without.search = full.misplaced, full.search
    trained = {True: full, False: without}
    seconds = time.perf_counter() - began
    rows: dict[str, Any] = {}
    for name, (memory, switches) in ROWS.items():
        played = [tidy(plan, trained[memory], TidyConfig(**switches), seed=k) for k, plan in enumerate(plans)]
        values = {key: np.array([score[key] for score in played], dtype=np.float64) for key in METRICS}
        rows[name] = {key: summarise([[value]], "mean") for key, value in values.items()}
    (first, own), *others = rows.items()
    config = {"houses": houses, "test": test, "steps": steps, "width": width}
    return make_result(
        "experiment",
        first,
        {
            **config,
            "command_line": "python -m embodied_mem.experiments.tidee "
            + " ".join(f"--{name} {value}" for name, value in config.items()),
        },
        own,
        seeds=[seed],
        episodes=len(plans),
        controls=dict(others),
        tasks={"tidy generated houses": {"metrics": own, "controls": dict(others)}},
        seconds=seconds,
        notes=["seconds are those of training; every column tidies the same messes with the same detector"],
    )


def main(words: Sequence[str] | None = None) -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--houses", type=int, default=60)
    parser.add_argument("--test", type=int, default=30)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(words)
    result = measure(given.houses, given.test, given.steps, given.width)
    atomic_write_json(given.out, result)
    for name, row in {result["name"]: result["metrics"], **result["controls"]}.items():
        print(name, {key: None if cell["mean"] is None else round(cell["mean"], 3) for key, cell in row.items()})


if __name__ == "__main__":
    main()
