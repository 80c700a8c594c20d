"""One cell of the atlas: a memory trained on a probe with a seed, played on unseen episodes, and its record.

The record is one JSON file, written whole at the end; a cell is done when it is there. Until then the cell has a seed
folder with checkpoints, from which a killed cell goes on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodied_mem._version import __version__
from embodied_mem.agent import Agent, MemoryAgent, load_agent
from embodied_mem.evaluation.casting import make_env
from embodied_mem.evaluation.controls.contract import Control
from embodied_mem.evaluation.plan import AGENT, Block
from embodied_mem.evaluation.runner import play_block
from embodied_mem.evaluation.suite import Task
from embodied_mem.experiments.memory_atlas.probes import WIDTH, Probe, find
from embodied_mem.files import atomic_write_json, read_jsonl
from embodied_mem.policies.training.config import RunConfig, run_config
from embodied_mem.policies.training.records import METRICS_FILE
from embodied_mem.policies.training.seed_run import AGENT_FOLDER, run_seed

CELLS, WORK = "cells", "work"
ROWS = 128
"""Rows that play in lockstep."""
STEP_ROWS = 16
"""Rows of the step that is timed, as in `bench memory`."""
STEP_TIMES = 30
CURVE_POINTS = 60
CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Cell:
    """One memory, one probe, one seed."""

    memory: str
    probe: str
    seed: int

    @property
    def name(self) -> str:
        """File name of the record without its ending."""
        return f"{self.memory}-{self.probe}-seed{self.seed}"

    def record_file(self, out: Path) -> Path:
        """Return where the record of this cell lies in the folder of an atlas."""
        return out / CELLS / f"{self.name}.json"


def cell_config(memory: str, probe: Probe, cpu_seconds: float) -> RunConfig:
    """Return the training run of a cell: the probe's settings, the memory's defaults at width `WIDTH`.

    Raises:
        UsageError: the memory has no such option, or the budget is not positive.
    """
    return run_config(
        {
            "env": probe.env,
            "env_config": dict(probe.train),
            "algorithm": "ppo",
            "agent": {
                "memory": memory,
                "encoder": {"out_dim": WIDTH},
                "memory_config": {"out_dim": WIDTH},
                # The heads see the latest observation, so a memory that does not pass it on loses nothing.
                "skip": True,
            },
            "minibatch": 1024,
            "epochs": 2,
            "device": "cpu",
            "stop": {"cpu_seconds": float(cpu_seconds)},
            "checkpoint": {"seconds": CHECKPOINT_SECONDS, "keep": 1},
            "log": {"tensorboard": False},
            **probe.settings,
        }
    )


def run_cell(cell: Cell, out: Path, cpu_seconds: float, episodes: int) -> dict[str, Any]:
    """Train, play and measure one cell in an initialised Ray; write its record and return it.

    Args:
        cell: which.
        out: folder of the atlas; the seed folder in it is removed once the record is written.
        cpu_seconds: budget of the training, user and system time from the first env step on. It ends with the
            iteration in which the budget is spent.
        episodes: played after the training, with the most likely actions.
    """
    began = time.perf_counter()
    probe, folder = find(cell.probe), out / WORK / cell.name
    trained = run_seed(cell_config(cell.memory, probe, cpu_seconds), cell.name, cell.seed, folder, resume=True)
    agent = load_agent(folder / AGENT_FOLDER)
    returns = play(agent, probe, episodes, cell.seed)
    mean = float(np.mean(returns))
    record = {
        "memory": cell.memory,
        "probe": cell.probe,
        "seed": cell.seed,
        "version": __version__,
        "cpu_budget": float(cpu_seconds),
        "score": probe.score(mean),
        "return": mean,
        "returns": [round(value, 6) for value in returns],
        "env_steps": int(trained["env_steps"]),
        "cpu_seconds": float(trained["cpu_seconds"]),
        "steps_per_cpu_second": trained["env_steps"] / max(trained["cpu_seconds"], 1e-9),
        "state_bytes": int(agent.module.memory.bytes_per_env()),
        "step_ms": step_ms(agent.module),
        "curve": learning_curve(read_jsonl(folder / METRICS_FILE), probe),
        "seconds": round(time.perf_counter() - began, 3),
    }
    atomic_write_json(cell.record_file(out), record)
    shutil.rmtree(folder, ignore_errors=True)
    return record


def play(agent: Agent, probe: Probe, episodes: int, seed: int = 0) -> list[float]:
    """Return the return of every one of ``episodes`` unseen episodes, in the order of their numbers.

    Evaluation seeds lie far from training seeds (`evaluation.suite.SEED_BASE`).
    """
    found: dict[int, float] = {}
    task = Task(probe.env, "probe", kwargs=dict(probe.played))
    block = Block(task, AGENT, 0, seed, range(episodes))
    with closing(make_env(task, min(episodes, ROWS))) as env:
        play_block(env, agent, Control(), block, lambda record: found.update({record["episode"]: record["return"]}))
    return [float(found[episode]) for episode in range(episodes)]


def step_ms(agent: MemoryAgent, rows: int = STEP_ROWS, times: int = STEP_TIMES) -> float:
    """Return the median milliseconds of one memory step of ``rows`` rows on this process's threads."""
    memory = agent.memory
    x = torch.zeros(rows, memory.in_dim)
    reset = torch.zeros(rows, dtype=torch.bool)
    state = memory.initial_state(rows)
    taken = []
    with torch.inference_mode():
        for turn in range(times + 5):
            began = time.perf_counter()
            _, state = memory.step(x, state, reset)
            if turn >= 5:
                taken.append(time.perf_counter() - began)
    return 1e3 * float(np.median(taken))


def learning_curve(rows: Sequence[Mapping[str, Any]], probe: Probe) -> dict[str, list[float]]:
    """Return ``cpu_seconds``, ``env_steps`` and ``score`` of at most `CURVE_POINTS` iterations, the last among them.

    The score is that of the recent training episodes, whose actions are drawn.
    """
    known = [row for row in rows if row.get("return_mean") is not None]
    chosen = np.unique(np.linspace(0, len(known) - 1, min(len(known), CURVE_POINTS)).round().astype(int))
    kept = [known[index] for index in chosen]
    return {
        "cpu_seconds": [round(float(row["cpu_seconds"]), 3) for row in kept],
        "env_steps": [int(row["env_steps"]) for row in kept],
        "score": [round(probe.score(float(row["return_mean"])), 4) for row in kept],
    }
