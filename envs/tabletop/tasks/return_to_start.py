"""ReturnToStart: a block goes to the zone in the middle and then back to where it lay, which nothing marks."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, PREPARE, Level
from embodied_mem.envs.tabletop.parts import block, patch, within
from embodied_mem.envs.tabletop.tasks.moving import BatchedHalves

CENTRE = np.array([0.52, 0.0])
X, Y = (0.4, 0.64), (0.1, 0.26)
"""The block lies at x within X, and at y within Y or -Y."""
CELLS = 1 << 10
"""Places per axis that are told apart."""
ZONE, RETURNED = 0.045, 0.04
"""Metres from the zone's middle within which the block is in it; metres from its start within which it is back."""
OUT = 0.07
"""Metres from the zone's middle beyond which a block that lies still has been returned, rightly or not."""


class BatchedReturnToStart(BatchedHalves):
    """Put the block into the zone, then back to where it was.

    Order enforced: zone, button, return. A button pressed before the block lies in the zone ends the episode.
    Memory demanded: a place on the table (0.24 m x 0.16 m, on either side), over the delay. Without memory: 0.065, the
    share of that area which lies within 4 cm of the best single place.
    """

    blocks = ("block",)
    text = (
        "Move the block into the white zone and let go, then press the button. When the green light is on again, put "
        "the block back to where it lay at first, within 4 cm. Where it is put down outside of the zone decides."
    )

    def _configure(self, level: Level) -> None:
        self.scenery = self._with_button(patch((0.52, 0.0), "0.95 0.95 0.95 1") + block("block", "0.2 0.6 0.3 1"))
        self.features = 3

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        return rng.integers(keys, ANSWER, 0, 2 * CELLS * CELLS)

    @property
    def _begin_place(self) -> np.ndarray:
        return self._place_of(self.answer)

    @staticmethod
    def _place_of(answer: np.ndarray) -> np.ndarray:
        """Return (M, 2) the place on the table that answers (M,) stand for."""
        rest, i = np.divmod(answer, CELLS)
        side, j = np.divmod(rest, CELLS)
        x = X[0] + (X[1] - X[0]) * (i + 0.5) / CELLS
        y = Y[0] + (Y[1] - Y[0]) * (j + 0.5) / CELLS
        return np.stack([x, np.where(side == 0, y, -y)], axis=1)

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._deal(rows, keys)
        self._place(rows, 0, self._place_of(self.answer[rows]))

    def _tidy(self, rows: np.ndarray) -> None:
        super()._tidy(rows)
        self._place(rows, 0, np.tile(CENTRE, (len(rows), 1)))

    def _prepared(self) -> np.ndarray:
        return self._lies(0) & within(self._at(0), CENTRE, ZONE)

    def _decide(self, chooses: np.ndarray) -> None:
        put = chooses & self._lies(0) & ~within(self._at(0), CENTRE, OUT)
        back = within(self._at(0), self._begin_place, RETURNED)
        self._win(put & back)
        self._lose(put & ~back)

    def _scene(self) -> np.ndarray:
        return self._at(0)

    def _next(self) -> dict[str, np.ndarray]:
        n, at = self.num_envs, self._at(0)
        # Thing 0 is right; the others, as good as any without memory, have their whole 4 cm inside the area.
        guesses = np.array([(x, side * y) for x in (0.45, 0.52, 0.59) for y in (0.15, 0.21) for side in (-1, 1)])
        choices = np.empty((n, 1 + len(guesses), 2, 2))
        choices[:, :, 0] = at[:, None, :2]
        choices[:, 0, 1], choices[:, 1:, 1] = self._begin_place, guesses
        right = np.zeros(n, dtype=np.int64)
        facts = self._press_or_carry(self._prepared(), at, np.tile(CENTRE, (n, 1)), choices, right)
        facts["allowed"][:, 0] = self._phase == PREPARE
        return facts


class ReturnToStart(SingleEnv):
    """N=1 view of `BatchedReturnToStart`."""

    batched = BatchedReturnToStart
