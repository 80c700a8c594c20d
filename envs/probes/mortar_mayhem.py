"""Mortar Mayhem: watch a list of commands, then carry them out in order, each before the other tiles burn.

Rules of Memory Gym's grid form (Pleines et al. 2023), own implementation; `free_mortar_mayhem` moves freely. On an
arena of 5 x 5 tiles ``commands`` moves are shown one after another, each for ``show`` steps with ``pause`` steps
between, while actions are ignored. Then, for one command after another, the agent has ``time`` steps to reach the tile
the command leads to from the last one; for ``burn`` more steps all other tiles burn and it must stay there. Standing
elsewhere then terminates. Each command carried out earns 0.1, and the last one terminates as success. Commands never
lead off the arena; each is drawn evenly from those that fit. ``moves`` 5: right, down, left, up, stay; 9: the diagonals
too.

Endless form (``EndlessMortarMayhem-v0``): one new command is shown, then the whole list so far is carried out from the
present tile, then the next one is shown, and so on; the arena wraps around. Truncated after ``max_steps``, which is
success.

Actions: 0 stay, 1 turn left, 2 turn right, 3 forward. Pixels: (84, 84, 3) uint8, tiles of 16, the command in the
middle, burning tiles red. Vector: (16,) float32: row and column / 4, heading one-hot (right, down, left, up), command
one-hot (9), 1 while tiles burn. The step at which commands begin is not marked.

Correlation horizon: for command k, the rest of the list and k (time + burn) steps. Oracle 0.1 per command. Without
memory: standing still is right where "stay" was commanded, about 1/4 of the time; it scores what the registration says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.probes._board import paint
from embodied_mem.envs.probes.stream import whole
from embodied_mem.errors import UsageError

STAY, TURN_LEFT, TURN_RIGHT, FORWARD = range(4)
ARENA = 5
TILE = 16
SIZE = 84
EDGE = (SIZE - ARENA * TILE) // 2
OBSERVATIONS = ("pixels", "vector")
MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)])
"""Commands as (row, column): right, down, left, up, stay, then the diagonals."""
_START, _HEADING, _COMMAND = range(3)


class BatchedMortarMayhem(BatchedEnv):
    """N arenas."""

    metadata = {"render_modes": ["rgb_array"]}
    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        endless: bool = False,
        obs: str = "pixels",
        commands: int = 10,
        moves: int = 5,
        show: int = 3,
        pause: int = 1,
        time: int = 6,
        burn: int = 2,
        max_steps: int = 512,
        **kwargs: Any,
    ) -> None:
        """Set up N arenas.

        Args:
            num_envs: number of rows N.
            endless: the endless form.
            obs: "pixels" or "vector".
            commands: length of the list, >= 1; not used by the endless form.
            moves: 5 or 9 kinds of commands.
            show: steps a command is shown, >= 1.
            pause: steps after each, >= 0.
            time: steps to carry one out, >= 5, which is what a diagonal may need.
            burn: steps for which the other tiles burn, >= 1.
            max_steps: limit of the endless form, >= 1.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range.
        """
        if obs not in OBSERVATIONS:
            raise UsageError(f"expected obs 'pixels' or 'vector', got {obs!r}")
        if moves not in (5, 9):
            raise UsageError(f"expected moves 5 or 9, got {moves!r}")
        self.endless, self.obs, self.moves = bool(endless), obs, int(moves)
        self.commands, self.show, self.pause = (
            whole("commands", commands, 1),
            whole("show", show, 1),
            whole("pause", pause, 0),
        )
        self.time, self.burn, self.max_steps = (
            whole("time", time, 5),
            whole("burn", burn, 1),
            whole("max_steps", max_steps, 1),
        )
        self.single_observation_space = self._vector_space()
        if obs == "pixels":
            self.single_observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.single_action_space = self._action_space()
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self._at, self._target = np.zeros((n, 2), dtype=np.int64), np.zeros((n, 2), dtype=np.int64)
        # Step within the present command, its number, how many are on the list, how many were carried out.
        self._heading, self._clock, self._k, self._known, self._done_well, self._t = (
            np.zeros(n, dtype=np.int64) for _ in range(6)
        )
        self._shows, self._success = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
        self._list = np.zeros((n, self.commands), dtype=np.int64)
        cells = np.stack(np.divmod(np.arange(ARENA**2), ARENA), axis=1)
        to = cells[:, None] + MOVES[: self.moves]
        fits = ((to >= 0) & (to < ARENA)).all(axis=2)
        # Per tile, the commands that fit come first.
        self._fits, self._count = np.argsort(~fits, axis=1, kind="stable"), fits.sum(axis=1)
        self._looks = _draw()

    def _vector_space(self) -> spaces.Box:
        return spaces.Box(0.0, 1.0, (16,), np.float32)

    def _action_space(self) -> spaces.Space[Any]:
        return spaces.Discrete(4)

    def _command(self, rows: np.ndarray, number: np.ndarray) -> np.ndarray:
        """Return the command ``number`` (M,) of ``rows`` (M,)."""
        if self.endless:
            return rng.integers(self.keys[rows], _COMMAND, 0, self.moves, number)
        return self._list[rows, np.minimum(number, self.commands - 1)]

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        cell = np.stack(np.divmod(rng.integers(keys, _START, 0, ARENA**2), ARENA), axis=1)
        self._at[rows] = self._target[rows] = cell
        self._heading[rows] = rng.integers(keys, _HEADING, 0, 4)
        for item in (self._clock, self._k, self._done_well, self._t):
            item[rows] = 0
        self._known[rows] = 1 if self.endless else self.commands
        self._shows[rows], self._success[rows] = True, False
        if self.endless:
            return
        place, draw = cell[:, 0] * ARENA + cell[:, 1], rng.uniform(keys[:, None], _COMMAND, np.arange(self.commands))
        for number in range(self.commands):
            chosen = self._fits[place, (draw[:, number] * self._count[place]).astype(np.int64)]
            self._list[rows, number] = chosen
            place = place + MOVES[chosen, 0] * ARENA + MOVES[chosen, 1]

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        acts = active & ~self._shows
        self._move(actions, acts)
        self._clock += active
        self._t += active
        away = (self._at != self._target).any(axis=1)
        burnt = acts & away & (self._clock >= self.time)
        kept = acts & ~away & (self._clock == self.time + self.burn)
        self._done_well += kept
        seen = active & self._shows & (self._clock == self.show + self.pause)
        passed = np.flatnonzero(kept | seen)
        won = np.zeros(self.num_envs, dtype=bool)
        if len(passed):
            won = self._pass(passed)
        terminated = burnt | won
        truncated = active & ~terminated & (self._t >= self.max_steps) if self.endless else np.zeros_like(won)
        self._success |= won | truncated
        return kept * np.float32(0.1), terminated, truncated

    def _move(self, actions: np.ndarray, acts: np.ndarray) -> None:
        """Move the agents of the rows that act (N,) bool."""
        turn = (actions == TURN_RIGHT).astype(np.int64) - (actions == TURN_LEFT)
        self._heading = (self._heading + turn * acts) & 3
        to = self._at + MOVES[self._heading] * (acts & (actions == FORWARD))[:, None]
        self._at = to % ARENA if self.endless else np.clip(to, 0, ARENA - 1)

    def _pass(self, rows: np.ndarray) -> np.ndarray:
        """Go on to the next command in ``rows`` (M,); return (N,) where the finite list has been carried out."""
        shows, k = self._shows[rows], self._k[rows] + 1
        listed = k == self._known[rows]
        starts, again = shows & listed, ~shows & listed
        won = np.zeros(self.num_envs, dtype=bool)
        if self.endless:
            # The list is done: the next command is shown, the one after the last.
            self._known[rows] += again
            self._shows[rows] = np.where(listed, again, shows)
        else:
            won[rows] = again
            self._shows[rows] = shows & ~listed
        k = np.where(starts, 0, k)
        if not self.endless:
            k = np.where(again, self.commands - 1, k)
        self._k[rows], self._clock[rows] = k, np.where(won[rows], self.time + self.burn, 0)
        goes = rows[~self._shows[rows] & ~won[rows]]
        target = self._target[goes] + MOVES[self._command(goes, self._k[goes])]
        self._target[goes] = target % ARENA if self.endless else target
        return won

    def _shown(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (N,) the command on display, -1 for none, and whether tiles burn."""
        rows = np.arange(self.num_envs)
        shown = np.where(self._shows & (self._clock < self.show), self._command(rows, self._k), -1)
        return shown, ~self._shows & (self._clock >= self.time)

    def _observe(self) -> np.ndarray:
        if self.obs == "pixels":
            return self._pictures()
        shown, burns = self._shown()
        rows = np.flatnonzero(shown >= 0)
        out = np.zeros((self.num_envs, 16), dtype=np.float32)
        out[:, :2] = self._at / np.float32(ARENA - 1)
        out[np.arange(self.num_envs), 2 + self._heading] = 1
        out[rows, 6 + shown[rows]] = 1
        out[:, 15] = burns
        return out

    def _pictures(self) -> np.ndarray:
        shown, burns = self._shown()
        out = np.empty((self.num_envs, SIZE, 3 * SIZE), dtype=np.uint8)
        tile = self._target[:, 0] * ARENA + self._target[:, 1]
        sprite, place = self._agent()
        kind = np.stack([sprite, np.where(shown < 0, -1, 4 + shown)], axis=1)
        middle = np.full_like(self._at, (SIZE - TILE) // 2)
        corner = np.stack([EDGE + place, middle], axis=1)
        floors, sprites = self._looks
        paint(out, floors, np.where(burns, 1 + tile, 0), sprites, kind, corner)
        return out.reshape(self.num_envs, SIZE, SIZE, 3)

    def _agent(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sprite of the agent (N,) and its top left pixel in the arena (N, 2)."""
        return self._heading, self._at * TILE

    def _render(self, row: int) -> np.ndarray:
        return self._pictures()[row]

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._success, "commands_done": self._done_well}

    def privileged(self) -> dict[str, np.ndarray]:
        """Return the way to the tile of the present command (N, 2), rows and columns, and the heading (N,)."""
        way = self._target - self._at
        if self.endless:
            way = (way + ARENA // 2) % ARENA - ARENA // 2
        return {"mortar_way": way, "mortar_heading": self._heading.copy()}


class MortarMayhem(SingleEnv):
    """N=1 view of `BatchedMortarMayhem`."""

    batched = BatchedMortarMayhem


def _draw() -> tuple[np.ndarray, np.ndarray]:
    """Return the floors (26, 84, 252): plain, then all but one tile burning; and the sprites (13, 16, 48).

    Sprites 0 to 3 are the agent by heading, 4 to 12 the commands.
    """
    cells = np.where((np.add.outer(np.arange(ARENA), np.arange(ARENA)) % 2 == 0)[..., None], 90, 60)
    plain = np.repeat(cells, 3, axis=2)
    boards = [plain]
    for tile in range(ARENA**2):
        burning = np.tile(np.array([200, 50, 20]), (ARENA, ARENA, 1))
        burning[tile // ARENA, tile % ARENA] = plain[tile // ARENA, tile % ARENA]
        boards.append(burning)
    floors = np.zeros((len(boards), SIZE, SIZE, 3), dtype=np.uint8)
    inner = np.stack(boards).repeat(TILE, axis=1).repeat(TILE, axis=2)
    floors[:, EDGE : SIZE - EDGE, EDGE : SIZE - EDGE] = inner
    y, x = np.mgrid[:TILE, :TILE] - (TILE - 1) / 2
    sprites = np.zeros((13, TILE, TILE, 3), dtype=np.uint8)
    for heading, (along, across) in enumerate(((x, y), (y, x), (-x, y), (-y, x))):
        sprites[heading, (along >= -6) & (2 * abs(across) <= 6.6 - along)] = (60, 160, 255)
    for command, (down, right) in enumerate(MOVES.tolist()):
        length = max(1.0, float(np.hypot(down, right)))
        along, across = (x * right + y * down) / length, (x * down - y * right) / length
        head = (along >= 0) & (abs(across) <= 7 - along)
        shaft = (along >= -7) & (along < 0) & (abs(across) <= 2)
        ring = abs(np.hypot(x, y) - 5) <= 1.5
        sprites[4 + command, head | shaft if down or right else ring] = (255, 230, 60)
    return floors.reshape(len(boards), SIZE, 3 * SIZE), sprites.reshape(13, TILE, 3 * TILE)
