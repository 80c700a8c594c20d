"""RearrangeBlock: the block in the middle goes to the empty patch; after the button, the other block to the middle."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, Level
from embodied_mem.envs.tabletop.parts import block, patch, within
from embodied_mem.envs.tabletop.tasks.moving import BatchedHalves

PATCHES = np.array([[0.52, -0.2], [0.52, 0.2]])
CENTRE = np.array([0.52, 0.0])
ON = 0.045
"""Metres from a patch's middle within which a block lies on it."""
STAYS, MOVES = 0, 1
"""The block that lies on a patch at first, and the one that lies in the middle; they look alike."""


class BatchedRearrangeBlock(BatchedHalves):
    """Bring the block that was not moved into the middle (SAM2Act's MemoryBench).

    Order enforced: middle block to the empty patch, button, other block to the middle. A button pressed before ends the
    episode, and so does the wrong block let go in the middle.
    Memory demanded: which of two like blocks was on its patch from the start, over the delay. Without memory: 1/2.
    """

    blocks = ("stays", "moves")
    text = (
        "Move the block in the middle to the empty patch and let go, then press the button. When the green light is on "
        "again, move the other block, which was not moved yet, to the middle. The first block put there decides."
    )

    def _configure(self, level: Level) -> None:
        patches = "".join(patch((x, y), "0.3 0.6 0.9 1") for x, y in PATCHES) + patch((0.52, 0.0), "0.9 0.9 0.9 1")
        blocks = "".join(block(name, "0.85 0.4 0.1 1") for name in self.blocks)
        self.scenery = self._with_button(patches + blocks)
        self.features = 6

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        return rng.integers(keys, ANSWER, 0, len(PATCHES))

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._deal(rows, keys)
        self._place(rows, STAYS, PATCHES[self.answer[rows]])
        self._place(rows, MOVES, np.tile(CENTRE, (len(rows), 1)))

    def _tidy(self, rows: np.ndarray) -> None:
        super()._tidy(rows)
        self._place(rows, STAYS, PATCHES[self.answer[rows]])
        self._place(rows, MOVES, PATCHES[1 - self.answer[rows]])

    def _prepared(self) -> np.ndarray:
        moved = self._lies(MOVES) & within(self._at(MOVES), PATCHES[1 - self.answer], ON)
        return moved & within(self._at(STAYS), PATCHES[self.answer], ON)

    def _decide(self, chooses: np.ndarray) -> None:
        right = self._lies(STAYS) & within(self._at(STAYS), CENTRE, ON)
        wrong = self._lies(MOVES) & within(self._at(MOVES), CENTRE, ON)
        self._win(chooses & right & ~wrong)
        self._lose(chooses & wrong)

    def _scene(self) -> np.ndarray:
        places = np.stack([self._at(STAYS), self._at(MOVES)], axis=1)
        # The blocks look alike: they are listed from right to left.
        order = np.argsort(places[:, :, 1], axis=1, kind="stable")
        return np.take_along_axis(places, order[:, :, None], axis=1).reshape(self.num_envs, -1)

    def _next(self) -> dict[str, np.ndarray]:
        n = self.num_envs
        choices = np.empty((n, 2, 2, 2))
        choices[:, 0, 0], choices[:, 1, 0] = self._at(STAYS)[:, :2], self._at(MOVES)[:, :2]
        choices[:, :, 1] = CENTRE
        empty = PATCHES[1 - self.answer]
        right = np.zeros(n, dtype=np.int64)
        return self._press_or_carry(self._prepared(), self._at(MOVES), empty, choices, right)


class RearrangeBlock(SingleEnv):
    """N=1 view of `BatchedRearrangeBlock`."""

    batched = BatchedRearrangeBlock
