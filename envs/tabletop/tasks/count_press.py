"""CountPress: a lamp blinks n times; press the button n times, then the other one to say that it is done."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, PRESS, WATCH, BatchedTabletop, Level
from embodied_mem.envs.tabletop.model import FAR
from embodied_mem.envs.tabletop.parts import PRESSED, RELEASED, TOP, button, ghost, marker

COUNTED, FINISHED = (0.52, -0.1), (0.52, 0.14)
BLINK, DARK = 6, 6
"""Control steps for which the lamp is lit, and of the gap behind it."""


class BatchedCountPress(BatchedTabletop):
    """Press the blue button as often as the lamp blinked, then the red one.

    Memory demanded: a number from 1 to ``size`` (3, 4, 6 by level), and the own presses so far. The show always lasts
    as long as ``size`` blinks. Without memory: 1 / size, by pressing once; that takes memory of the own presses alone.
    """

    levels = (Level(10, 3), Level(40, 4), Level(80, 6))
    limit = 400
    text = (
        "Count how often the lamp blinks. When the green light is on, press the blue button as many times, then press "
        "the red button. The red button decides; a blue press too many ends the task."
    )

    def _configure(self, level: Level) -> None:
        self.most = level.size
        self.watch = self.most * (BLINK + DARK)
        self.scenery = button("counted", COUNTED, "0.1 0.25 0.9 1") + button("finished", FINISHED, "0.9 0.1 0.1 1")
        self.scenery += marker("flash", ghost("sphere", "0.028", "1 1 0.6 1"))
        self.features = 3

    def _wire(self) -> None:
        n = self.num_envs
        self._travel = np.array([self.physics.slide(name)[0] for name in ("counted", "finished")])
        self._flash = self.physics.placed("flash")
        self._down = np.zeros((n, 2), dtype=bool)
        self._presses = np.zeros(n, dtype=np.int64)

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        return rng.integers(keys, ANSWER, 1, self.most + 1)

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._presses[rows], self._down[rows] = 0, False

    def _show(self) -> None:
        turn, within = np.divmod(self._clock, BLINK + DARK)
        lit = (self._phase == WATCH) & (within < BLINK) & (turn < self.answer)
        self.physics.mocap[:, self._flash] = np.where(lit[:, None], [0.62, 0.02, 0.05], np.asarray(FAR))

    def _judge(self, obeys: np.ndarray) -> None:
        depth = -self.physics.qpos[:, self._travel]
        pressed = (depth > PRESSED) & ~self._down & obeys[:, None]
        self._down = (self._down | (depth > PRESSED)) & (depth > RELEASED)
        self._presses += pressed[:, 0]
        self._advance_deed(pressed.any(axis=1))
        equal = self._presses == self.answer
        self._win(pressed[:, 1] & equal)
        self._lose(pressed[:, 1] & ~equal | pressed[:, 0] & (self._presses > self.answer))

    def _scene(self) -> np.ndarray:
        seen = self.physics.mocap[:, self._flash, 2:] > -1.0
        return np.concatenate([seen, -self.physics.qpos[:, self._travel]], axis=1)

    def _next(self) -> dict[str, np.ndarray]:
        n = self.num_envs
        targets = np.tile(np.array([(*place, TOP - 0.008) for place in (COUNTED, FINISHED)]), (n, 1, 1))
        once = self._presses >= 1
        return {
            "kind": np.full(n, PRESS),
            "starts": targets,
            "targets": targets,
            "right": np.where(self._presses < self.answer, 0, 1),
            "allowed": np.stack([~once, once], axis=1),
        }


class CountPress(SingleEnv):
    """N=1 view of `BatchedCountPress`."""

    batched = BatchedCountPress
