"""Oracles of the memory tasks: they read the hidden state and earn the best return."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from embodied_mem.policies.scripted.probes import ProbeOracle
from embodied_mem.registry import register

STREAMS = ("AssociativeRecall", "NParity", "DelayedMatch", "GrammarStream", "WorM")


@register(
    "agent",
    "stream-oracle",
    oracle_for=tuple(f"embodied_mem/{name}-v0" for name in STREAMS),
    about="best play of the stream probes",
)
class StreamOracle(ProbeOracle):
    """Gives the right answer where one is asked."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the answer, 0 where nothing is asked."""
        return np.maximum(facts["stream_answer"], 0)


@register("agent", "ballet-oracle", oracle_for=("embodied_mem/Ballet-v0",), about="best play of Ballet")
class BalletOracle(ProbeOracle):
    """Walks straight from the middle to the dancer that is asked for."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the king move towards the target; all spots lie on straight lines from the middle."""
        way = np.sign(facts["ballet_target"] - facts["ballet_agent"])
        return _ACTION_OF_MOVE[way[:, 0] + 1, way[:, 1] + 1]


# By row and column of the move, each -1, 0, 1: N, NE, E, ... are 0, 1, 2, ...; no move at all gives N.
_ACTION_OF_MOVE = np.array([[7, 0, 1], [6, 0, 2], [5, 4, 3]])


@register(
    "agent", "endless-tmaze-oracle", oracle_for=("embodied_mem/EndlessTMaze-v0",), about="best play of EndlessTMaze"
)
class EndlessTMazeOracle(ProbeOracle):
    """Walks to each junction and takes the turn of its cue."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the right turn at a junction, else forward (0)."""
        return np.where(facts["endless_x"] == facts["endless_junction"], facts["endless_turn"], 0)


@register("agent", "color-cubes-oracle", oracle_for=("embodied_mem/ColorCubes-v0",), about="best play of ColorCubes")
class ColorCubesOracle(ProbeOracle):
    """Walks to the target's present cell, first along the column."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return 0 up, 1 right, 2 down, 3 left."""
        rows = np.arange(len(facts["cubes_target"]))
        way = facts["cubes_places"][rows, facts["cubes_target"]] - facts["cubes_agent"]
        return np.where(way[:, 0] != 0, np.where(way[:, 0] < 0, 0, 2), np.where(way[:, 1] > 0, 1, 3))


@register(
    "agent",
    "minigrid-memory-oracle",
    oracle_for=("embodied_mem/MiniGridMemory-v0",),
    about="best play of MiniGridMemory",
)
class MiniGridMemoryOracle(ProbeOracle):
    """Leaves the room along the corridor's row, walks to its end and takes the matching side."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return 0 turn left, 1 turn right or 2 forward."""
        at_end = facts["memory_x"] > facts["memory_end"]
        off_row = np.where(facts["memory_y"] > 0, 3, 1)
        # Headings: 0 east, 1 south, 2 west, 3 north.
        side = np.where(facts["memory_side"] > 0, 1, 3)
        wanted = np.where(at_end, side, np.where(facts["memory_y"] != 0, off_row, 0))
        turn = (wanted - facts["memory_heading"]) % 4
        return np.where(turn == 0, 2, np.where(turn == 3, 0, 1))


@register(
    "agent",
    "mystery-path-oracle",
    oracle_for=("embodied_mem/MysteryPath-v0", "embodied_mem/EndlessMysteryPath-v0"),
    about="best play of MysteryPath",
)
class MysteryPathOracle(ProbeOracle):
    """Follows the path."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return 1 turn left, 2 turn right or 3 forward."""
        turn = (facts["path_onward"] - facts["path_heading"]) % 4
        return np.where(turn == 0, 3, np.where(turn == 3, 1, 2))


@register(
    "agent",
    "mortar-mayhem-oracle",
    oracle_for=("embodied_mem/MortarMayhem-v0", "embodied_mem/EndlessMortarMayhem-v0"),
    about="best play of MortarMayhem",
)
class MortarMayhemOracle(ProbeOracle):
    """Goes to the commanded tile the way it is headed first, and stays there."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return 0 stay, 1 turn left, 2 turn right or 3 forward."""
        way, heading = facts["mortar_way"], facts["mortar_heading"]
        across = np.where(way[:, 1] > 0, 0, np.where(way[:, 1] < 0, 2, -1))
        along = np.where(way[:, 0] > 0, 1, np.where(way[:, 0] < 0, 3, -1))
        faced = (across == heading) | (along == heading)
        side = np.where(across >= 0, across, along)
        # The axis that needs at most one turn first: a diagonal then takes at most 1 + 1 + 1 + 1 steps.
        near = np.where((along >= 0) & ((side - heading) % 4 == 2), along, side)
        turn = np.where(faced, 0, (near - heading) % 4)
        move = np.where(turn == 0, 3, np.where(turn == 3, 1, 2))
        return np.where((way == 0).all(axis=1), 0, move)


@register(
    "agent",
    "searing-spotlights-oracle",
    oracle_for=("embodied_mem/SearingSpotlights-v0", "embodied_mem/EndlessSearingSpotlights-v0"),
    about="straight to coins and exit in SearingSpotlights",
)
class SearingSpotlightsOracle(ProbeOracle):
    """Goes straight to the next coin or the exit and heeds no light."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return (B, 2): 0 none, 1 left or up, 2 right or down."""
        way = facts["spotlights_goal"] - facts["spotlights_agent"]
        return np.where(way > 1.0, 2, np.where(way < -1.0, 1, 0))


@register(
    "agent",
    "free-movement-oracle",
    oracle_for=("embodied_mem/FreeMysteryPath-v0", "embodied_mem/FreeMortarMayhem-v0"),
    about="best play of FreeMysteryPath and FreeMortarMayhem",
)
class FreeMovementOracle(ProbeOracle):
    """Goes to the middle of the next cell of the path or of the commanded tile, and stays there."""

    def choose(self, facts: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return (B, 2): 0 none, 1 left or up, 2 right or down; steps of 3 pixels end within 1.5 of the middle."""
        way = facts["free_way"]
        return np.where(way > 1.5, 2, np.where(way < -1.5, 1, 0))
