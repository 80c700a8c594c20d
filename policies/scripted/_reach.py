"""Plans of tool waypoints for tabletop sub-goals, and the follower that turns them into actions, for whole batches.

A plan is (B, LEGS, 4): tool x, y, z in metres and the gripper (-1 open, 1 closed). A leg is over when the tool is there
and, where the gripper changes, has had time to.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

HOLD, TOUCH, PRESS, CARRY, SLIDE, GOTO = range(6)
"""Kinds of sub-goals, as ``env.privileged()["kind"]`` gives them."""
LEGS = 8
HIGH = 0.15
"""Height in metres at which the tool crosses the table."""
STEP = 0.03
"""Metres of a full deflection of an action."""
CLOSE_ENOUGH, EXACT = 0.02, 0.006
"""Metres within which a leg through the air, and one with a hold or a release at its end, counts as reached."""
SQUEEZE = 10
"""Actions for which the tool stays where the gripper changes."""
STALE = 60
"""Actions after which a leg is given up and the plan begins anew."""
OPEN, CLOSED = -1.0, 1.0

State = dict[str, np.ndarray]


def plan(kind: np.ndarray, tool: np.ndarray, start: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return plans (B, LEGS, 4) float64.

    Args:
        kind: (B,) sub-goal.
        tool: (B, 3) where the tool is, metres.
        start: (B, 3) where a block is taken or a push begins.
        target: (B, 3) where it goes; the point to touch.
    """
    plans = np.zeros((len(kind), LEGS, 4))
    above_target, above_start = _raised(target), _raised(start)
    lift = np.where(tool[:, 2:] > HIGH, tool, _raised(tool))
    ways = {
        TOUCH: [(lift, CLOSED), (above_target, CLOSED), (target, CLOSED)],
        PRESS: [(lift, OPEN), (above_target, CLOSED), (target, CLOSED), (above_target, CLOSED)],
        CARRY: [
            (lift, OPEN), (above_start, OPEN), (start, OPEN), (start, CLOSED),
            (above_start, CLOSED), (above_target, CLOSED), (target, CLOSED), (target, OPEN),
        ],
        SLIDE: [(lift, CLOSED), (above_start, CLOSED), (start, CLOSED), (target, CLOSED), (above_target, CLOSED)],
        GOTO: [(_raised(target), CLOSED), (target, CLOSED)],
    }  # fmt: skip
    for code, legs in ways.items():
        rows = kind == code
        for leg in range(LEGS):
            points, gripper = legs[min(leg, len(legs) - 1)]
            plans[rows, leg, :3], plans[rows, leg, 3] = points[rows], gripper
    return plans


def initial(n: int) -> State:
    """Return the state of ``n`` followers."""
    return {
        "plan": np.zeros((n, LEGS, 4)),
        "leg": np.zeros(n, np.int64),
        "spent": np.zeros(n, np.int64),
        "deed": np.full(n, -1, np.int64),
    }


def follow(facts: Mapping[str, np.ndarray], state: State, reset: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return actions (B, 7) float32 towards thing ``chosen`` (B,); ``state`` is updated in place.

    Args:
        facts: ``env.privileged()``.
        state: of `initial`.
        reset: (B,) True where an episode begins.
        chosen: (B,) which of the things that could be done is done.
    """
    rows, kind, tool = np.arange(len(reset)), facts["kind"], facts["tool"]
    state["deed"][reset] = -1
    state["spent"] += 1
    state["leg"] += _leg_is_over(state, tool, facts["keyframe"])
    state["spent"][_fresh(state)] = 0
    # Who has gone where it should stays there.
    state["leg"] = np.where(kind == GOTO, np.minimum(state["leg"], LEGS - 1), state["leg"])
    anew = (facts["deed"] != state["deed"]) | (state["leg"] >= LEGS) | (state["spent"] > STALE)
    if anew.any():
        made = plan(kind, tool, facts["starts"][rows, chosen], facts["targets"][rows, chosen])
        state["plan"][anew], state["leg"][anew], state["spent"][anew] = made[anew], 0, 0
        state["deed"][anew] = facts["deed"][anew]
    state["last"] = state["leg"].copy()
    way = state["plan"][rows, state["leg"]]
    actions = np.zeros((len(reset), 7), np.float32)
    low, high = facts["workspace"][:, 0], facts["workspace"][:, 1]
    placed = 2.0 * (way[:, :3] - low) / (high - low) - 1.0
    moved = (way[:, :3] - facts["aim"]) / STEP
    actions[:, :3] = np.clip(np.where(facts["keyframe"][:, None], placed, moved), -1.0, 1.0)
    actions[:, 6] = way[:, 3]
    actions[kind == HOLD] = 0.0
    return actions


def _fresh(state: State) -> np.ndarray:
    return state["leg"] != state.get("last", state["leg"])


def _leg_is_over(state: State, tool: np.ndarray, keyframe: np.ndarray) -> np.ndarray:
    rows = np.arange(len(tool))
    leg = np.minimum(state["leg"], LEGS - 1)
    way, after = state["plan"][rows, leg], state["plan"][rows, np.minimum(leg + 1, LEGS - 1)]
    before = state["plan"][rows, np.maximum(leg - 1, 0)]
    gripping = (way[:, 3] != before[:, 3]) & (way[:, :3] == before[:, :3]).all(axis=1) & (leg > 0)
    careful = gripping | (way[:, 2] < HIGH) & ((after[:, 3] != way[:, 3]) | (np.abs(after[:, 2] - way[:, 2]) > 0.02))
    away = way[:, :3] - tool
    near = (away * away).sum(axis=1) < np.where(careful, EXACT, CLOSE_ENOUGH) ** 2
    return np.where(keyframe, True, near & (~gripping | (state["spent"] >= SQUEEZE)))


def _raised(points: np.ndarray) -> np.ndarray:
    raised = points.copy()
    raised[:, 2] = HIGH
    return raised
