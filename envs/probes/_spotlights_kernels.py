"""Compiled part of Searing Spotlights: where the lights are, what they hit, and the two kinds of observation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

SIZE = 84
AGENT, COIN, EXIT = 4.0, 4.0, 5.0
"""Pixels of the arena; radii of agent and coin, half width of the exit."""

_jit = numba.njit(cache=True, nogil=True)


class World(NamedTuple):
    """State of N rows; positions are (x, y) in pixels."""

    agent: np.ndarray
    """(N, 2) float64."""
    coins: np.ndarray
    """(N, C, 2) float64."""
    taken: np.ndarray
    """(N, C) bool."""
    exit: np.ndarray
    """(N, 2) float64."""
    health: np.ndarray
    """(N,) float64."""
    spotted: np.ndarray
    """(N,) bool, whether a light hit the agent at the last step."""
    t: np.ndarray
    """(N,) int64."""
    lights: np.ndarray
    """(N, K, 7) float64: step of its start, share of its way per step, radius, start and end (x, y)."""


@_jit
def _shine(lights: np.ndarray, t: int, now: np.ndarray) -> int:
    """Write x, y and radius of the lights (K, 7) that are out at step ``t`` to ``now`` (K, 3); return how many."""
    count = 0
    for k in range(len(lights)):
        share = (t - lights[k, 0]) * lights[k, 1]
        if 0.0 <= share <= 1.0:
            now[count, 0] = lights[k, 3] + share * (lights[k, 5] - lights[k, 3])
            now[count, 1] = lights[k, 4] + share * (lights[k, 6] - lights[k, 4])
            now[count, 2] = lights[k, 2]
            count += 1
    return count


@_jit
def _hit(now: np.ndarray, count: int, x: float, y: float) -> bool:
    """Return whether one of ``count`` lights ``now`` (K, 3) shines on a point."""
    for k in range(count):
        dx, dy = x - now[k, 0], y - now[k, 1]
        if dx * dx + dy * dy <= now[k, 2] * now[k, 2]:
            return True
    return False


@_jit
def advance(
    world: World, actions: np.ndarray, active: np.ndarray, speed: float, damage: float, found: np.ndarray
) -> None:
    """Move the agents of active rows and apply lights; write what was reached to ``found`` (N, 2): coins, exit.

    Args:
        world: changed in place; a coin that was reached counts as taken.
        actions: (N, 2) int64: 0 none, 1 left, 2 right; 0 none, 1 up, 2 down.
        active: (N,) bool.
        speed: pixels per step.
        damage: health lost per step in the light.
        found: (N, 2) int64, written: number of coins reached at this step, 1 where the open exit was.
    """
    now = np.empty((world.lights.shape[1], 3))
    coins = world.coins.shape[1]
    for i in range(len(world.t)):
        found[i, 0] = found[i, 1] = 0
        if not active[i]:
            continue
        world.t[i] += 1
        dx, dy = 0.0, 0.0
        if actions[i, 0]:
            dx = speed if actions[i, 0] == 2 else -speed
        if actions[i, 1]:
            dy = speed if actions[i, 1] == 2 else -speed
        if dx != 0.0 and dy != 0.0:
            dx, dy = dx * math.sqrt(0.5), dy * math.sqrt(0.5)
        x = min(max(world.agent[i, 0] + dx, AGENT), SIZE - AGENT)
        y = min(max(world.agent[i, 1] + dy, AGENT), SIZE - AGENT)
        world.agent[i, 0], world.agent[i, 1] = x, y
        count = _shine(world.lights[i], world.t[i], now)
        world.spotted[i] = _hit(now, count, x, y)
        if world.spotted[i]:
            world.health[i] -= damage
        left = 0
        for c in range(coins):
            if world.taken[i, c]:
                continue
            cx, cy = x - world.coins[i, c, 0], y - world.coins[i, c, 1]
            if cx * cx + cy * cy <= (AGENT + COIN) ** 2:
                world.taken[i, c] = True
                found[i, 0] += 1
            else:
                left += 1
        if left == 0 and abs(x - world.exit[i, 0]) <= EXIT and abs(y - world.exit[i, 1]) <= EXIT:
            found[i, 1] = 1


@_jit
def describe(world: World, dim: int, slots: int, has_exit: bool, out: np.ndarray) -> None:
    """Write the vector observations to ``out`` (N, 5 + 3 C + 3 + 4 slots) float32, which holds zeros.

    A thing is seen while the general light is on (``dim`` steps) or a light shines on its centre.
    """
    now = np.empty((world.lights.shape[1], 3))
    coins = world.coins.shape[1]
    for i in range(len(out)):
        general = 1.0 - world.t[i] / dim if world.t[i] < dim else 0.0
        count = _shine(world.lights[i], world.t[i], now)
        out[i, 0], out[i, 1] = general, world.spotted[i]
        x, y = world.agent[i, 0], world.agent[i, 1]
        if general > 0.0 or _hit(now, count, x, y):
            out[i, 2], out[i, 3], out[i, 4] = 1.0, x / SIZE, y / SIZE
        for c in range(coins):
            x, y = world.coins[i, c, 0], world.coins[i, c, 1]
            if not world.taken[i, c] and (general > 0.0 or _hit(now, count, x, y)):
                out[i, 5 + 3 * c], out[i, 6 + 3 * c], out[i, 7 + 3 * c] = 1.0, x / SIZE, y / SIZE
        first = 5 + 3 * coins
        x, y = world.exit[i, 0], world.exit[i, 1]
        if has_exit and (general > 0.0 or _hit(now, count, x, y)):
            out[i, first], out[i, first + 1], out[i, first + 2] = 1.0, x / SIZE, y / SIZE
        first += 3
        for k in range(min(count, slots)):
            out[i, first + 4 * k] = 1.0
            for part in range(3):
                out[i, first + 4 * k + 1 + part] = now[k, part] / SIZE


@_jit
def paint(world: World, floors: np.ndarray, dim: int, has_exit: bool, scene: np.ndarray, out: np.ndarray) -> None:
    """Draw every row's picture: the scene where light falls, black elsewhere.

    Args:
        world: the rows.
        floors: (2, 84, 252) uint8, plain, and reddish for rows whose agent is in the light.
        dim: steps for which the general light fades.
        has_exit: whether the exit is drawn.
        scene: (84, 252) uint8, a scratch picture.
        out: (N, 84, 252) uint8, written.
    """
    now = np.empty((world.lights.shape[1], 3))
    for i in range(len(out)):
        count = _shine(world.lights[i], world.t[i], now)
        floor = floors[1 if world.spotted[i] else 0]
        for y in range(SIZE):
            line, source = scene[y], floor[y]
            for x in range(3 * SIZE):
                line[x] = source[x]
        opened = True
        for c in range(world.coins.shape[1]):
            if not world.taken[i, c]:
                opened = False
        if has_exit:
            _disc(scene, world.exit[i, 0], world.exit[i, 1], EXIT, True, (0, 200, 80) if opened else (120, 80, 160))
        for c in range(world.coins.shape[1]):
            if not world.taken[i, c]:
                _disc(scene, world.coins[i, c, 0], world.coins[i, c, 1], COIN, False, (250, 210, 0))
        _disc(scene, world.agent[i, 0], world.agent[i, 1], AGENT, False, (60, 160, 255))
        picture = out[i]
        share = 256 - 256 * world.t[i] // dim if world.t[i] < dim else 0
        for y in range(SIZE):
            line, source = picture[y], scene[y]
            if share:
                for x in range(3 * SIZE):
                    line[x] = source[x] * share >> 8
            else:
                for x in range(3 * SIZE):
                    line[x] = 0
        for k in range(count):
            radius = now[k, 2]
            for y in range(max(int(now[k, 1] - radius), 0), min(int(now[k, 1] + radius) + 2, SIZE)):
                dy = y + 0.5 - now[k, 1]
                inside = radius * radius - dy * dy
                if inside < 0.0:
                    continue
                half = math.sqrt(inside)
                low, high = max(math.ceil(now[k, 0] - half - 0.5), 0), min(math.floor(now[k, 0] + half - 0.5) + 1, SIZE)
                if high > low:
                    line, source = picture[y, 3 * low : 3 * high], scene[y, 3 * low : 3 * high]
                    for x in range(len(source)):
                        line[x] = source[x]


@_jit
def _disc(picture: np.ndarray, cx: float, cy: float, radius: float, square: bool, colour: tuple[int, int, int]) -> None:
    """Fill a disc or a square of a (84, 252) uint8 picture."""
    for y in range(max(int(cy - radius), 0), min(int(cy + radius) + 1, SIZE)):
        for x in range(max(int(cx - radius), 0), min(int(cx + radius) + 1, SIZE)):
            dx, dy = x + 0.5 - cx, y + 0.5 - cy
            if square or dx * dx + dy * dy <= radius * radius:
                picture[y, 3 * x] = colour[0]
                picture[y, 3 * x + 1] = colour[1]
                picture[y, 3 * x + 2] = colour[2]
