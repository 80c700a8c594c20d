"""Searing Spotlights: in the dark, collect the coins and take the exit, while wandering lights show things and burn.

Rules and defaults as published for Memory Gym (Pleines et al. 2023), own implementation; where lights start and how
they cross, where things lie and what the vector holds are ours. An arena of 84 x 84 pixels is lit at first and fades to
black within ``dim`` steps. From then on only lights show what they shine on: discs of radius 7.5 to 13.75 that cross
the arena on straight lines, a share of 0.0025 to 0.0075 of the way per step. Four set out at once and then one every 30
steps, this interval shrinking by the factor 0.95 down to 10, 30 of these at most. The agent, of radius 4, moves 2.5
pixels per step in one of eight directions. In the light it loses 1 of ``health`` per step, and at 0 the episode
terminates. A coin earns 0.25; once all are taken, the exit earns 1 and terminates as success. Truncated after
``max_steps``. Agent, coins and exit lie at least 20 pixels apart.

Endless form (``EndlessSearingSpotlights-v0``): no exit; a coin that is taken appears elsewhere at once, and each must
be taken within 160 steps or the episode terminates; lights set out every 30 steps without end. To live for
``max_steps`` is success (truncated).

Actions: MultiDiscrete([3, 3]): none, left, right; none, up, down. Pixels: (84, 84, 3) uint8; the floor turns reddish
while a light is on the agent. Vector: (8 + 3 C + 96,) float32: general light, 1 while in the light; seen, x, y (/ 84)
of agent, of each of the C coins and of the exit, zeros while not seen; then seen, x, y and radius of up to 24 lights.

Correlation horizon: from the fading (step ``dim``) to the exit, some 20 to 90 steps, and over all moves, as the agent
does not see itself either. Oracle: straight to coins and exit, 1 + 0.25 C (one coin takes at most 90 steps, so health
100 suffices); the endless one, which heeds no light, is no optimum. The optimum without memory is not known; a scripted
policy that heads for what it sees while it sees itself, else moves at random, scores what the registration says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes import _spotlights_kernels as kernels
from embodied_mem.envs.probes._spotlights_kernels import SIZE
from embodied_mem.envs.probes.stream import whole
from embodied_mem.errors import UsageError

OBSERVATIONS = ("pixels", "vector")
SPEED, DAMAGE, SLOTS, PATIENCE = 2.5, 1.0, 24, 160
_APART = 20.0
_PLACE, _ANGLE, _CROSS, _RADIUS, _PACE, _COIN = range(6)


class BatchedSearingSpotlights(BatchedEnv):
    """N arenas."""

    metadata = {"render_modes": ["rgb_array"]}
    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        endless: bool = False,
        obs: str = "pixels",
        coins: int = 1,
        health: float = 100.0,
        dim: int = 6,
        max_steps: int = 512,
        **kwargs: Any,
    ) -> None:
        """Set up N arenas.

        Args:
            num_envs: number of rows N.
            endless: the endless form.
            obs: "pixels" or "vector".
            coins: C, 1 to 5.
            health: steps in the light until the end, > 0.
            dim: steps within which the general light fades, >= 1.
            max_steps: steps after which an episode is truncated, >= 1.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        if obs not in OBSERVATIONS:
            raise UsageError(f"expected obs 'pixels' or 'vector', got {obs!r}")
        if not health > 0:
            raise UsageError(f"expected health > 0, got {health!r}")
        self.endless, self.obs, self.health = bool(endless), obs, float(health)
        self.coins, self.dim = whole("coins", coins, 1, 5), whole("dim", dim, 1)
        self.max_steps = whole("max_steps", max_steps, 1)
        self.single_observation_space = spaces.Box(-1.0, 2.0, (8 + 3 * self.coins + 4 * SLOTS,), np.float32)
        if obs == "pixels":
            self.single_observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.single_action_space = spaces.MultiDiscrete([3, 3])
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._starts = _schedule(self.max_steps, self.endless)
        self._world = kernels.World(
            agent=np.full((n, 2), SIZE / 2),
            coins=np.zeros((n, self.coins, 2)),
            taken=np.zeros((n, self.coins), dtype=bool),
            exit=np.zeros((n, 2)),
            health=np.full(n, self.health),
            spotted=np.zeros(n, dtype=bool),
            t=np.zeros(n, dtype=np.int64),
            lights=np.zeros((n, len(self._starts), 7)),
        )
        self._found = np.zeros((n, 2), dtype=np.int64)
        self._count, self._since = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self._success = np.zeros(n, dtype=bool)
        self._floors, self._scratch = _floors(), np.zeros((SIZE, 3 * SIZE), dtype=np.uint8)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        world = self._world
        things = _scatter(keys, self.coins + 2)
        world.agent[rows], world.exit[rows], world.coins[rows] = things[:, 0], things[:, 1], things[:, 2:]
        world.taken[rows], world.spotted[rows], world.health[rows] = False, False, self.health
        for item in (world.t, self._count, self._since):
            item[rows] = 0
        self._success[rows] = False
        number, column = np.arange(len(self._starts)), keys[:, None]
        lights = np.empty((len(rows), len(self._starts), 7))
        lights[:, :, 0] = self._starts
        lights[:, :, 1] = 0.0025 + 0.005 * rng.uniform(column, _PACE, number)
        lights[:, :, 2] = 7.5 + 6.25 * rng.uniform(column, _RADIUS, number)
        angle = 2 * np.pi * rng.uniform(column, _ANGLE, number)
        across = angle + np.pi * (0.75 + 0.5 * rng.uniform(column, _CROSS, number))
        reach = SIZE * np.sqrt(0.5) + 13.75
        for first, direction in ((3, angle), (5, across)):
            lights[:, :, first] = SIZE / 2 + reach * np.cos(direction)
            lights[:, :, first + 1] = SIZE / 2 + reach * np.sin(direction)
        world.lights[rows] = lights

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        world = self._world
        kernels.advance(world, np.ascontiguousarray(actions, dtype=np.int64), active, SPEED, DAMAGE, self._found)
        got, left = self._found[:, 0], self._found[:, 1] > 0
        self._count += got
        reward = got * np.float32(0.25)
        terminated = active & (world.health <= 0)
        if self.endless:
            self._since = np.where(got > 0, 0, self._since + active)
            terminated |= active & (self._since >= PATIENCE)
            rows = np.flatnonzero(got)
            if len(rows):
                self._replace(rows)
        else:
            won = left & ~terminated
            reward = reward + won
            self._success |= won
            terminated |= won
        truncated = active & (world.t >= self.max_steps) & ~terminated
        if self.endless:
            self._success |= truncated
        return reward.astype(np.float32), terminated, truncated

    def _replace(self, rows: np.ndarray) -> None:
        """Put the coins that were just taken in ``rows`` (M,) elsewhere."""
        world = self._world
        for coin in range(self.coins):
            gone = rows[world.taken[rows, coin]]
            draw = 2 * (self._count[gone] * self.coins + coin)
            for axis in range(2):
                world.coins[gone, coin, axis] = 6 + (SIZE - 12) * rng.uniform(self.keys[gone], _COIN, draw + axis)
            world.taken[gone, coin] = False

    def _observe(self) -> np.ndarray:
        if self.obs == "pixels":
            return self._pictures()
        out = np.zeros((self.num_envs, 8 + 3 * self.coins + 4 * SLOTS), dtype=np.float32)
        kernels.describe(self._world, self.dim, SLOTS, not self.endless, out)
        return out

    def _pictures(self) -> np.ndarray:
        out = np.empty((self.num_envs, SIZE, 3 * SIZE), dtype=np.uint8)
        kernels.paint(self._world, self._floors, self.dim, not self.endless, self._scratch, out)
        return out.reshape(self.num_envs, SIZE, SIZE, 3)

    def _render(self, row: int) -> np.ndarray:
        return self._pictures()[row]

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._success, "coins_taken": self._count, "health": self._world.health}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return (x, y) in pixels of the agent (N, 2) and of where to go now (N, 2): a coin, else the exit."""
        world = self._world
        goal = world.exit.copy()
        for coin in range(self.coins - 1, -1, -1):
            goal = np.where(world.taken[:, coin, None], goal, world.coins[:, coin])
        return {"spotlights_agent": world.agent.copy(), "spotlights_goal": goal}


class SearingSpotlights(SingleEnv):
    """N=1 view of `BatchedSearingSpotlights`."""

    batched = BatchedSearingSpotlights


def _schedule(steps: int, endless: bool) -> np.ndarray:
    """Return the steps at which lights set out, (K,) float64."""
    starts, t, interval = [0.0] * 4, 0.0, 30.0
    while (t := t + interval) < steps and (endless or len(starts) < 34):
        starts.append(np.floor(t))
        interval = interval if endless else max(10.0, 0.95 * interval)
    return np.array(starts)


def _scatter(keys: np.ndarray, things: int) -> np.ndarray:
    """Return places (M, things, 2) in pixels, 20 apart: the first of random candidates that keeps the distance."""
    tries = 32
    draw = rng.uniform(keys[:, None], _PLACE, np.arange(2 * tries * things)).reshape(len(keys), things, tries, 2)
    draw = 6 + (SIZE - 12) * draw
    places = draw[:, :, 0].copy()
    rows = np.arange(len(keys))
    for k in range(1, things):
        gap = np.hypot(*np.moveaxis(draw[:, k, :, None] - places[:, None, :k], -1, 0)).min(axis=2)
        places[:, k] = draw[rows, k, (gap >= _APART).argmax(axis=1)]
    return places


def _floors() -> np.ndarray:
    """Return the floors (2, 84, 252) uint8: a chessboard of 12 pixels, grey, and reddish."""
    cells = np.add.outer(np.arange(7), np.arange(7)) % 2
    grey = np.where((cells == 0)[..., None], np.array([170, 170, 170]), np.array([120, 120, 120]))
    boards = np.stack([grey, np.where((cells == 0)[..., None], np.array([220, 120, 120]), np.array([170, 80, 80]))])
    return boards.astype(np.uint8).repeat(12, axis=1).repeat(12, axis=2).reshape(2, SIZE, 3 * SIZE)
