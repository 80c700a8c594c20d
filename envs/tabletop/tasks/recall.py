"""Recall: one thing is shown, hidden, and must be found among others later (MIKASA-Robo's RememberColor, -Shape).

Memory demanded: which of K things was shown, over ``delay`` control steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, CHOOSE, LAYOUT, TOUCH, WATCH, BatchedTabletop, Level
from embodied_mem.envs.tabletop.model import FAR
from embodied_mem.envs.tabletop.parts import PALETTE, marker, solid, touched

CUE = np.array([0.5, 0.0, 0.02])
_GREY = "0.35 0.4 0.55 1"
SHAPES: tuple[tuple[str, str], ...] = (
    ("cube", solid("box", "0.02 0.02 0.02", _GREY)),
    ("ball", solid("sphere", "0.024", _GREY)),
    ("drum", solid("cylinder", "0.024 0.02", _GREY)),
    ("bar", solid("box", "0.01 0.034 0.02", _GREY)),
    ("cross", solid("box", "0.008 0.032 0.02", _GREY) + solid("box", "0.032 0.008 0.02", _GREY)),
)


class BatchedRecall(BatchedTabletop, ABC):
    """N tables with K things; a subclass names them."""

    noun: ClassVar[str] = ""
    aspect: ClassVar[str] = ""

    @abstractmethod
    def _items(self, level: Level) -> list[str]:
        """Return the geoms (MJCF) of each of the K things."""

    def _configure(self, level: Level) -> None:
        items = self._items(level)
        self.count = len(items)
        self.scenery = "".join(marker(f"item{i}", geoms) for i, geoms in enumerate(items))
        self.features = 3 * self.count
        self.text = (
            f"Remember the {self.aspect} of the {self.noun} that is shown. When the green light is on, touch the "
            f"{self.noun} of that {self.aspect}. The first {self.noun} touched decides."
        )
        if self.count <= 5:
            y = (np.arange(self.count) - (self.count - 1) / 2) * 0.13
            self.spots = np.stack([np.full(self.count, 0.52), y, np.full(self.count, 0.02)], axis=1)
        else:
            x, y = np.meshgrid([0.38, 0.52, 0.66], [-0.16, 0.0, 0.16], indexing="ij")
            self.spots = np.stack([x.ravel(), y.ravel(), np.full(9, 0.02)], axis=1)

    def _wire(self) -> None:
        self._bodies = np.array([self.physics.placed(f"item{i}") for i in range(self.count)])
        self._spot = np.zeros((self.num_envs, self.count), dtype=np.int64)
        self._rows = np.arange(self.num_envs)

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        return rng.integers(keys, ANSWER, 0, self.count)

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self._spot[rows] = rng.permutation(keys, LAYOUT, self.count)

    def _show(self) -> None:
        places = np.where((self._phase == CHOOSE)[:, None, None], self.spots[self._spot], np.asarray(FAR))
        cue = self._phase == WATCH
        places[cue, self.answer[cue]] = CUE
        self.physics.mocap[:, self._bodies] = places

    def _judge(self, obeys: np.ndarray) -> None:
        found = touched(self.physics.tool, self.spots[self._spot])
        self._win(obeys & (found == self.answer))
        self._lose(obeys & (found >= 0) & (found != self.answer))

    def _scene(self) -> np.ndarray:
        places = self.physics.mocap[:, self._bodies]
        seen = places[:, :, 2] > -1.0
        return (np.dstack([np.ones_like(seen), places[:, :, :2]]) * seen[:, :, None]).reshape(self.num_envs, -1)

    def _next(self) -> dict[str, np.ndarray]:
        targets = self.spots[self._spot] + [0.0, 0.0, 0.025]
        n = self.num_envs
        return {
            "kind": np.full(n, TOUCH),
            "starts": targets,
            "targets": targets,
            "right": self.answer.copy(),
            "allowed": np.ones((n, self.count), bool),
        }


class BatchedRememberColor(BatchedRecall):
    """Touch the cube of the colour that was shown.

    Memory demanded: one of ``colors`` colours, over the delay of the level. Without memory: 1 / colors.
    """

    noun, aspect = "cube", "colour"
    colors: ClassVar[int] = 3

    def _items(self, level: Level) -> list[str]:
        return [solid("box", "0.02 0.02 0.02", rgba) for _, rgba in PALETTE[: self.colors]]


class BatchedRememberColor3(BatchedRememberColor):
    """`BatchedRememberColor` with three colours. Memory demanded: one of three colours. Without memory: 1/3."""


class BatchedRememberColor5(BatchedRememberColor):
    """`BatchedRememberColor` with five colours. Memory demanded: one of five colours. Without memory: 1/5."""

    colors = 5


class BatchedRememberColor9(BatchedRememberColor):
    """`BatchedRememberColor` with nine colours. Memory demanded: one of nine colours. Without memory: 1/9."""

    colors = 9


class BatchedRememberShape(BatchedRecall):
    """Touch the thing of the shape that was shown; all have one colour.

    Memory demanded: one of ``size`` shapes (3, 5, 5 by level), over the delay of the level. Without memory: 1 / size.
    """

    levels = (Level(10, 3), Level(40, 5), Level(120, 5))
    noun, aspect = "thing", "shape"

    def _items(self, level: Level) -> list[str]:
        return [geoms for _, geoms in SHAPES[: level.size]]


class RememberColor3(SingleEnv):
    """N=1 view of `BatchedRememberColor3`."""

    batched = BatchedRememberColor3


class RememberColor5(SingleEnv):
    """N=1 view of `BatchedRememberColor5`."""

    batched = BatchedRememberColor5


class RememberColor9(SingleEnv):
    """N=1 view of `BatchedRememberColor9`."""

    batched = BatchedRememberColor9


class RememberShape(SingleEnv):
    """N=1 view of `BatchedRememberShape`."""

    batched = BatchedRememberShape
