"""Bench ``street``: steps per CPU-second of the street environment on one core, autoreset included.

Actions are random (mostly forward), the observation is ``vector`` (no text tokens), in the made-up town
for both rules of motion, and on the Touchdown graph where the data are there. ``single`` is the plain Gymnasium
environment, one step at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np

from embodied_mem.envs.make import make_vec
from embodied_mem.envs.registration import HOME, NAMESPACE
from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric

ENV = "Street-v0"
SIZES = (64, 1024, 4096)
CASES: dict[str, dict[str, Any]] = {
    "town_touchdown": {"semantics": "touchdown"},
    "town_velma": {"semantics": "velma"},
    "manhattan_touchdown": {"data": "touchdown", "semantics": "touchdown"},
}


@register("bench", "street", about="steps per core-second of the street environment")
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Return steps per core-second; keys ``<case>_<N>_steps_per_core_second`` and ``..._single_...``.

    Args:
        device: the environment runs on the CPU whatever is asked for.
        seconds: time of one measurement, default 1.
        quick: 0.05 seconds each, not to be quoted.
    """
    span = 0.05 if quick else seconds or 1.0
    metrics: dict[str, Any] = {}
    notes = ["one thread; CPU time of this process; sensor 'vector'; resets cost time and count as no step"]
    began = time.perf_counter()
    for name, options in CASES.items():
        kwargs = {"sensors": ("vector",), **options}
        try:
            stepper = _single(kwargs)
        except UsageError as error:
            notes.append(f"{name} is null: {error}")
            stepper = None
        metrics[f"{name}_single_steps_per_core_second"] = metric(None if stepper is None else _rate(stepper, span))
        for n in SIZES:
            rate = None if stepper is None else _rate(_batch(n, kwargs), span)
            metrics[f"{name}_{n}_steps_per_core_second"] = metric(rate)
    config = {"seconds": span, "sizes": list(SIZES), "quick": quick}
    return make_result("bench", "street", config, metrics, seconds=time.perf_counter() - began, notes=notes)


def _rate(step: Callable[[], int], span: float) -> float:
    """Return environment steps per CPU-second of ``step``, which returns how many it took."""
    for _ in range(60):
        step()
    steps, began = 0, time.process_time()
    while (elapsed := time.process_time() - began) < span:
        for _ in range(20):
            steps += step()
    return steps / elapsed


def _actions(n: int) -> list[np.ndarray]:
    drawn = np.random.default_rng(0)
    return [drawn.choice(4, n, p=[0.7, 0.14, 0.14, 0.02]) for _ in range(64)]


def _batch(n: int, kwargs: dict[str, Any]) -> Callable[[], int]:
    env, actions = make_vec(ENV, n, **kwargs), _actions(n)
    env.reset(seed=0)
    count = waiting = 0

    def play() -> int:
        nonlocal count, waiting
        _, _, terminated, truncated, _ = env.step(actions[count & 63])
        count += 1
        played, waiting = n - waiting, int(np.count_nonzero(terminated | truncated))
        return played

    return play


def _single(kwargs: dict[str, Any]) -> Callable[[], int]:
    env = gymnasium.make(f"{HOME}:{NAMESPACE}/{ENV}", disable_env_checker=True, **kwargs)
    actions = [int(row[0]) for row in _actions(1)]
    env.reset(seed=0)
    count = 0

    def play() -> int:
        nonlocal count
        _, _, terminated, truncated, _ = env.step(actions[count & 63])
        count += 1
        if terminated or truncated:
            env.reset()
        return 1

    return play
