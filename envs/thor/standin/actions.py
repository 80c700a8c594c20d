"""What can be done in a scene: one function per action of AI2-THOR, with its argument names.

A function returns what goes into ``actionReturn``. It raises `Failed` where the action has no effect (the client then
sees ``lastActionSuccess`` False). Unknown names and arguments are refused by the dialogue, in the client's own terms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.thor.standin.scene import BODY_HEIGHT, EYE, RADIUS, Camera, Scene, Thing

Vector = dict[str, float]
LOOK = 30.0
LOOK_LIMITS = (-30.0, 60.0)
MOST_POSES = 20_000


class Failed(Exception):
    """The action had no effect; the message says why."""


def _turned(scene: Scene, degrees: float) -> None:
    x, z, yaw, horizon = scene.agent
    scene.place_agent(x, z, (yaw + degrees) % 360.0, horizon)


def _move(scene: Scene, side: float, metres: float | None) -> None:
    from embodied_mem.envs.house import physics

    world = scene.world
    _, _, yaw, _ = scene.agent
    rules = world.rules._replace(step=scene.settings.grid if metres is None else float(metres))
    world.arrays.yaw[0] = (yaw + side) % 360.0
    moved = physics.move(world.plans, world.arrays, rules, 0)
    world.arrays.yaw[0] = yaw
    if not moved:
        raise Failed("something is blocking Agent 0 from moving")


def move_ahead(scene: Scene, moveMagnitude: float | None = None) -> None:
    """One step along the view."""
    _move(scene, 0.0, moveMagnitude)


def move_back(scene: Scene, moveMagnitude: float | None = None) -> None:
    """One step backwards."""
    _move(scene, 180.0, moveMagnitude)


def move_left(scene: Scene, moveMagnitude: float | None = None) -> None:
    """One step to the left."""
    _move(scene, -90.0, moveMagnitude)


def move_right(scene: Scene, moveMagnitude: float | None = None) -> None:
    """One step to the right."""
    _move(scene, 90.0, moveMagnitude)


def rotate_left(scene: Scene, degrees: float | None = None) -> None:
    """Turn anticlockwise seen from above."""
    _turned(scene, -(scene.settings.turn if degrees is None else degrees))


def rotate_right(scene: Scene, degrees: float | None = None) -> None:
    """Turn clockwise."""
    _turned(scene, scene.settings.turn if degrees is None else degrees)


def _look(scene: Scene, degrees: float) -> None:
    x, z, yaw, horizon = scene.agent
    if not LOOK_LIMITS[0] - 1e-6 <= horizon + degrees <= LOOK_LIMITS[1] + 1e-6:
        raise Failed(f"the camera cannot look beyond {LOOK_LIMITS} degrees")
    scene.place_agent(x, z, yaw, horizon + degrees)


def look_up(scene: Scene, degrees: float = LOOK) -> None:
    """Tilt the camera up."""
    _look(scene, -degrees)


def look_down(scene: Scene, degrees: float = LOOK) -> None:
    """Tilt the camera down."""
    _look(scene, degrees)


def teleport(
    scene: Scene,
    position: Vector | None = None,
    rotation: Vector | None = None,
    horizon: float | None = None,
    standing: bool | None = None,
    forceAction: bool = False,
) -> None:
    """Put the agent somewhere; what is not given stays."""
    x, z, yaw, old = scene.agent
    if position is not None:
        x, z = float(position["x"]), float(position["z"])
        if not forceAction and not scene.free(x, z):
            raise Failed(f"the agent cannot stand at x={x}, z={z}")
    scene.place_agent(x, z, yaw if rotation is None else float(rotation["y"]), old if horizon is None else horizon)


def reachable_positions(scene: Scene) -> list[Vector]:
    """Return the grid points that can be walked to."""
    points = _flood(scene)
    return [{"x": float(x), "y": BODY_HEIGHT, "z": float(z)} for x, z in points]


def _flood(scene: Scene) -> np.ndarray:
    """Return (P, 2) x, z of the grid points that are joined to the agent's by steps along the axes."""
    from embodied_mem.envs.house import physics

    plans, state, step = scene.world.plans, scene.world.arrays, scene.settings.grid
    x0, z0, _, _ = scene.agent
    seen, pending = {(0, 0)}, [(0, 0)]
    while pending:
        i, j = pending.pop()
        ax, az = x0 + i * step, z0 + j * step
        for di, dj in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            cell = (i + di, j + dj)
            if cell in seen:
                continue
            bx, bz = ax + di * step, az + dj * step
            if physics.clearance(plans, state, 0, ax, az, bx, bz, RADIUS)[0] >= RADIUS:
                seen.add(cell)
                pending.append(cell)
    return np.array([(x0 + i * step, z0 + j * step) for i, j in sorted(seen)])


def interactable_poses(
    scene: Scene,
    objectId: str,
    positions: Sequence[Vector] | None = None,
    rotations: Sequence[float] | None = None,
    horizons: Sequence[float] | None = None,
    standings: Sequence[bool] | None = None,
    maxPoses: int = MOST_POSES,
    maxDistance: float | None = None,
) -> list[dict[str, float | bool]]:
    """Return the poses from which an object is visible."""
    thing = _thing(scene, objectId)
    limit = scene.settings.visibility if maxDistance is None else maxDistance
    points = _flood(scene) if positions is None else np.array([(p["x"], p["z"]) for p in positions])
    x, _, z = scene.centre(thing.box)
    reach = limit + float(np.hypot(*scene.size(thing.box)[[0, 2]]))
    poses: list[dict[str, float | bool]] = []
    for px, pz in points[np.hypot(points[:, 0] - x, points[:, 1] - z) <= reach]:
        for yaw in rotations if rotations is not None else np.arange(0.0, 360.0, scene.settings.turn):
            for horizon in horizons if horizons is not None else (-30.0, 0.0, 30.0, 60.0):
                camera = Camera(np.array([px, EYE, pz]), float(yaw), float(horizon), scene.settings.fov)
                if scene.visible(camera, limit, thing.box)[thing.box]:
                    pose = {"x": px, "y": BODY_HEIGHT, "z": pz, "rotation": yaw, "horizon": horizon}
                    poses.append({**{k: float(v) for k, v in pose.items()}, "standing": True})
                    if len(poses) >= maxPoses:
                        return poses
    return poses


def shortest_path(
    scene: Scene, objectId: str | None = None, target: Vector | None = None, position: Vector | None = None
) -> dict[str, list[Vector]]:
    """Return the corners of a shortest walk over grid points to a place, or to where an object is near."""
    from embodied_mem.geometry.grid import Grid
    from embodied_mem.geometry.paths import distance_field, grid_path

    step, points = scene.settings.grid, _flood(scene)
    low = points.min(axis=0) - 0.5 * step
    cells = np.floor((points - low) / step).astype(int)
    free = np.zeros(tuple(cells.max(axis=0)[::-1] + 1), bool)
    free[cells[:, 1], cells[:, 0]] = True
    grid = Grid(free, step, *low)
    if objectId is not None:
        thing = _thing(scene, objectId)
        x, _, z = scene.centre(thing.box)
    elif target is not None:
        x, z = target["x"], target["z"]
    else:
        raise Failed("a path needs an objectId or a target")
    goal = points[np.argmin(np.hypot(points[:, 0] - x, points[:, 1] - z))]
    start = np.array(scene.agent[:2]) if position is None else np.array([position["x"], position["z"]])
    way = grid_path(distance_field(grid, grid.cells_of(goal)[None]), grid, start)
    return {"corners": [{"x": float(a), "y": 0.0, "z": float(b)} for a, b in way]}


# Objects


def _thing(scene: Scene, key: str) -> Thing:
    if key not in scene.things:
        raise Failed(f"{key} is not an object of this scene")
    return scene.things[key]


def _within_reach(scene: Scene, thing: Thing, force: bool) -> None:
    if not force and not scene.visible()[thing.box]:
        raise Failed(f"{thing.key} is not visible within reach")


def pick_up(scene: Scene, objectId: str, forceAction: bool = False, manualInteract: bool = False) -> None:
    """Take an object into the hand."""
    thing, state = _thing(scene, objectId), scene.world.arrays
    if scene.held is not None:
        raise Failed("the hand is not empty")
    if not thing.flags & K.PICKUPABLE:
        raise Failed(f"{thing.key} cannot be picked up")
    _within_reach(scene, thing, forceAction)
    scene.world.hide(0, thing.box)
    state.held[0] = thing.box
    scene.refresh()


def put(scene: Scene, objectId: str, forceAction: bool = False, placeStationary: bool = True) -> None:
    """Lay what is held on (or in) a receptacle."""
    from embodied_mem.envs.house import interact

    holder, held = _thing(scene, objectId), _held(scene)
    if not holder.flags & K.RECEPTACLE:
        raise Failed(f"{holder.key} holds nothing")
    if holder.flags & K.OPENABLE and holder.openness == 0.0:
        raise Failed(f"{holder.key} is closed")
    _within_reach(scene, holder, forceAction)
    x, z, _, _ = scene.agent
    world = scene.world
    if not interact.put(world.plans, world.arrays, 0, held.box, holder.box, x, z):
        raise Failed(f"no place is free on {holder.key}")
    held.tilt = (0.0, 0.0)
    scene.refresh()


def drop(scene: Scene, forceAction: bool = False) -> None:
    """Let what is held fall to the floor in front of the agent."""
    held = _held(scene)
    x, _, z = scene.centre(held.box)
    if not forceAction and not scene.free(x, z):
        raise Failed("there is no room to drop it")
    height = 0.5 * float(scene.size(held.box)[1])
    scene.set_pose(held, {"x": x, "y": height, "z": z}, None)


def _held(scene: Scene) -> Thing:
    if scene.held is None:
        raise Failed("the hand is empty")
    return scene.held


def open_object(scene: Scene, objectId: str, openness: float = 1.0, forceAction: bool = False) -> None:
    """Open a container so far."""
    thing = _thing(scene, objectId)
    if not thing.flags & K.OPENABLE:
        raise Failed(f"{thing.key} cannot be opened")
    if not 0.0 <= openness <= 1.0:
        raise Failed(f"openness must lie in [0, 1], got {openness}")
    _within_reach(scene, thing, forceAction)
    if thing.openness == openness:
        raise Failed(f"{thing.key} is open so far already")
    scene.set_openness(thing, float(openness))


def close_object(scene: Scene, objectId: str, forceAction: bool = False) -> None:
    """Close a container."""
    open_object(scene, objectId, 0.0, forceAction)


def teleport_object(
    scene: Scene,
    objectId: str,
    position: Vector | None = None,
    rotation: Vector | None = None,
    positions: Sequence[Vector] | None = None,
    forceAction: bool = False,
    forceKinematic: bool = False,
    allowTeleportOutOfHand: bool = False,
    makeUnbreakable: bool = False,
) -> None:
    """Put an object at a place, the first of several."""
    thing = _thing(scene, objectId)
    if scene.held is thing and not allowTeleportOutOfHand:
        raise Failed("what is held must be allowed to leave the hand")
    places = [position] if position is not None else list(positions or [])
    if not places:
        raise Failed("a place is needed")
    scene.set_pose(thing, places[0], rotation)


def set_object_poses(scene: Scene, objectPoses: Sequence[dict[str, Any]], placeStationary: bool = True) -> None:
    """Put objects, named by ``objectName``, at their poses."""
    by_name = {thing.name: thing for thing in scene.things.values()}
    for pose in objectPoses:
        if pose["objectName"] not in by_name:
            raise Failed(f"there is no object named {pose['objectName']}")
        scene.set_pose(by_name[pose["objectName"]], pose["position"], pose["rotation"])


# Cameras and the rest


def map_view(scene: Scene) -> dict[str, Any]:
    """Return the camera that sees the whole floor from above."""
    x0, z0, x1, z1 = scene.plan.bounds
    wide = scene.settings.height / scene.settings.width
    return {
        "position": {"x": 0.5 * (x0 + x1), "y": scene.plan.height - 0.01, "z": 0.5 * (z0 + z1)},
        "rotation": {"x": 90.0, "y": 0.0, "z": 0.0},
        "orthographicSize": 0.5 * max(z1 - z0, (x1 - x0) * wide) + 0.2,
        "orthographic": True,
    }


def add_camera(
    scene: Scene,
    position: Vector,
    rotation: Vector,
    fieldOfView: float = 90.0,
    orthographic: bool = False,
    orthographicSize: float = 2.0,
    skyboxColor: str = "black",
) -> None:
    """Add a third-party camera."""
    if abs(rotation.get("z", 0.0)) > 1e-6:
        raise Failed("cameras cannot roll")
    place = np.array([position["x"], position["y"], position["z"]], np.float64)
    half = float(orthographicSize) if orthographic else 0.0
    scene.third.append(Camera(place, float(rotation["y"]), float(rotation["x"]), float(fieldOfView), half))


def nothing(scene: Scene) -> None:
    """Let time pass."""


ACTIONS: dict[str, Callable[..., Any]] = {
    "MoveAhead": move_ahead,
    "MoveBack": move_back,
    "MoveLeft": move_left,
    "MoveRight": move_right,
    "RotateLeft": rotate_left,
    "RotateRight": rotate_right,
    "LookUp": look_up,
    "LookDown": look_down,
    "Teleport": teleport,
    "TeleportFull": teleport,
    "GetReachablePositions": reachable_positions,
    "GetInteractablePoses": interactable_poses,
    "GetShortestPath": shortest_path,
    "PickupObject": pick_up,
    "PutObject": put,
    "DropHandObject": drop,
    "DropHeldObject": drop,
    "OpenObject": open_object,
    "CloseObject": close_object,
    "TeleportObject": teleport_object,
    "SetObjectPoses": set_object_poses,
    "GetMapViewCameraProperties": map_view,
    "AddThirdPartyCamera": add_camera,
    "Pass": nothing,
    "Done": nothing,
}
