"""PutBlockBack: a block goes from its patch to the middle, a button is pressed, and the block must go back."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, Level
from embodied_mem.envs.tabletop.parts import block, patch, within
from embodied_mem.envs.tabletop.tasks.moving import BatchedHalves

PATCHES = np.array([[0.42, -0.18], [0.62, -0.18], [0.42, 0.18], [0.62, 0.18]])
CENTRE = np.array([0.52, 0.0])
ON = 0.045
"""Metres from a patch's middle within which a block lies on it."""


class BatchedPutBlockBack(BatchedHalves):
    """Put the block back on the patch it was on at first (SAM2Act's MemoryBench).

    Order enforced: block to the middle, button, block to a patch. A button pressed before the block lies in the middle
    ends the episode, and so does the block let go on another patch than its first.
    Memory demanded: which of four patches, from the first half over the delay. Without memory: 1/4.
    """

    blocks = ("block",)
    text = (
        "Move the block from its patch to the middle and let go, then press the button. When the green light is on "
        "again, put the block back on the patch where it was at first. The first patch it is put on decides."
    )

    def _configure(self, level: Level) -> None:
        patches = "".join(patch((x, y), "0.3 0.6 0.9 1") for x, y in PATCHES)
        patches += patch((0.52, 0.0), "0.9 0.9 0.9 1")
        self.scenery = self._with_button(patches + block("block", "0.85 0.4 0.1 1"))
        self.features = 3

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        return rng.integers(keys, ANSWER, 0, len(PATCHES))

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._deal(rows, keys)
        self._place(rows, 0, PATCHES[self.answer[rows]])

    def _tidy(self, rows: np.ndarray) -> None:
        super()._tidy(rows)
        self._place(rows, 0, np.tile(CENTRE, (len(rows), 1)))

    def _prepared(self) -> np.ndarray:
        return self._lies(0) & within(self._at(0), CENTRE, ON)

    def _decide(self, chooses: np.ndarray) -> None:
        on = within(self._at(0)[:, None], PATCHES, ON)
        put = chooses & self._lies(0) & on.any(axis=1)
        self._win(put & (on.argmax(axis=1) == self.answer))
        self._lose(put & (on.argmax(axis=1) != self.answer))

    def _scene(self) -> np.ndarray:
        return self._at(0)

    def _next(self) -> dict[str, np.ndarray]:
        n, at = self.num_envs, self._at(0)
        choices = np.empty((n, len(PATCHES), 2, 2))
        choices[:, :, 0], choices[:, :, 1] = at[:, None, :2], PATCHES
        return self._press_or_carry(self._prepared(), at, np.tile(CENTRE, (n, 1)), choices, self.answer.copy())


class PutBlockBack(SingleEnv):
    """N=1 view of `BatchedPutBlockBack`."""

    batched = BatchedPutBlockBack
