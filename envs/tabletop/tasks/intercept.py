"""Intercept: a ball is seen rolling, disappears under a cover, and must be met where it comes out."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, CHOOSE, GOTO, LAYOUT, WATCH, BatchedTabletop, Level
from embodied_mem.envs.tabletop.model import FAR
from embodied_mem.envs.tabletop.parts import ghost, marker

SEEN, REACH = 20, 40
"""Control steps for which the ball is seen, and for which the arm may move before the ball comes out."""
STARTS, ENDS = 0.82, 0.40
"""Where on x the ball starts, and where it comes out of the cover."""
SPREAD = 0.25
"""The ball starts and comes out at y within +- SPREAD, uniformly and independently."""
CATCH, DEEP, LOWEST = 0.05, 0.06, 0.12
"""The tool must be within CATCH of the ball in y and DEEP in x, and lower than LOWEST, when the ball comes out."""
CHOICES = 10
_BINS = 1 << 20


class BatchedIntercept(BatchedTabletop):
    """Hold the gripper where the ball will come out; the ball rolls straight at constant speed.

    Memory demanded: where the ball was and how it moved, until it comes out (delay + 40 steps after it was last seen).
    Without memory: 0.2, by waiting anywhere 5 cm or more from the ends of the line.
    """

    levels = (Level(10), Level(40), Level(80))
    text = (
        "Watch the ball: it rolls straight and at constant speed, and disappears under the cover. When the green light "
        "is on, hold the gripper where the ball will come out. Where the gripper is when it comes out decides."
    )
    watch = SEEN
    limit = REACH + 1

    def _configure(self, level: Level) -> None:
        self.travel = SEEN + level.delay + REACH
        hides = STARTS - (STARTS - ENDS) * SEEN / self.travel
        depth, middle = (hides - ENDS - 0.03) / 2, (hides + ENDS + 0.01) / 2
        self.scenery = marker("ball", ghost("sphere", "0.022", "0.95 0.3 0.1 1"))
        self.scenery += ghost("box", f"{depth:.4f} 0.32 0.03", "0.4 0.42 0.45 1", f'pos="{middle:.4f} 0 0.03"')
        self.features = 3

    def _wire(self) -> None:
        self._ball = self.physics.placed("ball")
        self._from = np.zeros(self.num_envs)

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        return rng.integers(keys, ANSWER, 0, _BINS)

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._from[rows] = SPREAD * (2.0 * rng.uniform(keys, LAYOUT) - 1.0)

    @property
    def _out(self) -> np.ndarray:
        """(N,) y at which the ball comes out, metres."""
        return SPREAD * (2.0 * (self.answer + 0.5) / _BINS - 1.0)

    def _show(self) -> None:
        part = np.minimum(self._clock, SEEN) / self.travel
        ball = np.stack(
            [STARTS - (STARTS - ENDS) * part, self._from + (self._out - self._from) * part, np.full(len(part), 0.022)],
            axis=1,
        )
        seen = (self._phase == WATCH)[:, None]
        self.physics.mocap[:, self._ball] = np.where(seen, ball, np.asarray(FAR))

    def _judge(self, obeys: np.ndarray) -> None:
        tool = self.physics.tool
        due = obeys & (self._phase == CHOOSE) & (self._clock >= REACH)
        met = (np.abs(tool[:, 1] - self._out) < CATCH) & (np.abs(tool[:, 0] - ENDS) < DEEP) & (tool[:, 2] < LOWEST)
        self._win(due & met)
        self._lose(due & ~met)

    def _scene(self) -> np.ndarray:
        ball = self.physics.mocap[:, self._ball]
        seen = ball[:, 2:] > -1.0
        return np.hstack([seen, ball[:, :2]]) * seen

    def _next(self) -> dict[str, np.ndarray]:
        n = self.num_envs
        # Thing 0 is right; the others are places that someone without memory may as well choose.
        y = np.linspace(CATCH - SPREAD, SPREAD - CATCH, CHOICES)
        targets = np.full((n, CHOICES + 1, 3), [ENDS, 0.0, 0.07])
        targets[:, 0, 1], targets[:, 1:, 1] = self._out, y
        allowed = np.ones((n, CHOICES + 1), bool)
        allowed[:, 0] = False
        return {
            "kind": np.full(n, GOTO),
            "starts": targets,
            "targets": targets,
            "right": np.zeros(n, np.int64),
            "allowed": allowed,
        }


class Intercept(SingleEnv):
    """N=1 view of `BatchedIntercept`."""

    batched = BatchedIntercept
