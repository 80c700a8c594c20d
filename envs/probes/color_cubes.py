"""Color-Cubes: go to the cube of the named colour, whose place was shown once and may have changed since.

After "Memory Retention Is Not Enough to Master Memory Tasks in Reinforcement Learning" (arXiv 2601.15086), of which
grid, cubes, phases, teleports and the three levels are known; everything below that is a number is ours.

G x G cells, N cubes of distinct colours on distinct cells, K phases. A phase begins with an update that names the
target colour; standing on the target's cell ends it with reward 1 / K. Then the reached cube moves to a free cell and
another phase begins; after K of them the episode terminates as success. While the agent walks, with probability
``teleport`` per move a random cube jumps to a free cell. An update follows each of these events and lasts one step, in
which the action is ignored; nothing but the agent's own cell is seen at other times. A phase allows 2 (G - 1) moves,
the longest way there is; the count begins anew where the target itself jumps. When it runs out the episode terminates.

Levels: trivial N = K = 1 without teleports; medium N = 5, K = 3, teleport 0.05; extreme as medium, but after the very
first one updates list positions without colours, row by row, and which cube went where must be inferred.

Observation: (4 + 3 N,) float32: agent row and column / (G - 1), 1 in an update, 1 if it shows colours, N times row and
column / (G - 1) (by colour, or row by row), one-hot target colour (first step of a phase only). Hidden parts are 0.
Actions: 0 up, 1 right, 2 down, 3 left; at the border nothing moves.

Correlation horizon: up to 2 (G - 1) steps for the target, the whole episode for what teleported in between. Oracle 1.
Without memory (a loop through all cells, G even) a phase succeeds with probability 2 (G - 1) / (G^2 - 1), 2/9 at G = 8,
without teleports.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes.cards import level as setting
from embodied_mem.envs.probes.stream import whole
from embodied_mem.errors import UsageError

LEVELS = {"trivial": (1, 1, 0.0, True), "medium": (5, 3, 0.05, True), "extreme": (5, 3, 0.05, False)}
"""Cubes N, phases K, teleport probability, whether every update shows colours."""
_STEP = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
_CELLS, _TARGET, _JUMP, _WHICH, _FREE = range(5)


class BatchedColorCubes(BatchedEnv):
    """N grids of cubes."""

    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        level: str = "medium",
        grid: int = 8,
        cubes: int | None = None,
        phases: int | None = None,
        teleport: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up the grids.

        Args:
            num_envs: number of rows.
            level: "trivial", "medium" or "extreme".
            grid: G >= 3.
            cubes: N >= 1 instead of the level's; at least two cells must stay free.
            phases: K >= 1 instead of the level's.
            teleport: probability in [0, 1) instead of the level's.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        n_cubes, n_phases, jump, self.shows_colours = setting(level, LEVELS)
        self.level, self.grid = level, whole("grid", grid, 3)
        self.cubes = n_cubes if cubes is None else whole("cubes", cubes, 1, self.grid**2 - 2)
        self.phases = n_phases if phases is None else whole("phases", phases, 1)
        self.teleport = jump if teleport is None else float(teleport)
        if not 0 <= self.teleport < 1:
            raise UsageError(f"expected 0 <= teleport < 1, got {teleport}")
        self.moves = 2 * (self.grid - 1)
        self.single_observation_space = spaces.Box(0.0, 1.0, (4 + 3 * self.cubes,), np.float32)
        self.single_action_space = spaces.Discrete(4)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._rows = np.arange(n)
        self._agent = np.zeros(n, dtype=np.int64)
        self._cube = np.zeros((n, self.cubes), dtype=np.int64)
        self._target, self._phase, self._left, self._t = (np.zeros(n, dtype=np.int64) for _ in range(4))
        self._updates, self._names = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
        self._coloured = np.zeros(n, dtype=bool)
        row, column = np.divmod(np.arange(self.grid**2), self.grid)
        to = np.stack([row, column], axis=1)[:, None] + _STEP
        inside = ((to >= 0) & (to < self.grid)).all(axis=2)
        # (cell, action) -> cell, flat.
        self._to = np.where(inside, to[..., 0] * self.grid + to[..., 1], np.arange(self.grid**2)[:, None]).reshape(-1)
        self._place = (np.stack([row, column], axis=1) / (self.grid - 1)).astype(np.float32)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        cells = rng.permutation(keys, _CELLS, self.grid**2)
        self._agent[rows], self._cube[rows] = cells[:, 0], cells[:, 1 : 1 + self.cubes]
        self._phase[rows], self._left[rows], self._t[rows] = 0, self.moves, 0
        self._target[rows] = rng.integers(keys, _TARGET, 0, self.cubes)
        self._updates[rows] = self._names[rows] = self._coloured[rows] = True

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        walks = ~self._updates
        if not self.all_active:
            walks &= active
        self._agent = np.where(walks, self._to.take(self._agent * 4 + actions), self._agent)
        self._left -= walks
        self._t += 1 if self.all_active else active
        target = self._cube.reshape(-1).take(self._rows * self.cubes + self._target)
        reached = walks & (self._agent == target)
        self._phase += reached
        won = reached & (self._phase == self.phases)
        lost = walks & ~reached & (self._left == 0)
        ends = won | lost
        jumps = reached
        if self.teleport:
            jumps = reached | walks & (rng.uniform(self.keys, _JUMP, self._t) < self.teleport)
        event = jumps & ~ends
        named = reached & event
        coloured = event & self.shows_colours
        if not self.all_active:
            event = np.where(active, event, self._updates)
            named = np.where(active, named, self._names)
            coloured = np.where(active, coloured, self._coloured)
        rows = np.flatnonzero(jumps & ~ends)
        if len(rows):
            self._move(rows, reached[rows])
        self._updates, self._names, self._coloured = event, named, coloured
        return reached * np.float32(1.0 / self.phases), ends, np.zeros(self.num_envs, dtype=bool)

    def _move(self, rows: np.ndarray, reached: np.ndarray) -> None:
        """Move a cube of ``rows`` (M,): the one ``reached`` (M,) bool, which begins a phase, or a random one."""
        keys, t, m = self.keys[rows], self._t[rows], np.arange(len(rows))
        target = self._target[rows]
        which = np.where(reached, target, rng.integers(keys, _WHICH, 0, self.cubes, t))
        cells = self.grid**2
        score = rng.bits(keys[:, None], _FREE, t[:, None] * cells + np.arange(cells))
        score[m[:, None], self._cube[rows]] = 0
        score[m, self._agent[rows]] = 0
        self._cube[rows, which] = score.argmax(axis=1)
        self._left[rows] = np.where(which == target, self.moves, self._left[rows])
        if self.cubes > 1:
            other = target + rng.integers(keys, _TARGET, 1, self.cubes, t)
            self._target[rows] = np.where(reached, other % self.cubes, target)

    def _observe(self) -> np.ndarray:
        n = self.cubes
        observed = np.zeros((self.num_envs, 4 + 3 * n), dtype=np.float32)
        observed[:, :2] = self._place.take(self._agent, axis=0)
        observed[:, 2], observed[:, 3] = self._updates, self._coloured
        rows = np.flatnonzero(self._updates)
        if len(rows):
            shown = self._cube[rows]
            if not self.shows_colours:
                shown = np.where(self._coloured[rows, None], shown, np.sort(shown, axis=1))
            observed[rows, 4 : 4 + 2 * n] = self._place[shown].reshape(len(rows), 2 * n)
        rows = np.flatnonzero(self._names)
        observed[rows, 4 + 2 * n + self._target[rows]] = 1
        return observed

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._phase == self.phases, "phases_done": self._phase}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return (row, column) of the agent (N, 2), of every cube by colour (N, cubes, 2), and the target colour."""
        return {
            "cubes_agent": np.stack(np.divmod(self._agent, self.grid), axis=1),
            "cubes_places": np.stack(np.divmod(self._cube, self.grid), axis=2),
            "cubes_target": self._target.copy(),
        }


class ColorCubes(SingleEnv):
    """N=1 view of `BatchedColorCubes`."""

    batched = BatchedColorCubes
