"""What a walker on the street knows of its own way: counts of turns, junctions and panoramas, and how it is turned.

The state is exact and small: it is the memory of a clause follower. A walker decides when it arrives at a panorama and
at the start; a decision is one of the links that are seen, the stop, or a return: to turn round, walk back so many
panoramas of the block and stop there (who has seen the end of a block knows where its middle was). `act` turns it into
actions of the Touchdown rules: rotations to a link, then forward. Everything is array arithmetic over N rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from embodied_mem.envs.street.course import LEADS_BACK, link_sides
from embodied_mem.errors import UsageError

FORWARD, LEFT, RIGHT, STOP = range(4)
_TWICE = 2
"""Panoramas after a turn within which another one to the same side is the same: junctions that are one to a person."""
_STATE = (
    "begun", "moving", "armed", "todo", "back", "style", "turns", "since", "merged", "lefts", "rights", "walked",
    "leg", "visited", "block", "before", "heading", "way", "way_1", "way_2",
)  # fmt: skip
COUNTS = (
    "start", "style", "turns", "since", "merged", "lefts", "rights", "walked", "leg", "visited", "block", "before",
    "crossing", "left", "straight", "right", "step", "span",
)  # fmt: skip
"""Columns of `Look.counts`. Since the last turn: junctions, junctions with double ones as one, those with a street to
the left and to the right, panoramas of the leg; ``walked``: panoramas since a junction; ``visited``: of the way;
``block``, ``before``: panoramas of the block just passed and of the leg before; the next four: what leads where here;
``style`` 1: the episode began along a link; ``step``: actions played; ``span``: panoramas since the junction before, as
far as one may return."""
C = {name: number for number, name in enumerate(COUNTS)}

State = dict[str, np.ndarray]


class Look(NamedTuple):
    """What N walkers with L links in sight know; only the rows of ``decides`` hold a decision."""

    decides: np.ndarray
    """(N,) bool."""
    counts: np.ndarray
    """(N, P) int16, see `COUNTS`."""
    angles: np.ndarray
    """(N, L) int16 degrees of the links from the direction of the street, in (-180, 180]; 0 where there is none."""
    sides: np.ndarray
    """(N, L) int8 where the links lead, see `envs.street.course.link_sides`."""
    traffic: np.ndarray
    """(N, L) int16 degrees of the links from the heading of the capturing car; 0 without that sensor."""
    open: np.ndarray
    """(N, L) bool, links that may be chosen: all at the start, later those that do not lead back."""
    turned: np.ndarray
    """(N, L) int16 degrees of the links from the own heading."""
    there: np.ndarray
    """(N, L) bool, links that are there."""
    returned: np.ndarray
    """(N,) bool, rows that have come back to where they return to; they stop."""


def fresh_state(n: int) -> State:
    """Return the state of ``n`` fresh walkers, (n,) int32 entries."""
    return {name: np.zeros(n, np.int32) for name in _STATE}


def look(state: State, vector: np.ndarray, traffic: np.ndarray | None, reset: np.ndarray) -> tuple[State, Look]:
    """Count what has been reached and return the new state and what is known.

    Args:
        state: of N rows.
        vector: (N, 11 + 2 L) float32 observation of that name.
        traffic: (N, 2) float32 observation of that name, or None.
        reset: (N,) bool, rows that begin an episode.
    """
    state = {name: np.where(reset, 0, value) for name, value in state.items()}
    links = (vector.shape[1] - 11) // 2
    turned = np.rint(vector[:, 4 : 4 + links] * 180.0).astype(np.int32)
    there = vector[:, 4 + links : 4 + 2 * links] > 0
    start, arrives = state["begun"] == 0, (state["begun"] > 0) & (state["moving"] > 0)
    change = np.rint(vector[:, 4 + 2 * links] * 180.0).astype(np.int32)
    state["leg"], state["walked"] = state["leg"] + arrives, state["walked"] + arrives
    _track(state, change, start, arrives)
    # The rules snap the heading on arrival; links are compared with the link one came on and with the street before it.
    bends = np.where(there, wrap(turned + np.where(arrives, change, 0)[:, None]), 0)
    angles = np.where(there, wrap(turned + np.where(arrives, state["heading"] - state["way_2"], 0)[:, None]), 0)
    sides = link_sides(bends, angles, there)
    crossing = arrives & (there.sum(1) > 2)
    onward = there & (sides != LEADS_BACK)
    left, straight, right = ((sides == side).any(1) for side in (-1, 0, 1))
    state["style"] = np.where(start, (there & (turned == 0)).any(1), state["style"])
    state["visited"] = np.where(start, 1, state["visited"] + arrives)
    double = (state["since"] > 0) & (state["walked"] <= 2)
    state["merged"] = state["merged"] + (crossing & ~double)
    state["block"] = np.where(crossing & ~double, state["walked"], state["block"])
    span = state["walked"]
    state["since"] = state["since"] + crossing
    state["lefts"], state["rights"] = state["lefts"] + (crossing & left), state["rights"] + (crossing & right)
    state["walked"] = np.where(crossing, 0, state["walked"])
    state["begun"], state["moving"] = np.ones_like(state["begun"]), np.zeros_like(state["moving"])
    returning = arrives & (state["back"] > 0)
    state["back"] = np.where(arrives, np.maximum(state["back"] - 1, 0), state["back"])
    decides = (start | arrives) & ~returning
    ways = np.where(start[:, None], there, onward)
    ways = np.where(ways.any(1, keepdims=True), ways, there)
    toward = np.zeros_like(angles)
    if traffic is not None:
        car = np.rint(np.degrees(np.arctan2(traffic[:, 1], traffic[:, 0]))).astype(np.int32)
        toward = np.where(there, wrap(turned - car[:, None]), 0)
    step = np.rint(vector[:, -1] * 55.0)
    own = [state[name] for name in COUNTS[1:12]]
    columns = [start, *own, crossing, left, straight, right, step, span]
    counts = np.stack([np.asarray(column, np.int16) for column in columns], axis=1)
    degrees = [item.astype(np.int16) for item in (angles, toward, turned)]
    returned = returning & (state["back"] == 0)
    return state, Look(decides, counts, degrees[0], sides, degrees[1], ways, degrees[2], there, returned)


def act(state: State, seen: Look, chosen: np.ndarray, side: np.ndarray) -> tuple[State, np.ndarray]:
    """Return the new state and the actions (N,) int64 that carry out decisions.

    Args:
        state: from `look`.
        seen: from `look`.
        chosen: (N,) int64 number of a link, L for the stop, L + k for the return by k panoramas; read in the rows that
            decide.
        side: (N,) int64 -1 or 1, the side of the turn that is due, 0 for none: a turn to this side is counted.
    """
    state = dict(state)
    links = seen.open.shape[1]
    back = np.where(seen.decides, np.maximum(chosen - links, 0), 0)
    stops = (seen.decides & (chosen == links)) | seen.returned
    # On its way back a row keeps straight on without deciding.
    onward = ~seen.decides & ~seen.returned & (state["back"] > 0) & (state["armed"] == 0)
    goes = (seen.decides & ~stops) | onward
    behind = np.where(seen.there, np.where(seen.sides == LEADS_BACK, 999, np.abs(seen.angles)), -1).argmax(1)
    link = np.select([back > 0, onward], [behind, straightest(seen)], np.minimum(chosen, links - 1))[:, None]
    state["back"] = np.where(back > 0, back, state["back"])
    target = np.take_along_axis(seen.turned, link, 1)[:, 0]
    toward = np.take_along_axis(seen.sides, link, 1)[:, 0]
    state["todo"] = np.where(goes, _rotations(seen.turned, target), state["todo"])
    state["armed"] = np.where(goes, 1, state["armed"])
    crossing = seen.counts[:, C["crossing"]] > 0
    due = (side != 0) & (toward == side) & ((state["leg"] > _TWICE) | (state["turns"] == 0))
    turns = seen.decides & goes & crossing & (back == 0) & due
    state["turns"] = state["turns"] + turns
    state["before"] = np.where(turns, state["leg"], state["before"])
    for name in ("since", "merged", "lefts", "rights", "walked", "leg", "block"):
        state[name] = np.where(turns, 0, state[name])
    rotates = state["armed"] * np.sign(state["todo"])
    action = np.select([stops, rotates < 0, rotates > 0], [STOP, LEFT, RIGHT], FORWARD)
    state["todo"] = state["todo"] - rotates
    moves = ~stops & (rotates == 0) & (state["armed"] > 0)
    state["moving"] = moves.astype(np.int32)
    state["armed"] = np.where(moves | stops, 0, state["armed"])
    return state, action.astype(np.int64)


def straightest(seen: Look) -> np.ndarray:
    """Return the link (N,) int64 that leads straight on, or bends least, of those that may be chosen."""
    bends = np.abs(seen.angles) + np.where(seen.sides == 0, 0, 200)
    return np.where(seen.open, bends, 999).argmin(1)


def check_spaces(observations: object, actions: object) -> None:
    """Check that a walker can play single-env spaces.

    Raises:
        UsageError: there is no vector or instruction, or the rules of motion are others.
    """
    entries = getattr(observations, "spaces", {})
    if not {"vector", "instruction"} <= set(entries):
        raise UsageError(f"expected the sensors vector and instruction for a clause follower, got {sorted(entries)}")
    if getattr(actions, "n", 0) != 4:
        raise UsageError(f"expected the four actions of semantics touchdown for a clause follower, got {actions}")


def _track(state: State, change: np.ndarray, start: np.ndarray, arrives: np.ndarray) -> None:
    """Keep the heading and the directions (degrees from the start) of the last three links, in place."""
    state["heading"] = np.where(start, 0, state["heading"] + change)
    came = state["heading"] - change
    first = arrives & (state["leg"] == 1)
    for older, newer in (("way_2", "way_1"), ("way_1", "way")):
        state[older] = np.where(first, came, np.where(arrives, state[newer], state[older]))
    state["way"] = np.where(arrives, came, state["way"])


def _rotations(turned: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return how many links a rotation to ``target`` (N,) passes and reaches, (N,), negative to the left.

    Args:
        turned: (N, L) degrees of the links from the heading; 0 where there is none.
        target: (N,) degrees of one of them.
    """
    right = ((turned > 0) & (turned <= target[:, None])).sum(1)
    left = ((turned < 0) & (turned >= target[:, None])).sum(1)
    return np.where(target > 0, right, -left).astype(np.int32)


def wrap(angle: np.ndarray) -> np.ndarray:
    """Return degrees in (-180, 180]."""
    return 180 - (180 - angle) % 360
