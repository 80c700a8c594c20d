"""SequencePress: lamps light up above buttons one after another, and the buttons must be pressed in that order."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, PRESS, WATCH, BatchedTabletop, Level
from embodied_mem.envs.tabletop.model import FAR
from embodied_mem.envs.tabletop.parts import PALETTE, PRESSED, RELEASED, TOP, button, ghost, marker

PLACES = ((0.44, -0.16), (0.6, -0.16), (0.44, 0.16), (0.6, 0.16))
BUTTONS = len(PLACES)
LIT, DARK = 8, 4
"""Control steps for which a lamp is lit, and of the gap behind it."""


class BatchedSequencePress(BatchedTabletop):
    """Press four buttons in the order in which they were lit; none twice in a row.

    Memory demanded: a sequence of ``size`` buttons (2, 3, 5 by level), and how much of it is done. Without memory:
    1/4 (1/3)^(size - 1), since the arm's place tells which button was pressed last.
    """

    levels = (Level(10, 2), Level(40, 3), Level(80, 5))
    limit = 400

    def _configure(self, level: Level) -> None:
        self.length = level.size
        self.watch = self.length * (LIT + DARK)
        colours = PALETTE[:BUTTONS]
        self.scenery = "".join(button(f"button{i}", PLACES[i], colours[i][1]) for i in range(BUTTONS))
        self.scenery += marker("flash", ghost("sphere", "0.028", "1 1 0.6 1"))
        self.features = 3 + BUTTONS
        self.text = (
            f"Lamps light up above {self.length} buttons, one after another. When the green light is on, press the "
            "same buttons in the same order. The first button out of order ends the task."
        )

    def _wire(self) -> None:
        n = self.num_envs
        self._travel = np.array([self.physics.slide(f"button{i}")[0] for i in range(BUTTONS)])
        self._flash = self.physics.placed("flash")
        self._down = np.zeros((n, BUTTONS), dtype=bool)
        self._played, self._last = np.zeros(n, dtype=np.int64), np.full(n, -1, dtype=np.int64)
        self._rows = np.arange(n)
        self._spots = np.array([(x, y, TOP) for x, y in PLACES])

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        first = rng.integers(keys, ANSWER, 0, BUTTONS)
        for i in range(1, self.length):
            first = first * (BUTTONS - 1) + rng.integers(keys, ANSWER, 0, BUTTONS - 1, i)
        return first

    @property
    def _sequence(self) -> np.ndarray:
        """(N, length) int64 buttons, decoded from the answer."""
        digits = np.empty((self.num_envs, self.length), dtype=np.int64)
        rest = self.answer
        for i in range(self.length - 1, 0, -1):
            rest, digits[:, i] = np.divmod(rest, BUTTONS - 1)
        digits[:, 0] = rest
        for i in range(1, self.length):
            digits[:, i] += digits[:, i] >= digits[:, i - 1]
        return digits

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._played[rows], self._last[rows], self._down[rows] = 0, -1, False

    def _show(self) -> None:
        turn, within = np.divmod(self._clock, LIT + DARK)
        lit = (self._phase == WATCH) & (within < LIT) & (turn < self.length)
        which = self._sequence[self._rows, np.minimum(turn, self.length - 1)]
        place = self._spots[which] + [0.0, 0.0, 0.05]
        self.physics.mocap[:, self._flash] = np.where(lit[:, None], place, np.asarray(FAR))

    def _judge(self, obeys: np.ndarray) -> None:
        depth = -self.physics.qpos[:, self._travel]
        pressed = (depth > PRESSED) & ~self._down & obeys[:, None]
        self._down = (self._down | (depth > PRESSED)) & (depth > RELEASED)
        any_pressed = pressed.any(axis=1)
        which = pressed.argmax(axis=1)
        wanted = self._sequence[self._rows, np.minimum(self._played, self.length - 1)]
        right = any_pressed & (which == wanted) & (pressed.sum(axis=1) == 1)
        self._last = np.where(any_pressed, which, self._last)
        self._played += right
        self._advance_deed(right)
        self._win(right & (self._played == self.length))
        self._lose(any_pressed & ~right)

    def _scene(self) -> np.ndarray:
        flash = self.physics.mocap[:, self._flash]
        seen = flash[:, 2:] > -1.0
        return np.concatenate([np.hstack([seen, flash[:, :2]]) * seen, -self.physics.qpos[:, self._travel]], axis=1)

    def _next(self) -> dict[str, np.ndarray]:
        n = self.num_envs
        targets = np.tile(self._spots - [0.0, 0.0, 0.008], (n, 1, 1))
        return {
            "kind": np.full(n, PRESS),
            "starts": targets,
            "targets": targets,
            "right": self._sequence[self._rows, np.minimum(self._played, self.length - 1)],
            "allowed": np.arange(BUTTONS) != self._last[:, None],
        }


class SequencePress(SingleEnv):
    """N=1 view of `BatchedSequencePress`."""

    batched = BatchedSequencePress
