"""``tmaze-long``: the cue of a T-Maze over corridors far longer than any that was trained on. Memoryless play succeeds
in half of them.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

LENGTHS = (150, 1000, 9600)


@register("suite", "tmaze-long", about="T-Maze, passive and active, corridors of 150, 1000 and 9600 steps")
def tmaze_long() -> Suite:
    """Return the suite."""
    return Suite(
        "tmaze-long",
        "T-Maze at lengths far beyond those of training",
        tuple(
            Task(
                "embodied_mem/TMaze-v0",
                "probe",
                variant=f"{variant}-{length}",
                kwargs={"variant": variant, "length": length},
                home_keys=("variant",),
                chance=0.5,
            )
            for variant in ("passive", "active")
            for length in LENGTHS
        ),
        controls=("none", "wiped:2", "shuffled", "oracle"),
    )
