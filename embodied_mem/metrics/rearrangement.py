"""Rearrangement: how much of a disturbed room was put back (Weihs et al. 2021).

Energy D of an object in [0, 1]: 1 if it is broken; for what opens and cannot be picked up, 1 if its openness is more
than 0.2 off, else 0; otherwise, with the overlap ``iou`` of its box and the goal's,

    D = 0.5 max(1 - iou / 0.5, 0) + 0.5 (0 if iou > 0 else min(m / 2, 1))

with m the smallest distance between corners in metres. Closer than 0.01 m and 10 degrees counts as ``iou = 1``. An
object is misplaced when D > 0. The overlap is exact (upright boxes); AI2-THOR's own code estimates it by sampling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.metrics.boxes import box_iou, corner_gap, corners

OPEN_TOLERANCE = 0.2
NEAR_METRES, NEAR_DEGREES = 0.01, 10.0
HALF_IOU, FAR_METRES = 0.5, 2.0


@dataclass(frozen=True)
class ObjectState:
    """Where and how an object is; lengths in metres."""

    position: tuple[float, float, float]
    """Centre of the box, y up."""
    size: tuple[float, float, float]
    """Extents along the box's own x, y, z."""
    yaw: float = 0.0
    """Degrees about the vertical."""
    openness: float | None = None
    """0 closed to 1 open, None for what does not open."""
    pickupable: bool = True
    """It can be carried."""
    broken: bool = False
    """It is in pieces."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> ObjectState:
        """Return the state written as ``{"pos", "size", "yaw", "openness", "pickupable", "broken"}``.

        Raises:
            UsageError: a key is missing or not of its form.
        """
        try:
            state = cls(
                position=_triple(facts["pos"]),
                size=_triple(facts["size"]),
                yaw=float(facts["yaw"]),
                openness=None if facts["openness"] is None else float(facts["openness"]),
                pickupable=bool(facts["pickupable"]),
                broken=bool(facts.get("broken", False)),
            )
        except KeyError as error:
            raise UsageError(f"an object state lacks the key {error}") from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"expected numbers in an object state, got {dict(facts)!r:.120}") from error
        return state


def energy(goal: ObjectState, current: ObjectState) -> float:
    """Return D of one object, see the module.

    Raises:
        UsageError: the goal is broken, or only one of the two states has an openness.

    >>> cup = ObjectState((0, 0, 0), (0.1, 0.1, 0.1))
    >>> energy(cup, cup), energy(cup, ObjectState((9, 0, 0), (0.1, 0.1, 0.1)))
    (0.0, 1.0)
    """
    if goal.broken:
        raise UsageError("expected goal states that are not broken, got a broken one")
    if (goal.openness is None) != (current.openness is None):
        raise UsageError(f"expected openness in both states or in none, got {goal.openness} and {current.openness}")
    if current.broken:
        return 1.0
    if goal.openness is not None and current.openness is not None and not goal.pickupable:
        return float(abs(goal.openness - current.openness) > OPEN_TOLERANCE)
    moved = float(np.linalg.norm(np.subtract(goal.position, current.position)))
    turned = abs((goal.yaw - current.yaw + 180.0) % 360.0 - 180.0)
    if moved < NEAR_METRES and turned < NEAR_DEGREES:
        return 0.0
    ours = corners(np.array(goal.position, dtype=np.float64), np.array(goal.size, dtype=np.float64), goal.yaw)
    theirs = corners(
        np.array(current.position, dtype=np.float64), np.array(current.size, dtype=np.float64), current.yaw
    )
    iou = box_iou(ours, theirs)
    apart = 0.0 if iou > 0.0 else min(corner_gap(ours, theirs) / FAR_METRES, 1.0)
    return 0.5 * max(1.0 - iou / HALF_IOU, 0.0) + 0.5 * apart


def rearrangement(
    goal: Sequence[ObjectState], start: Sequence[ObjectState], end: Sequence[ObjectState]
) -> dict[str, float | int | None]:
    """Return the metrics of one unshuffle phase over all tracked objects, shuffled or not.

    Args:
        goal: state of every object to be restored.
        start: the same objects, in the same order, when the phase begins.
        end: the same when it ends.

    Returns:
        success, prop_fixed, prop_fixed_strict, num_initially_misplaced, num_fixed, num_newly_misplaced, num_misplaced,
        start_energy, end_energy, prop_misplaced, energy_prop; the last two are None where nothing was misplaced.

    Raises:
        UsageError: the lists differ in length or are empty.
    """
    if not goal or not len(goal) == len(start) == len(end):
        raise UsageError(
            f"expected the same objects in goal, start and end, got {len(goal)}, {len(start)} and {len(end)}"
        )
    before = np.array([energy(wanted, state) for wanted, state in zip(goal, start)])
    after = np.array([energy(wanted, state) for wanted, state in zip(goal, end)])
    wrong, still = before > 0, after > 0
    fixed, spoiled = int((wrong & ~still).sum()), int((~wrong & still).sum())
    initially = int(wrong.sum())
    share = fixed / initially if initially else 1.0
    start_energy, end_energy = float(before.sum()), float(after.sum())
    return {
        "success": float(end_energy == 0.0),
        "prop_fixed": share,
        "prop_fixed_strict": share if spoiled == 0 else 0.0,
        "num_initially_misplaced": initially,
        "num_fixed": fixed,
        "num_newly_misplaced": spoiled,
        "num_misplaced": int(still.sum()),
        "start_energy": start_energy,
        "end_energy": end_energy,
        "prop_misplaced": int(still.sum()) / initially if initially else None,
        "energy_prop": end_energy / start_energy if start_energy else None,
    }


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    x, y, z = values
    return float(x), float(y), float(z)
