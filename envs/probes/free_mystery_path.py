"""Mystery Path with free movement: an invisible path to remember, an agent that moves by pixels.

Rules of Memory Gym's Mystery Path (Pleines et al. 2023), own implementation on top of `mystery_path`, whose grid form
it is but for the movement: on the board of 84 x 84 pixels the agent moves 3 pixels per step in one of eight directions,
keeps 6 pixels away from the border, and falls where the cell under its middle, 12 x 12 pixels, does not belong to the
path. A fall puts it on the middle of the origin. Truncated after 512 steps. As in the grid form here, the origin is
shown and ``reward_progress`` is 0 unless given; cutting a corner of the path earns it once for both cells.

Actions: MultiDiscrete([3, 3]): none, left, right; none, up, down. Pixels: (84, 84, 3) uint8. Vector: (5,) float32: y
and x of the agent / 84, 1 where it has fallen, y and x of the middle of the origin / 84.

Correlation horizon: up to the whole episode. Oracle 1. The optimum without memory is not known; the best of a family of
scripted policies, which draw every move anew and drift away from the origin's side, scores what the registration says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes._board import paint, velocity
from embodied_mem.envs.probes.mystery_path import GRID, TILE, BatchedMysteryPath

SPEED = 3.0
"""Pixels per step."""
SIZE = GRID * TILE
EDGE = TILE // 2
"""Pixels that the middle of the agent stays away from the border."""
_COS, _SIN = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])


class BatchedFreeMysteryPath(BatchedMysteryPath):
    """N boards. Inside, (y, x) in pixels on a board whose path leads to the right."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        obs: str = "pixels",
        max_steps: int = 512,
        reward_progress: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up N boards.

        Args:
            num_envs: number of rows N.
            obs: "pixels" or "vector".
            max_steps: steps after which an episode is truncated, >= 1.
            reward_progress: reward of a new path cell; None: 0.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        super().__init__(num_envs, obs=obs, max_steps=max_steps, reward_progress=reward_progress, **kwargs)
        n = self.num_envs
        self._pixel, self._origin = np.zeros((n, 2)), np.zeros((n, 2))
        self._cos, self._sin = np.ones(n), np.zeros(n)
        floors, sprites = self._looks
        y, x = np.mgrid[:TILE, :TILE] - (TILE - 1) / 2
        body = np.where((np.hypot(y, x) <= EDGE - 1)[..., None], 250, 0)
        fallen = np.where((abs(abs(x) - abs(y)) < 1.2)[..., None], (230, 40, 40), body)
        looks = [sprites[0], *(look.reshape(TILE, 3 * TILE) for look in (body.repeat(3, axis=2), fallen))]
        self._looks = floors, np.stack(looks).astype(np.uint8)

    def _vector_space(self) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (5,), np.float32)

    def _action_space(self) -> spaces.Space[Any]:
        return spaces.MultiDiscrete([3, 3])

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._begin(rows, keys)
        self._origin[rows, 0], self._origin[rows, 1] = (self._row[rows] + 0.5) * TILE, 0.5 * TILE
        self._pixel[rows] = self._origin[rows]
        self._cos[rows], self._sin[rows] = _COS[self._side[rows]], _SIN[self._side[rows]]

    def _move(self, actions: np.ndarray, acts: np.ndarray, returns: np.ndarray) -> np.ndarray:
        step = self._turned(velocity(actions, SPEED) * acts[:, None], back=True)
        self._pixel = np.where(returns[:, None], self._origin, np.clip(self._pixel + step, EDGE, SIZE - EDGE))
        cell = self._pixel.astype(np.int64) // TILE
        self._row, self._column = cell[:, 0].copy(), cell[:, 1].copy()
        return acts

    def _turned(self, way: np.ndarray, back: bool = False) -> np.ndarray:
        """Turn ways (N, 2), (y, x), from the board whose path leads to the right to the one seen, or back."""
        sin = -self._sin if back else self._sin
        y, x = way[:, 0], way[:, 1]
        return np.stack([self._cos * y + sin * x, self._cos * x - sin * y], axis=1)

    def _seen(self, place: np.ndarray) -> np.ndarray:
        """Return where pixels (N, 2) of the board whose path leads to the right are seen."""
        return self._turned(place - SIZE / 2) + SIZE / 2

    def _observe(self) -> np.ndarray:
        if self.obs == "pixels":
            return self._pictures()
        out = np.zeros((self.num_envs, 5), dtype=np.float32)
        out[:, :2], out[:, 3:] = self._seen(self._pixel) / SIZE, self._seen(self._origin) / SIZE
        out[:, 2] = self._fallen
        return out

    def _pictures(self) -> np.ndarray:
        out = np.empty((self.num_envs, SIZE, 3 * SIZE), dtype=np.uint8)
        places = np.stack([self._seen(self._origin), self._seen(self._pixel)], axis=1)
        corner = places.round().astype(np.int64) - TILE // 2
        kind = np.stack([np.zeros_like(self._row), 1 + self._fallen], axis=1)
        floors, sprites = self._looks
        paint(out, floors, np.zeros_like(self._row), sprites, kind, corner)
        return out.reshape(self.num_envs, SIZE, SIZE, 3)

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the way (x, y) in pixels to the middle of the next cell of the path (N, 2), as seen."""
        leave = self._entry(self._column + 1)
        down = np.sign(leave - self._row)
        cell = np.stack([self._row + down, self._column + (down == 0)], axis=1)
        return {"free_way": self._turned((cell + 0.5) * TILE - self._pixel)[:, ::-1].copy()}


class FreeMysteryPath(SingleEnv):
    """N=1 view of `BatchedFreeMysteryPath`."""

    batched = BatchedFreeMysteryPath
