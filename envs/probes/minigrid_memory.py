"""A corridor between two choices, in the style of MiniGrid's Memory: turn at its end to the object seen at its start.

Layout and rewards as published for MiniGrid-Memory (Chevalier-Boisvert et al.), written anew and batched; objects and
walls hide nothing and there are three actions. In a grid of ``size`` S a room (columns 1 to 4, three rows) holds a cue,
key or ball, at its upper left; from it a corridor of one row leads east to column E = S - 3, where a cross-bar of five
rows has the key at one end and the ball at the other. The agent may stand beside either: next to the object that equals
the cue it earns 1 - 0.9 t / limit, next to the other 0; both terminate. Truncated at 5 S^2 steps. Variants: "passive"
starts on the corridor's row in column 4, facing west, the cue in view; "active" starts anywhere in columns 1 to E of
that row, facing east, and may have to go back for the cue. ``min_size`` draws the end E of every episode uniformly from
[min_size - 3, S - 3] (mixed horizon); nothing seen at the start tells which it is.

Observation: the 7 x 7 cells before the agent, which stands in the middle of the nearest row. Symbolic: (151,) float32,
one-hot wall, key, ball (7, 7, 3), then heading one-hot (east, south, west, north). Pixels: (84, 84, 3) uint8, 12 per
cell, heading not shown. Actions: 0 turn left, 1 turn right, 2 forward; walls and objects stop the agent.

Correlation horizon: E - 6 to E steps. No view holds both the cue and a choice, which lie E >= 7 columns apart; so
success without memory is 0.5. Oracle: success 1, return above 0.9.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.stream import whole
from embodied_mem.errors import UsageError

TURN_LEFT, TURN_RIGHT, FORWARD = range(3)
EAST, SOUTH, WEST, NORTH = range(4)
FLOOR, WALL, KEY, BALL = range(4)
VIEW = 7
TILE = 12
VARIANTS = ("passive", "active")
OBSERVATIONS = ("symbolic", "pixels")
_DX = np.array([1, 0, -1, 0])
_DY = np.array([0, 1, 0, -1])
_END, _START, _CUE, _SIDE = range(4)
_jit = numba.njit(cache=True, nogil=True)


@_jit
def _cell(x: int, y: int, end: int, cue: int, side: int) -> int:
    """Return what lies at column ``x`` and row ``y`` (0 the corridor, down positive): floor, wall, key or ball."""
    if x == 1 and y == -1:
        return cue
    if 1 <= x <= 4:
        return FLOOR if -1 <= y <= 1 else WALL
    if 5 <= x <= end:
        return FLOOR if y == 0 else WALL
    if x == end + 1:
        if y == 2 * side:
            return cue
        if y == -2 * side:
            return KEY + BALL - cue
        return FLOOR if -1 <= y <= 1 else WALL
    return WALL


@_jit
def _look(view: np.ndarray, x: np.ndarray, y: np.ndarray, heading: np.ndarray, world: np.ndarray) -> None:
    """Write the codes before every agent to ``view`` (N, 7, 7) uint8; ``world`` (N, 3) is end, cue and side."""
    for i in range(len(x)):
        h = heading[i]
        fx, fy = (h == 0) - (h == 2), (h == 1) - (h == 3)
        for r in range(VIEW):
            for c in range(VIEW):
                ahead, right = VIEW - 1 - r, c - VIEW // 2
                u, v = x[i] + ahead * fx - right * fy, y[i] + ahead * fy + right * fx
                view[i, r, c] = _cell(u, v, world[i, 0], world[i, 1], world[i, 2])


@_jit
def _symbols(view: np.ndarray, heading: np.ndarray, out: np.ndarray) -> None:
    """Write the one-hot view and heading to ``out`` (N, 151) float32, which holds zeros."""
    for i in range(len(out)):
        for r in range(VIEW):
            for c in range(VIEW):
                if view[i, r, c]:
                    out[i, 3 * (VIEW * r + c) + view[i, r, c] - 1] = 1
        out[i, 3 * VIEW * VIEW + heading[i]] = 1


@_jit
def _paint(view: np.ndarray, tiles: np.ndarray, out: np.ndarray) -> None:
    """Write the picture of every view to ``out`` (N, 84, 252) uint8; ``tiles`` (5, 12, 36), the last is the agent."""
    for i in range(len(out)):
        for r in range(VIEW):
            for c in range(VIEW):
                code = view[i, r, c]
                if r == VIEW - 1 and c == VIEW // 2:
                    code = 4
                for y in range(TILE):
                    line, source = out[i, r * TILE + y, 3 * TILE * c : 3 * TILE * (c + 1)], tiles[code, y]
                    for k in range(3 * TILE):
                        line[k] = source[k]


class BatchedMiniGridMemory(BatchedEnv):
    """N corridors; every row has its own length."""

    metadata = {"render_modes": ["rgb_array"]}
    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        variant: str = "passive",
        size: int = 13,
        min_size: int | None = None,
        obs: str = "symbolic",
        **kwargs: Any,
    ) -> None:
        """Set up the corridors.

        Args:
            num_envs: number of rows N.
            variant: "passive" or "active".
            size: S >= 10; the largest one where ``min_size`` is given.
            min_size: where given, the horizon is mixed, see the module.
            obs: "symbolic" or "pixels".
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        if variant not in VARIANTS:
            raise UsageError(f"expected variant 'passive' or 'active', got {variant!r}")
        if obs not in OBSERVATIONS:
            raise UsageError(f"expected obs 'symbolic' or 'pixels', got {obs!r}")
        self.variant, self.obs, self.size = variant, obs, whole("size", size, 10)
        self.min_size = self.size if min_size is None else whole("min_size", min_size, 10, self.size)
        self.limit = 5 * self.size**2
        self.single_observation_space = spaces.Box(0.0, 1.0, (3 * VIEW**2 + 4,), np.float32)
        if obs == "pixels":
            self.single_observation_space = spaces.Box(0, 255, (VIEW * TILE, VIEW * TILE, 3), np.uint8)
        self.single_action_space = spaces.Discrete(3)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._x, self._y, self._heading, self._t = (np.zeros(n, dtype=np.int64) for _ in range(4))
        # End, cue and side of the matching object.
        self._world = np.tile(np.array([self.size - 3, KEY, 1], dtype=np.int64), (n, 1))
        self._success = np.zeros(n, dtype=bool)
        self._tiles = _draw_tiles()

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        end = rng.integers(keys, _END, self.min_size - 3, self.size - 2)
        self._world[rows, 0] = end
        self._world[rows, 1] = rng.integers(keys, _CUE, KEY, BALL + 1)
        self._world[rows, 2] = rng.integers(keys, _SIDE, 0, 2) * 2 - 1
        active = self.variant == "active"
        self._x[rows] = rng.integers(keys, _START, 1, end + 1) if active else 4
        self._y[rows] = self._t[rows] = 0
        self._heading[rows] = EAST if active else WEST
        self._success[rows] = False

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        turn = (actions == TURN_RIGHT).astype(np.int64) - (actions == TURN_LEFT)
        walks = actions == FORWARD
        if not self.all_active:
            turn, walks = turn * active, walks & active
        self._heading = (self._heading + turn) & 3
        x, y = self._x + _DX[self._heading] * walks, self._y + _DY[self._heading] * walks
        end = self._world[:, 0]
        room = (x >= 1) & (x <= 4) & (abs(y) <= 1) & ((x != 1) | (y != -1))
        free = room | (x >= 5) & (x <= end) & (y == 0) | (x == end + 1) & (abs(y) <= 1)
        self._x, self._y = np.where(free, x, self._x), np.where(free, y, self._y)
        self._t += 1 if self.all_active else active
        terminated = walks & (self._x == end + 1) & (self._y != 0)
        success = terminated & (self._y == self._world[:, 2])
        self._success |= success
        reward = success * (1.0 - 0.9 * self._t / self.limit)
        truncated = (self._t >= self.limit) & ~terminated
        if not self.all_active:
            truncated &= active
        return reward.astype(np.float32), terminated, truncated

    def _view(self) -> np.ndarray:
        view = np.empty((self.num_envs, VIEW, VIEW), dtype=np.uint8)
        _look(view, self._x, self._y, self._heading, self._world)
        return view

    def _observe(self) -> np.ndarray:
        if self.obs == "pixels":
            return self._pictures()
        out = np.zeros((self.num_envs, 3 * VIEW**2 + 4), dtype=np.float32)
        _symbols(self._view(), self._heading, out)
        return out

    def _pictures(self) -> np.ndarray:
        out = np.empty((self.num_envs, VIEW * TILE, 3 * VIEW * TILE), dtype=np.uint8)
        _paint(self._view(), self._tiles, out)
        return out.reshape(self.num_envs, VIEW * TILE, VIEW * TILE, 3)

    def _render(self, row: int) -> np.ndarray:
        return self._pictures()[row]

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._success, "corridor_end": self._world[:, 0]}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the agent's column, row and heading, the corridor's end and the side of the match, each (N,)."""
        return {
            "memory_x": self._x.copy(),
            "memory_y": self._y.copy(),
            "memory_heading": self._heading.copy(),
            "memory_end": self._world[:, 0].copy(),
            "memory_side": self._world[:, 2].copy(),
        }


class MiniGridMemory(SingleEnv):
    """N=1 view of `BatchedMiniGridMemory`."""

    batched = BatchedMiniGridMemory


def _draw_tiles() -> np.ndarray:
    """Return the pictures of floor, wall, key, ball and agent: (5, 12, 36) uint8, channels last in a row."""
    y, x = np.mgrid[:TILE, :TILE] - (TILE - 1) / 2
    tiles = np.zeros((5, TILE, TILE, 3), dtype=np.uint8)
    tiles[:, 0], tiles[:, :, 0] = 60, 60
    tiles[WALL] = 120
    ring = (x * x + (y + 3) ** 2 <= 7) & (x * x + (y + 3) ** 2 >= 1)
    tiles[KEY][ring | (abs(x) < 1) & (y > -1) | (x > 0) & (x < 3) & (abs(y - 3) < 2)] = (240, 220, 0)
    tiles[BALL][x * x + y * y <= 17] = (60, 160, 255)
    tiles[4][2 * abs(x) <= y + 5] = (255, 60, 60)
    return tiles.reshape(5, TILE, 3 * TILE)
