"""ShellGame: a ball goes under one of three cups, the cups change places, and the ball's cup must be touched."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, EXTRA, TOUCH, WATCH, BatchedTabletop, Level
from embodied_mem.envs.tabletop.model import FAR
from embodied_mem.envs.tabletop.parts import ghost, marker, solid, touched

CUPS = 3
SPOTS = np.array([[0.52, -0.16, 0.03], [0.52, 0.0, 0.03], [0.52, 0.16, 0.03]])
RAISED = 0.12
SHOW, LOWER, SWAP = 15, 6, 12
"""Control steps for which the ball lies open, in which the cups come down, and of one change of places."""
PAIRS = np.array([[0, 1], [0, 2], [1, 2]])


class BatchedShellGame(BatchedTabletop):
    """Touch the cup with the ball; cups look alike.

    Memory demanded: under which cup the ball is, through ``size`` changes of places (0, 2, 5 by level) that must be
    followed while they happen, and over the delay. Without memory: 1/3.
    """

    levels = (Level(10, 0), Level(20, 2), Level(40, 5))
    text = (
        "Watch under which cup the ball goes and how the cups change places. When the green light is on, touch the cup "
        "with the ball. The first cup touched decides."
    )

    def _configure(self, level: Level) -> None:
        self.swaps = level.size
        self.watch = SHOW + LOWER + self.swaps * SWAP
        cup = solid("cylinder", "0.032 0.03", "0.6 0.3 0.2 1")
        self.scenery = "".join(marker(f"cup{i}", cup) for i in range(CUPS))
        self.scenery += marker("ball", ghost("sphere", "0.02", "0.95 0.2 0.2 1"))
        self.features = 3 * CUPS + 3

    def _wire(self) -> None:
        n = self.num_envs
        self._cups = np.array([self.physics.placed(f"cup{i}") for i in range(CUPS)])
        self._ball = self.physics.placed("ball")
        # After s changes of places, cup c is on spot order[:, s, c].
        self._order = np.zeros((n, self.swaps + 1, CUPS), dtype=np.int64)
        self._pair = np.zeros((n, max(self.swaps, 1), 2), dtype=np.int64)
        self._rows = np.arange(n)

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        return rng.integers(keys, ANSWER, 0, CUPS)

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        order = np.tile(np.arange(CUPS), (len(rows), 1))
        self._order[rows, 0] = order
        for swap in range(self.swaps):
            pair = PAIRS[rng.integers(keys, EXTRA, 0, len(PAIRS), swap)]
            self._pair[rows, swap] = pair
            first, second = order == pair[:, :1], order == pair[:, 1:]
            order = np.where(first, pair[:, 1:], np.where(second, pair[:, :1], order))
            self._order[rows, swap + 1] = order

    @property
    def _final(self) -> np.ndarray:
        """(N, 3) places of the cups when they have come to rest."""
        return SPOTS[self._order[:, -1]]

    def _show(self) -> None:
        watching = self._phase == WATCH
        since = np.where(watching, self._clock, self.watch)
        moved = np.clip(since - SHOW - LOWER, 0, self.swaps * SWAP)
        swap = np.minimum(moved // SWAP, max(self.swaps - 1, 0))
        part = (moved - swap * SWAP) / SWAP if self.swaps else np.zeros(self.num_envs)
        before = self._order[self._rows, swap]
        after = self._order[self._rows, np.minimum(swap + 1, self.swaps)]
        angle = np.pi * part[:, None]
        middle, half = (SPOTS[after] + SPOTS[before]) / 2.0, (SPOTS[before] - SPOTS[after]) / 2.0
        places = middle + half * np.cos(angle)[:, :, None]
        # Each of the two goes round on its own side.
        places[:, :, 0] += np.sign(half[:, :, 1]) * 0.07 * np.sin(angle)
        height = RAISED * np.clip((SHOW + LOWER - since) / LOWER, 0.0, 1.0)
        places[:, :, 2] += height[:, None]
        self.physics.mocap[:, self._cups] = places
        ball = SPOTS[self.answer] + [0.0, 0.0, -0.01]
        covered = since >= SHOW + LOWER
        self.physics.mocap[:, self._ball] = np.where(covered[:, None], np.asarray(FAR), ball)

    def _judge(self, obeys: np.ndarray) -> None:
        found = touched(self.physics.tool, self._final)
        self._win(obeys & (found == self.answer))
        self._lose(obeys & (found >= 0) & (found != self.answer))

    def _scene(self) -> np.ndarray:
        cups = self.physics.mocap[:, self._cups]
        # Cups look alike: they are listed from right to left.
        order = np.argsort(cups[:, :, 1], axis=1, kind="stable")
        cups = np.take_along_axis(cups, order[:, :, None], axis=1)
        ball = self.physics.mocap[:, self._ball]
        seen = ball[:, 2:] > -1.0
        return np.concatenate([cups.reshape(self.num_envs, -1), np.hstack([seen, ball[:, :2]]) * seen], axis=1)

    def _next(self) -> dict[str, np.ndarray]:
        n, targets = self.num_envs, self._final + [0.0, 0.0, 0.03]
        return {
            "kind": np.full(n, TOUCH),
            "starts": targets,
            "targets": targets,
            "right": self.answer.copy(),
            "allowed": np.ones((n, CUPS), bool),
        }


class ShellGame(SingleEnv):
    """N=1 view of `BatchedShellGame`."""

    batched = BatchedShellGame
