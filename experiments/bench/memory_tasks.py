"""Bench ``memory_tasks``: steps per CPU-second of the memory tasks on one core, autoreset included.

Random actions; rows are brought out of step first, so that resets happen at their usual rate. N = 1024 for vectors, 128
for images (a batch of pictures that stays in the cache). Cost model: a vector step is a fixed number of array passes,
some 100 microseconds plus 0.05 to 0.4 per row; an image step is bound by the bytes it writes, 21 to 29 kB per frame.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from embodied_mem.envs.make import make_vec
from embodied_mem.experiments.bench.probes import _rate
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "associative_recall": ("AssociativeRecall-v0", {}),
    "n_parity": ("NParity-v0", {}),
    "delayed_match": ("DelayedMatch-v0", {}),
    "ballet_2_delay16": ("Ballet-v0", {"levels": "2_delay16"}),
    "ballet_8_delay48": ("Ballet-v0", {"levels": "8_delay48"}),
    "ballet_8_delay48_pixels": ("Ballet-v0", {"levels": "8_delay48", "obs": "pixels"}),
    "endless_tmaze": ("EndlessTMaze-v0", {}),
    "color_cubes_medium": ("ColorCubes-v0", {}),
    "color_cubes_extreme": ("ColorCubes-v0", {"level": "extreme"}),
    "grammar_stream": ("GrammarStream-v0", {}),
    "worm": ("WorM-v0", {}),
    "minigrid_memory": ("MiniGridMemory-v0", {}),
    "minigrid_memory_pixels": ("MiniGridMemory-v0", {"obs": "pixels"}),
    "mystery_path": ("MysteryPath-v0", {"obs": "vector"}),
    "mystery_path_pixels": ("MysteryPath-v0", {"obs": "pixels"}),
    "endless_mystery_path": ("EndlessMysteryPath-v0", {"obs": "vector"}),
    "endless_mystery_path_pixels": ("EndlessMysteryPath-v0", {"obs": "pixels"}),
    "mortar_mayhem": ("MortarMayhem-v0", {"obs": "vector"}),
    "mortar_mayhem_pixels": ("MortarMayhem-v0", {"obs": "pixels"}),
    "endless_mortar_mayhem": ("EndlessMortarMayhem-v0", {"obs": "vector"}),
    "endless_mortar_mayhem_pixels": ("EndlessMortarMayhem-v0", {"obs": "pixels"}),
    "free_mystery_path": ("FreeMysteryPath-v0", {"obs": "vector"}),
    "free_mystery_path_pixels": ("FreeMysteryPath-v0", {"obs": "pixels"}),
    "free_mortar_mayhem": ("FreeMortarMayhem-v0", {"obs": "vector"}),
    "free_mortar_mayhem_pixels": ("FreeMortarMayhem-v0", {"obs": "pixels"}),
    "searing_spotlights": ("SearingSpotlights-v0", {"obs": "vector"}),
    "searing_spotlights_pixels": ("SearingSpotlights-v0", {"obs": "pixels"}),
    "endless_searing_spotlights": ("EndlessSearingSpotlights-v0", {"obs": "vector"}),
    "endless_searing_spotlights_pixels": ("EndlessSearingSpotlights-v0", {"obs": "pixels"}),
}


@register("bench", "memory_tasks", about="steps per core-second of the memory tasks")
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Return steps per core-second of every task; keys ``<task>_steps_per_core_second``.

    Args:
        device: the tasks run on the CPU whatever is asked for.
        seconds: time of one measurement, default 0.5.
        quick: 0.05 seconds each, not to be quoted.
    """
    span = 0.05 if quick else seconds or 0.5
    began = time.perf_counter()
    metrics: dict[str, Any] = {}
    for name, (env_id, kwargs) in CASES.items():
        n = 128 if kwargs.get("obs") == "pixels" else 1024
        rate, call = _rate(_stepper(env_id, n, kwargs), span)
        metrics[f"{name}_{n}_steps_per_core_second"] = metric(rate)
        metrics[f"{name}_{n}_vector_step_microseconds"] = metric(1e6 * call)
    notes = ["one thread; CPU time of this process; rows out of step; resets cost time and count as no step"]
    config = {"seconds": span, "quick": quick}
    return make_result("bench", "memory_tasks", config, metrics, seconds=time.perf_counter() - began, notes=notes)


def _stepper(env_id: str, n: int, kwargs: dict[str, Any]) -> Callable[[], int]:
    env = make_vec(env_id, n, **kwargs)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    generator = np.random.default_rng(0)
    for step in range(100):
        late = generator.random(n) < 0.02
        env.step(actions[step % 64])
        if late.any():
            env.reset(options={"reset_mask": late})
    count = waiting = 0

    def play() -> int:
        nonlocal count, waiting
        _, _, terminated, truncated, _ = env.step(actions[count & 63])
        count += 1
        played, waiting = n - waiting, int(np.count_nonzero(terminated | truncated))
        return played

    return play
