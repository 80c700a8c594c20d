"""``popgym``: the games of POPGym (Morad et al. 2023) at every difficulty, as batched probes with the same rules.

POPGym compares mean returns (``return``); ``success`` says whether an episode was solved, as each environment defines
it. Of the memoryless successes only those that follow from the rules are stated.
"""

from __future__ import annotations

from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.registry import register

DIFFICULTIES = ("easy", "medium", "hard")
GAMES: dict[str, float | None] = {
    "RepeatPrevious": 0.0,
    "RepeatFirst": 0.25,
    "Autoencode": 0.0,
    "CountRecall": 0.0,
    "Concentration": None,
    "HigherLower": 0.0,
    "MultiarmedBandit": None,
    "Battleship": None,
    "MineSweeper": None,
    "LabyrinthExplore": 1.0,
    "LabyrinthEscape": 1.0,
    "PositionOnlyCartPole": 0.0,
    "VelocityOnlyCartPole": None,
    "NoisyPositionOnlyCartPole": 0.0,
    "PositionOnlyPendulum": None,
    "NoisyPositionOnlyPendulum": None,
}
"""Games, and the success of the best play without memory to two digits where it is known."""
ABOUT = "POPGym's games at every difficulty; returns as POPGym compares them"


@register("suite", "popgym", about=ABOUT)
def popgym() -> Suite:
    """Return the suite."""
    tasks = tuple(
        Task(
            f"embodied_mem/{game}-v0",
            "probe",
            variant=difficulty,
            kwargs={"difficulty": difficulty},
            home_keys=("difficulty",),
            chance=chance,
        )
        for game, chance in GAMES.items()
        for difficulty in DIFFICULTIES
    )
    return Suite("popgym", ABOUT, tasks, controls=("none", "wiped:2", "shuffled", "oracle"))
