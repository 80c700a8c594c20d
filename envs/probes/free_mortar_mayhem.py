"""Mortar Mayhem with free movement: commands to remember, tiles that burn, an agent that moves by pixels.

Rules of Memory Gym's Mortar Mayhem (Pleines et al. 2023), own implementation on top of `mortar_mayhem`, whose grid form
it is but for the movement: the agent, a disc of radius 6 that stays within the arena of 80 x 80 pixels, moves 3 pixels
per step in one of eight directions, and stands on the tile under its middle. It starts in the middle of a tile. Nine
commands; 18 steps to carry one out, 6 in which the other tiles burn. The size of the disc and of the tiles, 16 pixels,
and the drawing are ours.

Actions: MultiDiscrete([3, 3]): none, left, right; none, up, down. Pixels: (84, 84, 3) uint8. Vector: (12,) float32: y
and x in the arena / 80, command one-hot (9), 1 while tiles burn.

Correlation horizon: for command k, the rest of the list and k (time + burn) steps. Oracle 0.1 per command. Without
memory: standing still is right where "stay" was commanded; it scores what the registration says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.probes._board import velocity
from embodied_mem.envs.probes.mortar_mayhem import ARENA, TILE, BatchedMortarMayhem
from embodied_mem.envs.probes.stream import whole

SPEED = 3.0
RADIUS = 6
"""Pixels per step; pixels of the disc."""
_LONGEST = 12
"""Steps that a diagonal may need, from the far edge of one tile to the middle of the next."""


class BatchedFreeMortarMayhem(BatchedMortarMayhem):
    """N arenas."""

    def __init__(
        self,
        num_envs: int = 1,
        *,
        obs: str = "pixels",
        commands: int = 10,
        moves: int = 9,
        show: int = 3,
        pause: int = 1,
        time: int = 18,
        burn: int = 6,
        **kwargs: Any,
    ) -> None:
        """Set up N arenas.

        Args:
            num_envs: number of rows N.
            obs: "pixels" or "vector".
            commands: length of the list, >= 1.
            moves: 5 or 9 kinds of commands.
            show: steps a command is shown, >= 1.
            pause: steps after each, >= 0.
            time: steps to carry one out, >= 12, which is what a diagonal may need.
            burn: steps for which the other tiles burn, >= 1.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        time = whole("time", time, _LONGEST)
        super().__init__(
            num_envs, obs=obs, commands=commands, moves=moves, show=show, pause=pause, time=time, burn=burn, **kwargs
        )
        self._pixel = np.zeros((self.num_envs, 2))
        floors, sprites = self._looks
        y, x = np.mgrid[:TILE, :TILE] - (TILE - 1) / 2
        sprites = sprites.copy()
        sprites[0] = np.where((np.hypot(y, x) <= RADIUS)[..., None], (60, 160, 255), 0).reshape(TILE, 3 * TILE)
        self._looks = floors, sprites

    def _vector_space(self) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (12,), np.float32)

    def _action_space(self) -> spaces.Space[Any]:
        return spaces.MultiDiscrete([3, 3])

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._begin(rows, keys)
        self._pixel[rows] = (self._at[rows] + 0.5) * TILE

    def _move(self, actions: np.ndarray, acts: np.ndarray) -> None:
        to = self._pixel + velocity(actions, SPEED) * acts[:, None]
        self._pixel = np.clip(to, RADIUS, ARENA * TILE - RADIUS)
        self._at = self._pixel.astype(np.int64) // TILE

    def _observe(self) -> np.ndarray:
        if self.obs == "pixels":
            return self._pictures()
        shown, burns = self._shown()
        rows = np.flatnonzero(shown >= 0)
        out = np.zeros((self.num_envs, 12), dtype=np.float32)
        out[:, :2] = self._pixel / (ARENA * TILE)
        out[rows, 2 + shown[rows]] = 1
        out[:, 11] = burns
        return out

    def _agent(self) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(self.num_envs, dtype=np.int64), self._pixel.round().astype(np.int64) - TILE // 2

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the way (x, y) in pixels to the middle of the tile of the present command (N, 2)."""
        return {"free_way": ((self._target + 0.5) * TILE - self._pixel)[:, ::-1].copy()}


class FreeMortarMayhem(SingleEnv):
    """N=1 view of `BatchedFreeMortarMayhem`."""

    batched = BatchedFreeMortarMayhem
