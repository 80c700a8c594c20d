"""Bench ``tabletop``: control steps of the tabletop tasks per core-second, beside Meta-World, and frames.

A control step of ours is 1/20 s: ten physics steps of 5 ms, arm kinematics, task and state observation, autoreset
included. One of Meta-World's (MT1 pick-place-v3, its own settings) is 1/80 s: five physics steps of 2.5 ms. Both play
random actions, in one process, in turns, on one thread; the clock is the CPU time of the process. A frame is a control
step with one 64 x 64 rgb and depth picture of the front camera, drawn with OpenGL in software where there is no GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import gymnasium
import numpy as np

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.experiments.bench.timing import median_metric
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric

TOUCH, CARRY = "Tabletop-RememberColor3-v0", "Tabletop-PutBlockBack-v0"
CASES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "touch_1": (TOUCH, 1, ("vector",)),
    "touch_16": (TOUCH, 16, ("vector",)),
    "carry_1": (CARRY, 1, ("vector",)),
    "carry_16": (CARRY, 16, ("vector",)),
}
PICTURES = ("rgb", "depth")
RATE, PEER_RATE = 20, 80
"""Control steps per simulated second: ours, Meta-World's."""


@register("bench", "tabletop", about="control steps per core-second of the tabletop tasks, beside Meta-World")
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Return the rates and ratios of the module docstring; ``<case>_<N>`` has N rows in lockstep.

    Args:
        device: physics runs on the CPU whatever is asked for.
        seconds: CPU-seconds of one measurement, default 1.
        quick: one round of 0.1 seconds, not to be quoted.

    Raises:
        UsageError: MuJoCo or the arm's package is missing.
    """
    span, rounds = (0.1, 1) if quick else (seconds or 1.0, 5)
    began, notes = time.perf_counter(), ["random actions; one thread; CPU time of this process"]
    with ExitStack() as stack:
        players = {f"{name}_steps_per_core_second": _ours(stack, *case) for name, case in CASES.items()}
        try:
            players["frames_per_core_second"] = _ours(stack, TOUCH, 4, ("vector", *PICTURES))
        except UsageError as error:
            notes.append(f"frames_per_core_second is null: {error}")
        peer = _metaworld(stack, notes)
        if peer is not None:
            players["metaworld_steps_per_core_second"] = peer
        rates: dict[str, list[float]] = {name: [] for name in players}
        for _ in range(rounds):
            for name, step in players.items():
                rates[name].append(_rate(step, span))
    metrics = {name: median_metric(np.array(values)) for name, values in rates.items()}
    metrics.setdefault("frames_per_core_second", metric(None))
    metrics.setdefault("metaworld_steps_per_core_second", metric(None))
    for name in CASES:
        ratio = None
        if peer is not None:
            ours = np.array(rates[f"{name}_steps_per_core_second"])
            ratio = ours / np.array(rates["metaworld_steps_per_core_second"])
        metrics[f"ratio_{name}_steps_over_metaworld"] = metric(None) if ratio is None else median_metric(ratio)
        simulated = None if ratio is None else median_metric(ratio * PEER_RATE / RATE)
        metrics[f"ratio_{name}_simulated_seconds_over_metaworld"] = simulated or metric(None)
    config = {"seconds": span, "rounds": rounds, "quick": quick, "control_hz": RATE, "substeps": 10, "timestep": 0.005}
    return make_result("bench", "tabletop", config, metrics, seconds=time.perf_counter() - began, notes=notes)


def _ours(stack: ExitStack, name: str, rows: int, sensors: tuple[str, ...]) -> Callable[[], int]:
    env = stack.enter_context(closing(make_vec(name, rows, sensors=sensors)))
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (257, rows, 7)).astype(np.float32)
    count = 0

    def step() -> int:
        nonlocal count
        env.step(actions[count % len(actions)])
        count += 1
        return rows

    for _ in range(5):
        step()
    return step


def _metaworld(stack: ExitStack, notes: list[str]) -> Callable[[], int] | None:
    try:
        import metaworld  # noqa: F401  registers its ids
    except ImportError as error:
        notes.append(f"metaworld: its rate and the ratios are null: {error}")
        return None
    env = stack.enter_context(closing(gymnasium.make("Meta-World/MT1", env_name="pick-place-v3", seed=0)))
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (257, 4)).astype(np.float32)
    count = 0

    def step() -> int:
        nonlocal count
        _, _, terminated, truncated, _ = env.step(actions[count % len(actions)])
        count += 1
        if terminated or truncated:
            env.reset()
        return 1

    for _ in range(5):
        step()
    return step


def _rate(step: Callable[[], int], span: float) -> float:
    start, done = time.process_time(), 0
    while (taken := time.process_time() - start) < span:
        done += step()
    return done / taken
