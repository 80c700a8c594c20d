"""Floor plans on a 0.25 m grid: rooms by recursive splitting, merges and cut-outs, then doors and windows.

Every room is a rectilinear region of a label grid, so polygons, shared walls and inside tests are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

CELL = 0.25
"""Edge of a layout cell, metres."""
MIN_SIDE = 10
"""Shortest side of a room in cells."""
OUTSIDE = -1
DOOR_ROOM = 0.2
"""Metres of wall left on both sides of a door."""


@dataclass
class Stretch:
    """A straight piece of wall between two rooms (or a room and the outside), in metres."""

    rooms: tuple[int, int]
    """The lower and higher label; -1 = outside comes first."""
    start: tuple[float, float]
    end: tuple[float, float]

    @property
    def length(self) -> float:
        """Metres."""
        return abs(self.end[0] - self.start[0]) + abs(self.end[1] - self.start[1])

    def at(self, metres: float) -> tuple[float, float]:
        """Return the point this far from the start."""
        share = metres / self.length
        return (
            self.start[0] + share * (self.end[0] - self.start[0]),
            self.start[1] + share * (self.end[1] - self.start[1]),
        )


@dataclass
class Opening:
    """A door (two rooms, or one and the outside) or a window (one room)."""

    rooms: tuple[int, int]
    ends: tuple[tuple[float, float], tuple[float, float]]
    top: float
    sill: float = 0.0
    openable: bool = True
    openness: float = 1.0


@dataclass
class Layout:
    """Rooms, doors and windows of one floor."""

    labels: np.ndarray
    """(rows along z, columns along x) int: room of every cell, -1 outside."""
    kinds: list[str]
    """Room type of every label."""
    doors: list[Opening] = field(default_factory=list)
    windows: list[Opening] = field(default_factory=list)

    def area(self, room: int) -> float:
        """Square metres."""
        return float((self.labels == room).sum()) * CELL * CELL

    def holds(self, room: int, x0: float, z0: float, x1: float, z1: float) -> bool:
        """Return whether an axis-aligned rectangle (metres) lies wholly in one room."""
        slack = 1e-3
        low_c, high_c = int(np.floor((x0 + slack) / CELL)), int(np.floor((x1 - slack) / CELL))
        low_r, high_r = int(np.floor((z0 + slack) / CELL)), int(np.floor((z1 - slack) / CELL))
        rows, columns = self.labels.shape
        if low_c < 0 or low_r < 0 or high_c >= columns or high_r >= rows:
            return False
        return bool((self.labels[low_r : high_r + 1, low_c : high_c + 1] == room).all())


def split_floor(rng: np.random.Generator, rooms: int, area: float) -> np.ndarray:
    """Return the label grid of ``rooms`` connected rooms of about ``area`` square metres each."""
    extra_merge = int(rooms >= 2 and rng.random() < 0.35)
    extra_drop = int(rooms >= 3 and rng.random() < 0.4)
    leaves = rooms + extra_merge + extra_drop
    total = leaves * area / CELL**2
    aspect = rng.uniform(0.75, 1.35)
    wide = max(MIN_SIDE + 2, round(float(np.sqrt(total * aspect))))
    deep = max(MIN_SIDE + 2, round(total / wide))
    rectangles = _split(rng, wide, deep, leaves)
    labels = np.full((deep, wide), OUTSIDE, np.int64)
    for index, (c0, r0, c1, r1) in enumerate(rectangles):
        labels[r0:r1, c0:c1] = index
    if extra_drop:
        labels = _drop_corner(rng, labels)
    if extra_merge or labels.max() + 1 > rooms:
        while labels.max() + 1 > rooms:
            labels = _merge(rng, labels)
    return labels


def _split(rng: np.random.Generator, wide: int, deep: int, count: int) -> list[tuple[int, int, int, int]]:
    done = [(0, 0, wide, deep)]
    while len(done) < count:
        done.sort(key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
        for index in range(len(done) - 1, -1, -1):
            c0, r0, c1, r1 = done[index]
            along_x = (c1 - c0) >= (r1 - r0)
            side = c1 - c0 if along_x else r1 - r0
            if side < 2 * MIN_SIDE:
                continue
            cut = int(np.clip(round(side * rng.uniform(0.36, 0.64)), MIN_SIDE, side - MIN_SIDE))
            done.pop(index)
            if along_x:
                done += [(c0, r0, c0 + cut, r1), (c0 + cut, r0, c1, r1)]
            else:
                done += [(c0, r0, c1, r0 + cut), (c0, r0 + cut, c1, r1)]
            break
        else:
            return done if len(done) == count else _split(rng, wide + 4, deep + 4, count)
    return done


def _relabel(labels: np.ndarray) -> np.ndarray:
    out = np.full_like(labels, OUTSIDE)
    for new, old in enumerate(sorted(set(labels[labels >= 0].tolist()))):
        out[labels == old] = new
    return out


def _joined(labels: np.ndarray, minimum: float = 1.5) -> set[tuple[int, int]]:
    """Return pairs of rooms that share at least ``minimum`` metres of straight wall."""
    return {wall.rooms for wall in stretches(labels) if wall.rooms[0] >= 0 and wall.length >= minimum}


def _connected(labels: np.ndarray) -> bool:
    count = int(labels.max()) + 1
    reached, edges = {0}, _joined(labels)
    for _ in range(count):
        reached |= {b for a, b in edges if a in reached} | {a for a, b in edges if b in reached}
    return len(reached) == count


def _drop_corner(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    corners = [labels[0, 0], labels[0, -1], labels[-1, 0], labels[-1, -1]]
    for corner in rng.permutation(sorted(set(int(c) for c in corners))):
        trial = _relabel(np.where(labels == corner, OUTSIDE, labels))
        if _connected(trial):
            return trial
    return labels


def _merge(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    sizes = np.bincount(labels[labels >= 0].ravel())
    pairs = sorted(_joined(labels, 2.0), key=lambda pair: sizes[pair[0]] + sizes[pair[1]])
    if not pairs:
        pairs = sorted(_joined(labels))
    a, b = pairs[int(rng.integers(0, max(1, len(pairs) // 2)))]
    return _relabel(np.where(labels == b, a, labels))


def stretches(labels: np.ndarray) -> list[Stretch]:
    """Return every straight piece of wall between two labels, longest runs first found along each grid line."""
    out: list[Stretch] = []
    padded = np.pad(labels, 1, constant_values=OUTSIDE)
    for turned, grid in ((False, padded), (True, padded.T)):
        rows, columns = grid.shape
        for c in range(1, columns):
            left, right = grid[:, c - 1], grid[:, c]
            r = 1
            while r < rows - 1:
                if left[r] == right[r]:
                    r += 1
                    continue
                begin = r
                while r < rows - 1 and left[r] == left[begin] and right[r] == right[begin]:
                    r += 1
                pair = (int(min(left[begin], right[begin])), int(max(left[begin], right[begin])))
                across, low, high = (c - 1) * CELL, (begin - 1) * CELL, (r - 1) * CELL
                ends = ((low, across), (high, across)) if turned else ((across, low), (across, high))
                out.append(Stretch(pair, *ends))
    return out


def outline(labels: np.ndarray, room: int) -> np.ndarray:
    """Return the (C, 2) corners x, z (metres) of one room, clockwise seen from above, collinear corners removed."""
    mask = np.pad(labels == room, 1)
    step: dict[tuple[int, int], tuple[int, int]] = {}
    for r, c in np.argwhere(mask):
        x, z = int(c) - 1, int(r) - 1
        if not mask[r, c - 1]:
            step[(x, z)] = (x, z + 1)
        if not mask[r + 1, c]:
            step[(x, z + 1)] = (x + 1, z + 1)
        if not mask[r, c + 1]:
            step[(x + 1, z + 1)] = (x + 1, z)
        if not mask[r - 1, c]:
            step[(x + 1, z)] = (x, z)
    start = min(step)
    loop, at = [start], step[start]
    while at != start:
        loop.append(at)
        at = step[at]
    points = np.array(loop)
    before, after = points - np.roll(points, 1, 0), np.roll(points, -1, 0) - points
    return points[(before != after).any(1)] * CELL


def add_doors(rng: np.random.Generator, layout: Layout, extra: float, closed: float) -> None:
    """Join all rooms by doors (a random spanning tree that prefers halls and living rooms, plus some loops).

    Args:
        rng: random source.
        layout: gets its doors here.
        extra: chance of a door on every further pair of neighbours.
        closed: chance that a door starts closed (it can be opened).
    """
    walls: dict[tuple[int, int], list[Stretch]] = {}
    for wall in stretches(layout.labels):
        if wall.rooms[0] >= 0 and wall.length >= 1.0 + 2 * DOOR_ROOM:
            walls.setdefault(wall.rooms, []).append(wall)
    hub = {"Hallway": 0.0, "LivingRoom": 0.15}

    def cost(pair: tuple[int, int]) -> float:
        return min(hub.get(layout.kinds[room], 1.0) for room in pair) + 0.6 * rng.random()

    group = list(range(len(layout.kinds)))
    ordered = sorted(walls, key=lambda pair: (cost(pair), pair))
    for pair in ordered:
        a, b = group[pair[0]], group[pair[1]]
        private = any(layout.kinds[room] == "Bathroom" for room in pair)
        if a != b or (rng.random() < extra and not private):
            group = [a if label == b else label for label in group]
            wall = walls[pair][int(rng.integers(len(walls[pair])))]
            layout.doors.append(_door(rng, layout, wall, closed))
    outer = [wall for wall in stretches(layout.labels) if wall.rooms[0] == OUTSIDE and wall.length >= 1.75]
    front = [wall for wall in outer if layout.kinds[wall.rooms[1]] in ("LivingRoom", "Hallway", "Kitchen")] or outer
    if front:
        wall = front[int(rng.integers(len(front)))]
        layout.doors.append(Opening((wall.rooms[1], OUTSIDE), _span(rng, wall, 1.0), 2.1, 0.0, False, 0.0))


def _door(rng: np.random.Generator, layout: Layout, wall: Stretch, closed: float) -> Opening:
    kinds = {layout.kinds[room] for room in wall.rooms}
    arch = not kinds & {"Bathroom", "Bedroom"} and wall.length > 2.6 and rng.random() < 0.5
    if arch:
        width = float(min(rng.uniform(1.5, 2.2), wall.length - 2 * DOOR_ROOM))
        return Opening(wall.rooms, _span(rng, wall, width), 2.2, 0.0, False, 1.0)
    shut = rng.random() < closed
    return Opening(wall.rooms, _span(rng, wall, float(rng.uniform(0.9, 1.0))), 2.1, 0.0, True, 0.0 if shut else 1.0)


def _span(rng: np.random.Generator, wall: Stretch, width: float) -> tuple[tuple[float, float], tuple[float, float]]:
    low = float(rng.uniform(DOOR_ROOM, wall.length - width - DOOR_ROOM))
    return wall.at(low), wall.at(low + width)


def add_windows(rng: np.random.Generator, layout: Layout, chance: float, height: float) -> None:
    """Put windows into outer walls, clear of the front door."""
    for wall in stretches(layout.labels):
        if wall.rooms[0] != OUTSIDE or wall.length < 1.6 or rng.random() > chance:
            continue
        width = float(rng.uniform(0.9, min(2.0, wall.length - 2 * DOOR_ROOM)))
        ends = _span(rng, wall, width)
        if any(_overlap(ends, door.ends) for door in layout.doors):
            continue
        sill = 1.4 if layout.kinds[wall.rooms[1]] == "Bathroom" else float(rng.uniform(0.8, 1.0))
        layout.windows.append(Opening((wall.rooms[1], OUTSIDE), ends, min(2.15, height - 0.3), sill))


def _overlap(a: tuple, b: tuple) -> bool:
    boxes = [(min(p[0][k], p[1][k]) - 0.1, max(p[0][k], p[1][k]) + 0.1) for p in (a, b) for k in (0, 1)]
    return all(boxes[k][0] < boxes[k + 2][1] and boxes[k + 2][0] < boxes[k][1] for k in (0, 1))
