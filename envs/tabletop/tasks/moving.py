"""What the tasks of MemoryBench's kind share: a first half without memory, a button between the halves, blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from embodied_mem.envs.tabletop.env import CARRY, CHOOSE, PREPARE, PRESS, BatchedTabletop
from embodied_mem.envs.tabletop.parts import HALF, PRESSED, TOP, button, lies

BUTTON = (0.42, 0.33)
GRASP = 0.018
"""Height in metres at which a block is held."""


class BatchedHalves(BatchedTabletop, ABC):
    """N tables with PREPARE, a press of the button, WAIT and CHOOSE; pressed too early, the button ends the episode."""

    levels: ClassVar = BatchedTabletop.levels
    watch = 0
    limit = 400
    blocks: ClassVar[tuple[str, ...]] = ()
    scene_of_task: str = ""

    def _wire(self) -> None:
        self._travel = self.physics.slide("button")[0]
        self._columns = [self.physics.free(name) for name in self.blocks]
        self._speeds = [self.physics.free_speed(name) for name in self.blocks]
        self._ready = np.zeros(self.num_envs, dtype=bool)

    def _with_button(self, scenery: str) -> str:
        return scenery + button("button", BUTTON, "0.9 0.2 0.2 1")

    @abstractmethod
    def _prepared(self) -> np.ndarray:
        """Return (N,) True where what must be done before the button is done."""

    @abstractmethod
    def _decide(self, chooses: np.ndarray) -> None:
        """Judge rows ``chooses`` (N,) bool of CHOOSE."""

    def _judge(self, obeys: np.ndarray) -> None:
        prepares = obeys & (self._phase == PREPARE)
        if prepares.any():
            ready = self._prepared()
            self._advance_deed(prepares & (ready != self._ready))
            self._ready = np.where(prepares, ready, self._ready)
            pressed = prepares & (self.physics.qpos[:, self._travel] < -PRESSED)
            self._lose(pressed & ~ready)
            self._lit |= pressed & ready
            self._interlude(pressed & ready)
        # A row whose interlude began just now is in WAIT.
        chooses = obeys & (self._phase == CHOOSE)
        if chooses.any():
            self._decide(chooses)

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._ready[rows] = False

    def _tidy(self, rows: np.ndarray) -> None:
        self.physics.state[rows] = self.physics.first

    # Blocks

    def _place(self, rows: np.ndarray, block: int, spots: np.ndarray) -> None:
        """Put ``block`` of ``rows`` (M,) down at ``spots`` (M, 2), at rest."""
        column = self._columns[block]
        pose = np.zeros((len(rows), 7))
        pose[:, :2], pose[:, 2], pose[:, 3] = spots, HALF, 1.0
        self.physics.qpos[rows, column] = pose
        self.physics.qvel[rows, self._speeds[block]] = 0.0

    def _at(self, block: int) -> np.ndarray:
        """Return (N, 3) where ``block`` is, metres."""
        return self.physics.qpos[:, self._columns[block]][:, :3]

    def _lies(self, block: int) -> np.ndarray:
        """Return (N,) True where ``block`` lies on the table and is not held."""
        physics = self.physics
        return lies(self._at(block), physics.qvel[:, self._speeds[block]], physics.tool, physics.width())

    def _press_or_carry(
        self, ready: np.ndarray, block: np.ndarray, spot: np.ndarray, choices: np.ndarray, right: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return what is to be done next: in PREPARE bring a block to ``spot``, or press where ``ready``; then choose.

        Args:
            ready: (N,) bool, what must be done before the button is done.
            block: (N, 3) the block to be moved first, metres.
            spot: (N, 2) where it goes.
            choices: (N, C, 2, 2) from and to of everything that could be done in CHOOSE.
            right: (N,) which of these is right.
        """
        n, count = choices.shape[:2]
        starts, targets = (np.full((n, count, 3), GRASP) for _ in range(2))
        starts[:, :, :2], targets[:, :, :2] = choices[:, :, 0], choices[:, :, 1]
        early = (self._phase == PREPARE)[:, None, None]
        press = np.array([*BUTTON, TOP - 0.008])
        first = np.concatenate([spot, np.full((n, 1), GRASP)], axis=1)
        hold = np.concatenate([block[:, :2], np.full((n, 1), GRASP)], axis=1)
        target = np.where(ready[:, None], press, first)[:, None]
        start = np.where(ready[:, None], press, hold)[:, None]
        return {
            "kind": np.where((self._phase == PREPARE) & ready, PRESS, CARRY),
            "starts": np.where(early, start, starts),
            "targets": np.where(early, target, targets),
            "right": right,
            "allowed": np.ones((n, count), bool),
        }
