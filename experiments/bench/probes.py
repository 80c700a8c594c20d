"""Bench ``probes``: steps per CPU-second of the probe environments on one core, autoreset included.

Actions are random and the rows are brought out of step first, so that resets happen at their usual rate in every step.
POPGym plays the same games beside it, one environment at a time as its users run it, when it is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from embodied_mem.envs.make import make_vec
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tmaze_passive": ("TMaze-v0", {"length": 50, "min_length": 1}),
    "tmaze_active": ("TMaze-v0", {"variant": "active", "length": 50, "min_length": 1}),
    "repeat_previous_easy": ("RepeatPrevious-v0", {"difficulty": "easy"}),
    "repeat_previous_hard": ("RepeatPrevious-v0", {"difficulty": "hard"}),
    "repeat_first_easy": ("RepeatFirst-v0", {"difficulty": "easy"}),
    "repeat_first_hard": ("RepeatFirst-v0", {"difficulty": "hard"}),
    "autoencode_easy": ("Autoencode-v0", {}),
    "count_recall_easy": ("CountRecall-v0", {}),
    "concentration_easy": ("Concentration-v0", {}),
    "higher_lower_easy": ("HigherLower-v0", {}),
    "multiarmed_bandit_easy": ("MultiarmedBandit-v0", {}),
    "battleship_easy": ("Battleship-v0", {}),
    "minesweeper_easy": ("MineSweeper-v0", {}),
    "labyrinth_explore_easy": ("LabyrinthExplore-v0", {}),
    "labyrinth_escape_easy": ("LabyrinthEscape-v0", {}),
    "position_only_cartpole_easy": ("PositionOnlyCartPole-v0", {}),
    "noisy_position_only_cartpole_easy": ("NoisyPositionOnlyCartPole-v0", {}),
    "position_only_pendulum_easy": ("PositionOnlyPendulum-v0", {}),
    "noisy_position_only_pendulum_easy": ("NoisyPositionOnlyPendulum-v0", {}),
}
PEERS = {
    "repeat_previous_easy": "popgym.envs.repeat_previous:RepeatPreviousEasy",
    "repeat_first_easy": "popgym.envs.repeat_first:RepeatFirstEasy",
    "autoencode_easy": "popgym.envs.autoencode:AutoencodeEasy",
    "count_recall_easy": "popgym.envs.count_recall:CountRecallEasy",
    "concentration_easy": "popgym.envs.concentration:ConcentrationEasy",
    "higher_lower_easy": "popgym.envs.higher_lower:HigherLowerEasy",
    "multiarmed_bandit_easy": "popgym.envs.multiarmed_bandit:MultiarmedBanditEasy",
    "battleship_easy": "popgym.envs.battleship:BattleshipEasy",
    "minesweeper_easy": "popgym.envs.minesweeper:MineSweeperEasy",
    "position_only_cartpole_easy": "popgym.envs.position_only_cartpole:PositionOnlyCartPoleEasy",
    "position_only_pendulum_easy": "popgym.envs.position_only_pendulum:PositionOnlyPendulumEasy",
}
"""Labyrinths have none: POPGym needs mazelib for them."""
SIZES = (32, 1024, 4096)


@register("bench", "probes", about="steps per core-second of the probe environments, beside POPGym's")
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Return steps per core-second of every probe and size; keys ``<probe>_<N>_steps_per_core_second``.

    Args:
        device: the probes run on the CPU whatever is asked for.
        seconds: time of one measurement, default 1.
        quick: 0.05 seconds each, not to be quoted.
    """
    span = 0.05 if quick else seconds or 1.0
    metrics: dict[str, Any] = {}
    notes = []
    began = time.perf_counter()
    best: dict[str, float] = {}
    for name, (env_id, kwargs) in CASES.items():
        for n in SIZES:
            rate, call = _rate(_stepper(env_id, n, kwargs), span)
            metrics[f"{name}_{n}_steps_per_core_second"] = metric(rate)
            metrics[f"{name}_{n}_vector_step_microseconds"] = metric(1e6 * call)
            best[name] = max(best.get(name, 0.0), rate)
    has_popgym = importlib.util.find_spec("popgym") is not None
    for name, target in PEERS.items():
        peer = _rate(_popgym_stepper(target), span)[0] if has_popgym else None
        metrics[f"{name}_popgym_steps_per_core_second"] = metric(peer)
        metrics[f"ratio_{name}_over_popgym"] = metric(None if peer is None else best[name] / peer)
    if not has_popgym:
        notes.append("popgym is not installed: its rates and the ratios are null")
    notes.append("one thread; CPU time of this process; rows out of step; resets cost time and count as no step")
    config = {"seconds": span, "sizes": list(SIZES), "quick": quick}
    return make_result("bench", "probes", config, metrics, seconds=time.perf_counter() - began, notes=notes)


def _rate(step: Callable[[], int], span: float) -> tuple[float, float]:
    """Return environment steps per CPU-second and CPU-seconds per call of ``step``, which returns how many it took."""
    for _ in range(20):
        step()
    steps, calls, began = 0, 0, time.process_time()
    while (elapsed := time.process_time() - began) < span:
        for _ in range(20):
            steps += step()
        calls += 20
    return steps / elapsed, elapsed / calls


def _stepper(env_id: str, n: int, kwargs: dict[str, Any]) -> Callable[[], int]:
    env = make_vec(env_id, n, **kwargs)
    env.reset(seed=0)
    generator = np.random.default_rng(0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    for step in range(200):
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


def _popgym_stepper(target: str) -> Callable[[], int]:
    module, _, name = target.partition(":")
    env = getattr(importlib.import_module(module), name)()
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(64)]
    count = 0

    def play() -> int:
        nonlocal count
        _, _, terminated, truncated, _ = env.step(actions[count & 63])
        count += 1
        if terminated or truncated:
            env.reset()
        return 1

    return play
