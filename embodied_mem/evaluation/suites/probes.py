"""``probes``: recall and nothing else. Memoryless play succeeds in half of the T-Mazes, in none of
RepeatPrevious and, by always naming the same suit, in a quarter of RepeatFirst.

The long T-Mazes ask for extrapolation: agents are trained on short corridors.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

DIFFICULTIES = ("easy", "medium", "hard")


@register("suite", "probes", about="T-Maze (short and long), RepeatPrevious and RepeatFirst")
def probes() -> Suite:
    """Return the suite."""
    mazes = [
        Task(
            "embodied_mem/TMaze-v0",
            "probe",
            variant=f"{variant}-{length}",
            kwargs={"variant": variant, "length": length},
            home_keys=("variant",),
            chance=0.5,
        )
        for variant in ("passive", "active")
        for length in (50, 1000)
    ]
    cards = [
        Task(
            f"embodied_mem/{name}-v0",
            "probe",
            variant=difficulty,
            kwargs={"difficulty": difficulty},
            home_keys=("difficulty",),
            chance=chance,
        )
        for name, chance in (("RepeatPrevious", 0.0), ("RepeatFirst", 0.25))
        for difficulty in DIFFICULTIES
    ]
    return Suite(
        "probes",
        "recall tasks: T-Maze, RepeatPrevious, RepeatFirst",
        tuple(mazes + cards),
        controls=("none", "wiped:2", "shuffled", "oracle"),
    )
