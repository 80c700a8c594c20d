"""Two-phase rearrangement on AI2-THOR (Weihs et al. 2021): look at a room, find it disturbed, put it back.

The walkthrough phase shows the goal state; Done (or ``walk_steps`` actions) ends it, and the agent stands at the start
again in the disturbed room. Interactions take no argument: they act on the suitable object that is visible nearest to
the middle of the picture. PutObject puts what is held at its goal where that place is in view within reach (the snap of
the original task), else on the receptacle in view, else it is dropped. OpenObject moves an opening to the goal's
openness, or from there back to the start's. The reward of the unshuffle phase is the energy that an action takes away.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from embodied_mem.envs import rng
from embodied_mem.envs.thor.observe import camera_pose
from embodied_mem.envs.thor.rearrange_data import Opening, RearrangeTask
from embodied_mem.envs.thor.row import Row
from embodied_mem.errors import UsageError
from embodied_mem.geometry.camera import world_to_camera
from embodied_mem.metrics.rearrangement import ObjectState, energy, rearrangement

if TYPE_CHECKING:
    from ai2thor.server import Event

Entry = dict[str, Any]
WALK, UNSHUFFLE = 0.0, 1.0
INTERACTIONS = ("PickupObject", "PutObject", "OpenObject")
EVEN = 1e-3
"""Difference of openness below which two are the same."""
METRICS = (
    "prop_fixed", "prop_fixed_strict", "num_initially_misplaced", "num_fixed", "num_newly_misplaced", "num_misplaced",
    "start_energy", "end_energy", "prop_misplaced", "energy_prop",
)  # fmt: skip


@dataclass(frozen=True)
class RearrangeRules:
    """Rules of the task."""

    walk_steps: int = 250
    """Most actions of the walkthrough phase; 0 leaves it out (the one-phase form, without its goal picture)."""
    max_steps: int = 500
    """Actions of the whole episode before it is cut."""
    step_cost: float = 0.0
    """Taken off the reward at every step."""

    def __post_init__(self) -> None:
        if not 0 <= self.walk_steps < self.max_steps:
            raise UsageError(f"expected 0 <= walk_steps < max_steps, got {self.walk_steps} and {self.max_steps}")


class RearrangeRow(Row):
    """One row of Thor-Rearrange-v0; ``scenes`` are its tasks."""

    actions: ClassVar[tuple[str, ...]] = (
        "MoveAhead", "MoveBack", "RotateLeft", "RotateRight", "LookUp", "LookDown", *INTERACTIONS, "Done",
    )  # fmt: skip
    own: ClassVar[tuple[str, ...]] = ("vector",)
    vector_names: ClassVar[tuple[str, ...]] = ("effect", "look", "time", "phase", "holding")
    final: ClassVar[dict[str, Any]] = {
        "success": False,
        "stopped": False,
        "item": -1,
        **dict.fromkeys(METRICS, math.nan),
    }

    def _begin(self, key: int, item: int) -> Event:
        draw = rng.integers(np.array([key], dtype=np.uint64), 0, 0, len(self.scenes))[0]
        self.item = int(draw) if item < 0 else item % len(self.scenes)
        task = self.scenes[self.item]
        assert isinstance(task, RearrangeTask)
        self.task = task
        self.phase, self.stopped, self.switched, self.walked = WALK, False, False, 0
        event = self._arrange(goal=True)
        self.goals = self._states(event)
        return event if self.rules.walk_steps else self._disturb()

    def _disturb(self) -> Event:
        """Begin the unshuffle phase."""
        event = self._arrange(goal=False)
        self.phase = UNSHUFFLE
        self.starts_at = self._states(event)
        self.energy = self._energy(self.starts_at)
        return event

    def _arrange(self, *, goal: bool) -> Event:
        """Load the scene and bring every tracked object and the agent to where the phase begins."""
        task = self.task
        self.player.reset(task.scene)
        poses = [
            {"objectName": name, "position": _vector(pose.position), "rotation": _vector(pose.rotation)}
            for name, pose in (task.goal if goal else task.start).items()
        ]
        self._must("SetObjectPoses", objectPoses=poses, placeStationary=False)
        for opening in task.openings:
            wanted = opening.goal if goal else opening.start
            entry = _named(self.player.step("Pass"), opening.name)
            if abs(entry["openness"] - wanted) > EVEN:
                self._must("OpenObject", objectId=entry["objectId"], openness=wanted, forceAction=True)
        return self._must(
            "Teleport",
            position=_vector(task.agent_position),
            rotation={"x": 0.0, "y": task.agent_yaw, "z": 0.0},
            horizon=0.0,
            standing=True,
            forceAction=True,
        )

    def _must(self, name: str, **arguments: Any) -> Event:
        event = self.player.step(name, **arguments)
        if not event:
            message = event.metadata["errorMessage"]
            raise UsageError(f"task {self.task.scene}:{self.task.index} cannot be set up: {name} failed, {message}")
        return event

    # Playing

    def _play(self, name: str) -> Event:
        self.walked += self.phase == WALK
        self.switched = self.phase == WALK and (name == "Done" or self.walked >= self.rules.walk_steps)
        if self.switched:
            return self._disturb()
        if name not in INTERACTIONS:
            return self.player.step(name)
        if self.phase == WALK:
            # Nothing can be touched in the walkthrough.
            return self._nothing()
        return getattr(self, f"_{name.lower()}")()

    def _pickupobject(self) -> Event:
        entry = self._middle(lambda item: item["pickupable"])
        return self._nothing() if entry is None else self.player.step("PickupObject", objectId=entry["objectId"])

    def _putobject(self) -> Event:
        held = next((item for item in self.seen.metadata["objects"] if item["isPickedUp"]), None)
        if held is None:
            return self._nothing()
        goal = self.task.goal.get(held["name"])
        if goal is not None and self._in_reach(np.array(goal.position)):
            return self.player.step(
                "TeleportObject",
                objectId=held["objectId"],
                position=_vector(goal.position),
                rotation=_vector(goal.rotation),
                forceAction=True,
                allowTeleportOutOfHand=True,
                makeUnbreakable=True,
            )
        entry = self._middle(lambda item: item["receptacle"] and (item["isOpen"] or not item["openable"]))
        if entry is not None:
            event = self.player.step("PutObject", objectId=entry["objectId"], forceAction=True)
            if event:
                return event
        return self.player.step("DropHandObject")

    def _openobject(self) -> Event:
        entry = self._middle(lambda item: item["openable"])
        if entry is None:
            return self._nothing()
        known = {opening.name: opening for opening in self.task.openings}
        opening = known.get(entry["name"], Opening(entry["name"], entry["objectId"], 0.0, 1.0))
        there = abs(entry["openness"] - opening.goal) <= EVEN
        wanted = opening.start if there else opening.goal
        return self.player.step("OpenObject", objectId=entry["objectId"], openness=wanted)

    def _middle(self, suits: Any) -> Entry | None:
        """Return the visible suitable object nearest to the middle of the picture."""
        found, best = None, math.inf
        for entry in self.seen.metadata["objects"]:
            if entry["visible"] and not entry["isPickedUp"] and suits(entry):
                right, down, ahead = self._seen_from(np.array([entry["position"][axis] for axis in "xyz"]))
                angle = math.hypot(right, down) / max(ahead, 1e-3) if ahead > 0 else math.inf
                if angle < best:
                    found, best = entry, angle
        return found

    def _seen_from(self, point: np.ndarray) -> np.ndarray:
        return world_to_camera(point[None], camera_pose(self.seen))[0]

    def _in_reach(self, point: np.ndarray) -> bool:
        """Return whether a point (3,) lies in the picture and within reach on the floor."""
        right, down, ahead = self._seen_from(point)
        tan_y = math.tan(math.radians(self.config.fov) / 2)
        tan_x = tan_y * self.config.width / self.config.height
        eye = camera_pose(self.seen)
        near = math.hypot(point[0] - eye[0], point[2] - eye[2]) <= self.config.visibility
        return bool(near and ahead > 0 and abs(right) <= tan_x * ahead and abs(down) <= tan_y * ahead)

    # Scores

    def _states(self, event: Event) -> list[ObjectState]:
        """Return the tracked objects, moved ones by name and then openings."""
        entries = {entry["name"]: entry for entry in event.metadata["objects"]}
        names = [*sorted(self.task.goal), *(opening.name for opening in self.task.openings)]
        missing = [name for name in names if name not in entries]
        if missing:
            raise UsageError(f"the player's {self.task.scene} has no object named {missing[0]!r}")
        return [state_of(entries[name]) for name in names]

    def _energy(self, states: list[ObjectState]) -> float:
        return sum(energy(goal, state) for goal, state in zip(self.goals, states))

    def _judge(self, name: str) -> tuple[float, bool]:
        if self.phase == WALK or self.switched:
            return 0.0, False
        gained = 0.0
        if name in INTERACTIONS:
            now = self._energy(self._states(self.seen))
            gained, self.energy = self.energy - now, now
        self.stopped = name == "Done"
        return gained, self.stopped

    def _facts(self) -> dict[str, Any]:
        # The walkthrough is shorter than the episode, so an end always lies in the unshuffle phase.
        scores = rearrangement(self.goals, self.starts_at, self._states(self.seen))
        plain = {name: math.nan if scores[name] is None else scores[name] for name in METRICS}
        return {"success": bool(scores["success"]), "stopped": self.stopped, "item": self.item, **plain}

    def _own(self, name: str) -> np.ndarray:
        holding = bool(self.seen.metadata["inventoryObjects"])
        return np.array([*super()._own(name), self.phase, float(holding)], dtype=np.float32)

    def privileged(self) -> dict[str, np.ndarray]:
        """Return what oracles read: ``pose_world`` (5,), ``phase`` (), ``energies`` (K,) of the tracked objects,

        ``places`` and ``goal_places`` (K, 3) metres, ``opens`` (K,) bool: it is to be opened or closed, not moved.
        """
        now = self._states(self.seen)
        return {
            "pose_world": camera_pose(self.seen),
            "phase": np.array(self.phase),
            "energies": np.array([energy(goal, state) for goal, state in zip(self.goals, now)]),
            "places": np.array([state.position for state in now]),
            "goal_places": np.array([state.position for state in self.goals]),
            "opens": np.array([not state.pickupable for state in now]),
        }


def state_of(entry: Entry) -> ObjectState:
    """Return the state of an object from its metadata; tilted boxes are enclosed by upright ones of the same yaw."""
    yaw = float(entry["rotation"]["y"])
    oriented = entry.get("objectOrientedBoundingBox")
    corners = oriented["cornerPoints"] if oriented else entry["axisAlignedBoundingBox"]["cornerPoints"]
    yaw = yaw if oriented else 0.0
    points = np.array(corners, dtype=np.float64)
    centre, angle = 0.5 * (points.min(axis=0) + points.max(axis=0)), math.radians(yaw)
    flat = points[:, [0, 2]] - centre[[0, 2]]
    x = flat[:, 0] * math.cos(angle) - flat[:, 1] * math.sin(angle)
    z = flat[:, 0] * math.sin(angle) + flat[:, 1] * math.cos(angle)
    size = (float(np.ptp(x)), float(np.ptp(points[:, 1])), float(np.ptp(z)))
    return ObjectState(
        position=(float(centre[0]), float(centre[1]), float(centre[2])),
        size=size,
        yaw=yaw,
        openness=float(entry["openness"]) if entry["openable"] else None,
        pickupable=bool(entry["pickupable"]),
        broken=bool(entry["isBroken"]),
    )


def _named(event: Event, name: str) -> Entry:
    for entry in event.metadata["objects"]:
        if entry["name"] == name:
            return entry
    raise UsageError(f"the player's scene has no object named {name!r}")


def _vector(values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip("xyz", values))
