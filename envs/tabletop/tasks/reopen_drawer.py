"""ReopenDrawer: one of three drawers is open; close it, press the button, open the same one again."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.tabletop.env import ANSWER, PREPARE, PRESS, SLIDE, Level
from embodied_mem.envs.tabletop.parts import TOP, ghost
from embodied_mem.envs.tabletop.tasks.moving import BUTTON, BatchedHalves

DRAWERS = 3
ROWS_Y = np.array([-0.17, 0.0, 0.17])
FRONT = 0.58
"""x of the knobs of shut drawers, metres."""
WAY = 0.12
"""Metres that a drawer can be drawn out towards the arm."""
SHUT, DRAWN = 0.012, 0.09
"""Metres below which a drawer is shut, and above which it is open."""
AT = 0.085
"""Height of the tool at a knob."""
GAP = 0.036
"""Metres between tool and knob where a push begins."""


def drawer(name: str, y: float) -> str:
    """Return a drawer with a knob that stands up at its front; the joint has the name of the body."""
    return (
        f'<body name="{name}" pos="{FRONT} {y} 0.03"><joint name="{name}" type="slide" axis="-1 0 0" range="0 {WAY}" '
        'limited="true" damping="8" frictionloss="1.5" armature="0.1"/>'
        '<geom type="box" size="0.07 0.065 0.024" pos="0.065 0 0" mass="0.3" rgba="0.75 0.6 0.4 1" contype="0" '
        'conaffinity="1"/><geom type="box" size="0.008 0.03 0.03" pos="0 0 0.052" mass="0.05" rgba="0.2 0.2 0.25 1" '
        'contype="0" conaffinity="1"/></body>'
    )


class BatchedReopenDrawer(BatchedHalves):
    """Open the drawer again that was open at first (SAM2Act's MemoryBench).

    Order enforced: all drawers shut, button, drawer open. A button pressed while a drawer is open ends the episode, and
    so does another drawer drawn out.
    Memory demanded: which of three drawers, from the first half over the delay. Without memory: 1/3.
    """

    text = (
        "Push the open drawer shut, then press the button. When the green light is on again, pull the same drawer "
        "open. The first drawer that is drawn out decides."
    )

    def _configure(self, level: Level) -> None:
        case = ghost("box", "0.075 0.26 0.028", "0.55 0.42 0.28 1", 'pos="0.73 0 0.03"')
        self.scenery = self._with_button(case + "".join(drawer(f"drawer{i}", y) for i, y in enumerate(ROWS_Y)))
        self.features = DRAWERS

    def _wire(self) -> None:
        super()._wire()
        self._drawn = np.array([self.physics.slide(f"drawer{i}")[0] for i in range(DRAWERS)])
        self._rows = np.arange(self.num_envs)

    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        return rng.integers(keys, ANSWER, 0, DRAWERS)

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        super()._deal(rows, keys)
        self.physics.qpos[rows, self._drawn[self.answer[rows]]] = WAY

    def _prepared(self) -> np.ndarray:
        return np.logical_and.reduce(self.physics.qpos[:, self._drawn] < SHUT, axis=1)

    def _decide(self, chooses: np.ndarray) -> None:
        drawn = self.physics.qpos[:, self._drawn] > DRAWN
        any_drawn = chooses & drawn.any(axis=1)
        right = drawn[self._rows, self.answer] & (drawn.sum(axis=1) == 1)
        self._win(any_drawn & right)
        self._lose(any_drawn & ~right)

    def _scene(self) -> np.ndarray:
        return self.physics.qpos[:, self._drawn]

    def _next(self) -> dict[str, np.ndarray]:
        n = self.num_envs
        knobs = FRONT - self.physics.qpos[:, self._drawn]
        early, ready = self._phase == PREPARE, self._prepared()
        # PREPARE pushes the most open knob away from the arm, CHOOSE pulls one towards it.
        widest = self._rows, self.physics.qpos[:, self._drawn].argmax(axis=1)
        starts, targets = np.full((n, DRAWERS, 3), AT), np.full((n, DRAWERS, 3), AT)
        starts[:, :, 1] = targets[:, :, 1] = ROWS_Y
        starts[:, :, 0], targets[:, :, 0] = knobs + GAP, FRONT - WAY + 0.005
        push = np.stack([knobs[widest] - GAP, ROWS_Y[widest[1]], np.full(n, AT)], axis=1)
        pushed = np.stack([np.full(n, FRONT - 0.012), ROWS_Y[widest[1]], np.full(n, AT)], axis=1)
        press = np.array([*BUTTON, TOP - 0.008])
        start = np.where(ready[:, None], press, push)[:, None]
        target = np.where(ready[:, None], press, pushed)[:, None]
        return {
            "kind": np.where(early & ready, PRESS, SLIDE),
            "starts": np.where(early[:, None, None], start, starts),
            "targets": np.where(early[:, None, None], target, targets),
            "right": self.answer.copy(),
            "allowed": np.ones((n, DRAWERS), bool),
        }


class ReopenDrawer(SingleEnv):
    """N=1 view of `BatchedReopenDrawer`."""

    batched = BatchedReopenDrawer
