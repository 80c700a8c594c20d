"""Bench ``sim``: frames of the House simulator per core-second and per second, beside MiniWorld and Memory Maze.

A frame is one environment step of one row as a learner gets it: action, motion, task, autoreset, 64 x 64 rgb and depth.
64 rows play House-ObjectNav in 64 generated 4-room plans of at most 40 boxes, and in the largest houses of the ProcTHOR
sample; houses are made before the clock starts. ``frames_per_second`` is wall time of 64 rows split over one process
per core, as rollout workers are; the core-second rates are CPU time of one process. Actions are a random walk: half of
them MoveAhead, the rest turns, looks and what else the task offers, and Done once in 250 steps, so that episodes last
about as long as those of an agent. The peers draw 64 x 64 too (MiniWorld rgb and depth, Memory Maze 9x9 rgb), each in
a process of its own that takes turns with ours.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.data import VARIABLE, data_folder
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.experiments.bench.timing import median_metric
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric

ENV = "House-ObjectNav-v0"
ROWS = 64
SIZE = 64
WARM_UP = 5000
"""Steps before anything is measured: the houses are made, and rows get out of step."""
LARGEST = 4
"""How many of the largest ProcTHOR houses are played."""
PEERS = {"miniworld": "sim_miniworld", "memory_maze": "sim_memory_maze"}


@register("bench", "sim", about="frames per core-second of House, beside MiniWorld and Memory Maze")
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Return the rates and ratios of the module docstring.

    Args:
        device: ``cuda`` adds the rate of the Triton renderer; else that figure is null.
        seconds: CPU-seconds of one measurement, default 2.
        quick: one round of 0.2 seconds, not to be quoted.
    """
    span, rounds = (0.2, 1) if quick else (seconds or 2.0, 5)
    began = time.perf_counter()
    notes: list[str] = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    generated = Walk()
    peers = {name: _start_peer(name, module, notes) for name, module in PEERS.items()}
    workers = [_start("sim_worker", str(ROWS // cores)) for _ in range(cores)]
    with tempfile.TemporaryDirectory() as folder:
        house_file = _largest_houses(Path(folder), notes)
        procthor = Walk(procthor=str(house_file)) if house_file else None
        rates: dict[str, list[float]] = {}
        for _ in range(rounds):
            rates.setdefault("frames_per_core_second", []).append(generated.rate(span, time.process_time))
            answers = _ask(workers, span)
            rates.setdefault("frames_per_second", []).append(sum(answer[0] for answer in answers))
            rates.setdefault("worker_core_share", []).append(float(np.mean([answer[1] for answer in answers])))
            if procthor:
                rates.setdefault("frames_per_core_second_procthor", []).append(procthor.rate(span, time.process_time))
            for name, peer in peers.items():
                if peer is not None:
                    rates.setdefault(f"{name}_frames_per_core_second", []).append(_ask([peer], span)[0][0])
    for process in (*workers, *(peer for peer in peers.values() if peer is not None)):
        process.stdin.close()  # type: ignore[union-attr]
        process.wait(timeout=60)
    metrics = {key: median_metric(np.array(values)) for key, values in rates.items()}
    ours = np.array(rates["frames_per_core_second"])
    for name in PEERS:
        key = f"{name}_frames_per_core_second"
        metrics.setdefault(key, metric(None))
        metrics[f"ratio_frames_over_{name}"] = (
            median_metric(ours / np.array(rates[key])) if key in rates else metric(None)
        )
    metrics.setdefault("frames_per_core_second_procthor", metric(None))
    metrics["boxes_per_plan"] = _boxes(generated)
    metrics["boxes_per_plan_procthor"] = _boxes(procthor) if procthor else metric(None)
    metrics["gpu_frames_per_second"] = metric(_gpu_rate(span) if device.startswith("cuda") else None)
    if not device.startswith("cuda"):
        notes.append("gpu_frames_per_second: not measured, no GPU was asked for")
    notes.append(f"frames_per_second: wall clock, {cores} processes of {ROWS // cores} rows each")
    notes.append("worker_core_share: the part of a core each of them got, below 1 where other jobs run beside them")
    config = {
        "env": ENV,
        "level": 2,
        "rooms": 4,
        "max_boxes": 40,
        "rows": ROWS,
        "size": SIZE,
        "seconds": span,
        "rounds": rounds,
        "quick": quick,
    }
    taken = time.perf_counter() - began
    return make_result("bench", "sim", config, metrics, seconds=taken, env_steps=generated.steps, notes=notes)


class Walk:
    """A random walk of all rows of one environment."""

    def __init__(self, rows: int = ROWS, **options: Any) -> None:
        settings: dict[str, Any] = {
            "level": 2,
            "sensors": ("rgb", "depth"),
            "copy": False,
            "width": SIZE,
            "height": SIZE,
        }
        if "procthor" not in options:
            settings.update(rooms=(4, 4), boxes=40, houses=ROWS)
        self.env = make_vec(ENV, rows, **settings, **options)
        self.rows = rows
        names = self.env.unwrapped.actions  # type: ignore[attr-defined]
        self.steps = 0
        share = np.array([_SHARE.get(name, 0.02) for name in names])
        draw = np.random.default_rng(0)
        self._actions = draw.choice(len(names), (1009, rows), p=share / share.sum())
        self.env.reset(seed=0)
        for _ in range(WARM_UP):
            self._step()

    def _step(self) -> None:
        self.env.step(self._actions[self.steps % len(self._actions)])
        self.steps += 1

    def rate(self, span: float, clock: Any) -> float:
        """Return frames per second of ``clock`` over about ``span`` seconds."""
        start, first = clock(), self.steps
        while (taken := clock() - start) < span:
            for _ in range(20):
                self._step()
        return (self.steps - first) * self.rows / taken


_SHARE = {"MoveAhead": 0.5, "RotateLeft": 0.2, "RotateRight": 0.2, "Done": 0.004}
"""Share of the actions of the walk; all others 0.02 each."""


def _boxes(walk: Walk) -> dict[str, Any]:
    """Return mean, least and most boxes of the plans that were played (trays included)."""
    counts = np.array([plan.num_boxes for plan in walk.env.unwrapped.library.plans])  # type: ignore[attr-defined]
    return metric(float(counts.mean()), float(counts.min()), float(counts.max()), len(counts), "range")


def _largest_houses(folder: Path, notes: list[str]) -> Path | None:
    """Write the largest houses of the sample to a file of their own and return it, None without data."""
    data = data_folder()
    source = None if data is None else data / "procthor" / "houses_sample.jsonl.gz"
    if source is None or not source.is_file():
        notes.append(f"frames_per_core_second_procthor: no data; set {VARIABLE} to the folder with procthor/")
        return None
    with gzip.open(source, "rt", encoding="utf-8") as stream:
        lines = [line for line in stream if line.strip()]
    lines.sort(key=lambda line: line.count('"assetId"'), reverse=True)
    rooms = [len(json.loads(line)["rooms"]) for line in lines[:LARGEST]]
    notes.append(f"procthor: the {LARGEST} houses with most objects, {min(rooms)} to {max(rooms)} rooms")
    target = folder / "largest.jsonl.gz"
    with gzip.open(target, "wt", encoding="utf-8") as stream:
        stream.writelines(lines[:LARGEST])
    return target


def _start(module: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"embodied_mem.experiments.bench.{module}", *arguments]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _start_peer(name: str, module: str, notes: list[str]) -> subprocess.Popen[str] | None:
    """Start a peer's process, None (and a note) where it does not come up."""
    if importlib.util.find_spec(name) is None:
        notes.append(f"{name} is not installed: its rate and ratio are null")
        return None
    process = _start(module)
    line = process.stdout.readline()  # type: ignore[union-attr]
    if not line.startswith("ready"):
        process.kill()
        process.wait()
        reason = line.strip() or "it did not start (needs an EGL library, see `embodied-mem doctor`)"
        notes.append(f"{name}: rate and ratio are null: {reason}")
        return None
    return process


def _ask(processes: list[subprocess.Popen[str]], span: float) -> list[list[float]]:
    """Have all processes measure at the same time and return the numbers each one answers, its rate first."""
    for process in processes:
        process.stdin.write(f"{span}\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    answers = []
    for process in processes:
        answer = process.stdout.readline()  # type: ignore[union-attr]
        while answer.startswith("ready"):
            answer = process.stdout.readline()  # type: ignore[union-attr]
        if not answer:
            raise UsageError("a simulator process ended while it was measured; run the bench again")
        answers.append([float(number) for number in answer.split()])
    return answers


def _gpu_rate(span: float, rows: int = 4096) -> float:
    """Return frames per second of the Triton renderer alone on generated plans, pictures left on the device."""
    import torch

    from embodied_mem.envs.house.batch import HouseWorld, WorldConfig
    from embodied_mem.envs.house.generator import generate
    from embodied_mem.envs.house.library import PlanLibrary
    from embodied_mem.envs.house.render_triton import TritonRenderer

    library = PlanLibrary()
    plans = np.array([library.add(generate(seed)) for seed in range(64)])
    world = HouseWorld(rows, library, WorldConfig(width=SIZE, height=SIZE))
    chosen = plans[np.arange(rows) % len(plans)]
    world.load(np.arange(rows), chosen)
    spots = np.array([world.free_positions(int(plan))[7 * k % 40] for k, plan in enumerate(chosen)])
    world.place(np.arange(rows), spots[:, 0], spots[:, 1], 30.0 * (np.arange(rows) % 12))
    renderer = TritonRenderer(world, ("rgb", "depth"), "cuda")
    renderer.draw()
    torch.cuda.synchronize()
    began, frames = time.perf_counter(), 0
    while time.perf_counter() - began < span:
        for _ in range(10):
            renderer.draw()
        torch.cuda.synchronize()
        frames += 10 * rows
    return frames / (time.perf_counter() - began)
