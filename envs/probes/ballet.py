"""Ballet: dancers perform one after another; then a dance is named and the agent walks to who danced it.

Task of Lampinen et al. (2021, HCAM), rules and timing of its published environment, written anew. The map has 11 x 11
cells with a wall of one cell; the agent starts in the middle and n dancers stand on distinct ones of 8 spots, rows and
columns {2, 5, 8} but the middle. Looks (15 shapes, 19 colours) and dances (13, of 16 king moves, at most one cell from
the spot) are distinct within an episode; the target is uniform and looks tell nothing about it. Dancer i makes its move
m = 1 .. 16 on frame i (15 + delay) + m - 1, so the first move is seen in the first observation and the name of the
dance is shown after n (15 + delay) steps. Until then actions are ignored.

Actions: the moves N, NE, E, ... NW; into the wall nothing moves. Walking onto a dancer terminates: reward 1 if it is
the target, else 0. Truncated, reward 0, after 320 steps (delay <= 16), 1024 (longer ones) or ``max_steps``.

Observation, symbolic (ours; spots identify dancers, looks are left out): ``vector`` (26,) float32: per spot 1 where a
dancer stands, then its row offset, then its column offset (8 each), agent row and column as (cell - 5) / 5; ``goal``
(14,) float32, one-hot: watch, or the dance. Pixels: ``rgb`` (99, 99, 3) uint8, 9 per cell, 11 x 11 cells around the
agent (255 times the source's values); ``instruction`` (16,) uint8, the text "watch" or the dance. Shapes and colours
are drawn by us.

Correlation horizon: from delay to n (15 + delay) steps, plus the walk of 3. Without memory 1 / n, oracle 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, Observation, SingleEnv
from embodied_mem.envs.probes import _ballet_scene as scene
from embodied_mem.errors import UsageError
from embodied_mem.spaces import encode_text

SPOTS = np.array([(r, c) for r in (2, 5, 8) for c in (2, 5, 8) if (r, c) != (5, 5)])
LEVELS = tuple(f"{n}_delay{delay}" for delay in (16, 48) for n in (2, 4, 8))
OBSERVATIONS = ("symbolic", "pixels")
WORDS = ("watch", *scene.DANCES)
TEXT = 16
_STEP = np.array(list(scene.MOVES.values()))
_OFFSETS = scene.dance_offsets()
_LEVEL, _SPOT, _DANCE, _SHAPE, _COLOUR, _TARGET = range(6)


class BatchedBallet(BatchedEnv):
    """N ballets; every row has its own number of dancers and delay."""

    metadata = {"render_modes": ["rgb_array"]}
    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        levels: str | Sequence[str] = "2_delay16",
        obs: str = "symbolic",
        max_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Set up N ballets.

        Args:
            num_envs: number of rows N.
            levels: one level or several, of which every episode draws one: "<dancers>_delay<delay>", 2 to 8 dancers and
                a delay >= 1; the source's are {2, 4, 8} and {16, 48}.
            obs: "symbolic" or "pixels".
            max_steps: steps after which an episode is truncated; None: as in the source.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        if obs not in OBSERVATIONS:
            raise UsageError(f"expected obs 'symbolic' or 'pixels', got {obs!r}")
        self.levels = [levels] if isinstance(levels, str) else list(levels)
        if not self.levels:
            raise UsageError("expected at least one level, got none")
        parsed = np.array([_parse(level) for level in self.levels])
        self.obs = obs
        self._dancers, self._periods = parsed[:, 0], 15 + parsed[:, 1]
        self._limits = np.where(parsed[:, 1] <= 16, 320, 1024) if max_steps is None else np.full(len(parsed), max_steps)
        short = self._limits <= self._dancers * self._periods
        if short.any():
            level = self.levels[int(np.flatnonzero(short)[0])]
            raise UsageError(f"expected max_steps beyond the dances of {level}, got {self._limits[short][0]}")
        self.single_observation_space = _space(obs)
        self.single_action_space = spaces.Discrete(8)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._rows = np.arange(n)
        self._count, self._period, self._watch, self._limit = (np.ones(n, dtype=np.int64) for _ in range(4))
        self._t, self._target = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
        self._agent = np.full((n, 2), 5, dtype=np.int64)
        self._spot, self._dance, self._shape, self._colour = (np.zeros((n, 8), dtype=np.int64) for _ in range(4))
        # Which dancer stands on a spot, -1 for none; the ninth entry stands for every other cell.
        self._dancer_on = np.full((n, 9), -1, dtype=np.int64)
        self._symbols = np.zeros((n, 26), dtype=np.float32)
        self._spot_of_cell = np.full((scene.GRID, scene.GRID), 8, dtype=np.int64)
        self._spot_of_cell[SPOTS[:, 0], SPOTS[:, 1]] = np.arange(8)
        self._texts = np.stack([encode_text(word, TEXT) for word in WORDS])
        self._one_hot = np.eye(len(WORDS), dtype=np.float32)
        self._looks = (scene.backdrop(), scene.shapes(), scene.colours())
        self._success = np.zeros(n, dtype=bool)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        level = rng.integers(keys, _LEVEL, 0, len(self.levels))
        count, period = self._dancers[level], self._periods[level]
        self._count[rows], self._period[rows] = count, period
        self._watch[rows], self._limit[rows] = count * period, self._limits[level]
        spot = rng.permutation(keys, _SPOT, 8)
        self._spot[rows] = spot
        self._dance[rows] = rng.permutation(keys, _DANCE, len(scene.DANCES))[:, :8]
        self._shape[rows] = rng.permutation(keys, _SHAPE, 15)[:, :8]
        self._colour[rows] = rng.permutation(keys, _COLOUR, 19)[:, :8]
        self._target[rows] = rng.integers(keys, _TARGET, 0, count)
        dancer_on = np.full((len(rows), 9), -1, dtype=np.int64)
        np.put_along_axis(dancer_on, spot, np.where(np.arange(8) < count[:, None], np.arange(8), -1), axis=1)
        self._dancer_on[rows] = dancer_on
        self._symbols[rows, :8] = dancer_on[:, :8] >= 0
        self._agent[rows], self._t[rows], self._success[rows] = 5, 0, False

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        walks = self._t >= self._watch
        if not self.all_active:
            walks &= active
        to = self._agent + _STEP[actions]
        walks &= ((to > 0) & (to < scene.GRID - 1)).all(axis=1)
        self._agent = np.where(walks[:, None], to, self._agent)
        here = self._spot_of_cell[self._agent[:, 0], self._agent[:, 1]]
        dancer = self._dancer_on.reshape(-1).take(self._rows * 9 + here)
        terminated = walks & (dancer >= 0)
        success = terminated & (dancer == self._target)
        self._success |= success
        self._t += 1 if self.all_active else active
        truncated = (self._t >= self._limit) & ~terminated
        if not self.all_active:
            truncated &= active
        return success.astype(np.float32), terminated, truncated

    def _word(self) -> np.ndarray:
        """Return (N,) which of `WORDS` is shown."""
        asked = self._dance.reshape(-1).take(self._rows * 8 + self._target) + 1
        return np.where(self._t < self._watch, 0, asked)

    def _dancing(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (N,) which dancer is off its spot, -1 for none, and its offset (N, 2)."""
        number, frame = np.divmod(self._t, self._period)
        dances = (number < self._count) & (frame < scene.DANCE_STEPS)
        number = np.minimum(number, 7)
        dance = self._dance.reshape(-1).take(self._rows * 8 + number)
        offset = _OFFSETS[dance, np.where(dances, frame + 1, 0)]
        return np.where(dances, number, -1), offset

    def _observe(self) -> Observation:
        if self.obs == "pixels":
            return {"rgb": self._pictures(), "instruction": self._texts[self._word()]}
        number, offset = self._dancing()
        vector = self._symbols.copy()
        spot = self._spot.reshape(-1).take(self._rows * 8 + np.maximum(number, 0))
        vector[self._rows, 8 + spot] = offset[:, 0]
        vector[self._rows, 16 + spot] = offset[:, 1]
        vector[:, 24:] = (self._agent - 5) * np.float32(0.2)
        return {"vector": vector, "goal": self._one_hot.take(self._word(), axis=0)}

    def _pictures(self) -> np.ndarray:
        number, offset = self._dancing()
        out = np.empty((self.num_envs, scene.VIEW, 3 * scene.VIEW), dtype=np.uint8)
        looks = (self._shape, self._colour, self._count)
        scene.render(out, *self._looks, self._agent, SPOTS[self._spot], offset, number, *looks)
        return out.reshape(self.num_envs, scene.VIEW, scene.VIEW, 3)

    def _render(self, row: int) -> np.ndarray:
        return self._pictures()[row]

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._success, "dancers": self._count, "delay": self._period - 15}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return cell of the target (N, 2), cell of the agent (N, 2), and every dancer's dance (N, 8), -1 for none."""
        target = self._spot[self._rows, self._target]
        return {
            "ballet_target": SPOTS[target],
            "ballet_agent": self._agent.copy(),
            "ballet_dances": np.where(np.arange(8) < self._count[:, None], self._dance, -1),
        }


class Ballet(SingleEnv):
    """N=1 view of `BatchedBallet`."""

    batched = BatchedBallet


def _space(obs: str) -> spaces.Dict:
    if obs == "pixels":
        rgb = spaces.Box(0, 255, (scene.VIEW, scene.VIEW, 3), np.uint8)
        return spaces.Dict({"rgb": rgb, "instruction": spaces.Box(0, 255, (TEXT,), np.uint8)})
    vector = spaces.Box(-1.0, 1.0, (26,), np.float32)
    return spaces.Dict({"vector": vector, "goal": spaces.Box(0.0, 1.0, (len(WORDS),), np.float32)})


def _parse(level: str) -> tuple[int, int]:
    found = re.fullmatch(r"([2-8])_delay([1-9]\d*)", str(level))
    if found is None:
        raise UsageError(f"expected a level '<2 to 8>_delay<delay >= 1>' such as {LEVELS[0]!r}, got {level!r}")
    return int(found[1]), int(found[2])
