"""Bench ``train``: env steps per CPU-second of training RepeatPrevious Easy with an LSTM, against named peers.

Systems (see `train_systems`): ours on RLlib (``batched``), RLlib's own runner (``stock``: rows of 64 steps;
``stock_plus``: 65, with room for RLlib's bootstrap step; ``stock_fragment``: rows as long as the fragment), the
single-file ``yardstick``, sb3-contrib's RecurrentPPO (``sb3``). Each runs in a process of its own; blocks of all
systems of a comparison take turns, and a ratio is the median over the rounds. CPU-seconds are user and system time of
the driver and its Ray workers from the first env step to the last update of a block; start-up is printed apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied_mem.experiments.bench.timing import median_metric
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric

MODULE = "embodied_mem.experiments.bench.train_systems"
ROUNDS = 5


@dataclass(frozen=True)
class Entry:
    """One system of a comparison."""

    name: str
    """Key in the metrics."""
    system: str
    """Name in `train_systems.SYSTEMS`."""
    num_envs: int
    """Environments per runner."""
    runners: int = 0
    """Runner actors, 0 for none."""


COMPARISONS: tuple[tuple[Entry, ...], ...] = (
    (
        Entry("batched_32", "batched", 32),
        Entry("yardstick_32", "yardstick", 32),
        Entry("stock_32", "stock", 32),
        Entry("stock_plus_32", "stock_plus", 32),
        Entry("stock_fragment_32", "stock_fragment", 32),
        Entry("sb3_32", "sb3", 32),
    ),
    (Entry("batched_128", "batched", 128), Entry("yardstick_128", "yardstick", 128)),
    (Entry("batched_two_runners", "batched", 32, 2), Entry("stock_two_runners", "stock", 32, 2)),
)

RATIOS: dict[str, tuple[str, str, str]] = {
    "ratio_batched_over_yardstick_32": ("batched_32", "yardstick_32", "cpu"),
    "ratio_batched_over_yardstick_32_wall": ("batched_32", "yardstick_32", "wall"),
    "ratio_batched_over_yardstick_128": ("batched_128", "yardstick_128", "cpu"),
    "ratio_batched_over_yardstick_128_wall": ("batched_128", "yardstick_128", "wall"),
    "ratio_batched_over_stock_32": ("batched_32", "stock_32", "cpu"),
    "ratio_batched_over_stock_plus_32": ("batched_32", "stock_plus_32", "cpu"),
    "ratio_batched_over_stock_fragment_32": ("batched_32", "stock_fragment_32", "cpu"),
    "ratio_batched_over_sb3_32": ("batched_32", "sb3_32", "cpu"),
    "ratio_yardstick_over_stock_32": ("yardstick_32", "stock_32", "cpu"),
    "ratio_wall_two_runners_over_stock": ("batched_two_runners", "stock_two_runners", "wall"),
}
"""Metric -> (subject, peer, clock): env steps per second of ``subject`` over those of ``peer``."""


class Worker:
    """A training system in its own process, which trains a block on request."""

    def __init__(self, entry: Entry) -> None:
        """Start the process; `ready` waits for it."""
        self.entry = entry
        words = [sys.executable, "-m", MODULE, entry.system, str(entry.num_envs), str(entry.runners)]
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def ready(self) -> dict[str, Any]:
        """Return ``startup_seconds``, or ``error`` with the reason."""
        return self._read()

    def block(self, seconds: float) -> dict[str, float]:
        """Train for ``seconds`` of wall time; returns steps, cpu and wall seconds.

        Raises:
            RuntimeError: the system died.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        answer = self._read()
        if "error" in answer:
            raise RuntimeError(f"{self.entry.name}: {answer['error']}")
        return answer

    def stop(self) -> None:
        """End the process; its Ray ends with it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"error": f"the process ended with status {self.process.wait()}"}


@register("bench", "train", about="training throughput beside stock RLlib, a single-file loop and sb3-contrib")
def bench_train(device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Return the result object of the bench.

    Args:
        device: only the CPU is compared; another device is noted.
        seconds: wall seconds of one block (default 3).
        quick: one short round of every comparison.
    """
    began = time.perf_counter()
    block = 0.5 if quick else (3.0 if seconds is None else seconds)
    rounds = 1 if quick else ROUNDS
    notes = [f"blocks of {block} s, {rounds} rounds, systems in turns; batch 4096, minibatch 1024, 2 epochs, LSTM 128"]
    if device != "cpu":
        notes.append(f"device {device} was asked for; this bench compares CPU training only")
    metrics: dict[str, Any] = {}
    samples: dict[str, list[dict[str, float]]] = {}
    for entries in COMPARISONS:
        measured, startups, reasons = compare(entries, block, rounds)
        samples.update(measured)
        notes += reasons
        for name, value in startups.items():
            metrics[f"{name}_startup_seconds"] = metric(value)
    for name, blocks in samples.items():
        metrics[f"{name}_steps_per_cpu_second"] = median_metric(rate(blocks, "cpu"))
        metrics[f"{name}_steps_per_second"] = median_metric(rate(blocks, "wall"))
    for key, (subject, peer, clock) in RATIOS.items():
        if subject in samples and peer in samples:
            metrics[key] = median_metric(rate(samples[subject], clock) / rate(samples[peer], clock))
        else:
            metrics[key] = metric(None)
    steps = int(sum(item["steps"] for blocks in samples.values() for item in blocks))
    config = {"env": "embodied_mem/RepeatPrevious-v0", "difficulty": "easy", "block_seconds": block, "rounds": rounds}
    return make_result(
        "bench", "train", config, metrics, seconds=time.perf_counter() - began, env_steps=steps, notes=notes
    )


def compare(
    entries: tuple[Entry, ...], block: float, rounds: int
) -> tuple[dict[str, list[dict[str, float]]], dict[str, float], list[str]]:
    """Run the systems of one comparison in turns.

    Returns:
        Blocks by name (one per round), start-up seconds by name, and the reasons of those that are missing.
    """
    workers = [Worker(entry) for entry in entries]
    startups: dict[str, float] = {}
    reasons: list[str] = []
    try:
        running = []
        for worker in workers:
            answer = worker.ready()
            if "error" in answer:
                reasons.append(f"{worker.entry.name} is missing: {answer['error']}")
                continue
            startups[worker.entry.name] = answer["startup_seconds"]
            running.append(worker)
        samples: dict[str, list[dict[str, float]]] = {worker.entry.name: [] for worker in running}
        for _ in range(rounds):
            for worker in running:
                samples[worker.entry.name].append(worker.block(block))
            running.append(running.pop(0))
    finally:
        for worker in workers:
            worker.stop()
    return samples, startups, reasons


def rate(blocks: list[dict[str, float]], clock: str) -> np.ndarray:
    """Return env steps per second (rounds,) on the clock ``cpu`` or ``wall``."""
    return np.array([item["steps"] / max(item[clock], 1e-9) for item in blocks])
