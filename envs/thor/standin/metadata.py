"""What the player reports: the tree of one agent, and its images, in the form that the client reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.thor.standin import fifo
from embodied_mem.envs.thor.standin.scene import BODY_HEIGHT, Camera, Scene, Thing, colour_of
from embodied_mem.metrics.boxes import corners

HEAVIEST = 300.0
"""Kilograms per cubic metre by which masses are made up."""


def point(values: Any) -> dict[str, float]:
    """Return {x, y, z}."""
    x, y, z = (float(value) for value in values)
    return {"x": x, "y": y, "z": z}


def box_corners(scene: Scene, thing: Thing) -> np.ndarray:
    """Return the (8, 3) corners of an object's upright box."""
    yaw = math.degrees(float(scene.world.arrays.box_pose[0, thing.box, 3]))
    return corners(np.array(scene.centre(thing.box)), scene.size(thing.box), yaw)


def describe(scene: Scene, thing: Thing, visible: bool) -> dict[str, Any]:
    """Return the entry of one object."""
    state, box = scene.world.arrays, thing.box
    x, z, _, _ = scene.agent
    centre, points = scene.centre(box), box_corners(scene, thing)
    parent = int(state.box_parent[0, box])
    low, high = points.min(axis=0), points.max(axis=0)
    pickupable, openable = bool(thing.flags & K.PICKUPABLE), bool(thing.flags & K.OPENABLE)
    receptacle = bool(thing.flags & K.RECEPTACLE)
    keys = {other.box: other.key for other in scene.things.values()}
    held = int(state.held[0]) == box
    yaw = math.degrees(float(state.box_pose[0, box, 3])) % 360.0
    return {
        "name": thing.name,
        "objectId": thing.key,
        "objectType": thing.kind,
        "position": point(centre),
        "rotation": {"x": thing.tilt[0], "y": yaw, "z": thing.tilt[1]},
        "visible": bool(visible),
        "obstructed": not visible,
        "distance": math.dist(centre, (x, BODY_HEIGHT, z)),
        "receptacle": receptacle,
        "receptacleObjectIds": [keys[b] for b in keys if int(state.box_parent[0, b]) == box] if receptacle else None,
        "parentReceptacles": [keys[parent]] if parent in keys else None,
        "pickupable": pickupable,
        "isPickedUp": held,
        "moveable": False,
        "mass": float(np.prod(scene.size(box)) * HEAVIEST),
        "salientMaterials": [],
        "openable": openable,
        "isOpen": openable and thing.openness > 0.0,
        "openness": thing.openness if openable else 0.0,
        **dict.fromkeys(("toggleable", "isToggled", "breakable", "isBroken", "canFillWithLiquid"), False),
        **dict.fromkeys(("isFilledWithLiquid", "dirtyable", "isDirty", "canBeUsedUp", "isUsedUp"), False),
        **dict.fromkeys(("cookable", "isCooked", "isHeatSource", "isColdSource", "sliceable", "isSliced"), False),
        "fillLiquid": None,
        "temperature": "RoomTemp",
        "controlledObjects": None,
        "isMoving": False,
        "axisAlignedBoundingBox": {
            "cornerPoints": [[float((low, high)[n >> k & 1][k]) for k in range(3)] for n in range(8)],
            "center": point(0.5 * (low + high)),
            "size": point(high - low),
        },
        "objectOrientedBoundingBox": {"cornerPoints": points.tolist()} if pickupable else None,
    }


def agent_tree(scene: Scene, action: str, error: str, code: str, returned: Any) -> dict[str, Any]:
    """Return the metadata of the one agent after an action."""
    x, z, yaw, horizon = scene.agent
    visible = scene.visible()
    held = scene.held
    x0, z0, x1, z1 = scene.plan.bounds
    low, high = np.array([x0, 0.0, z0]), np.array([x1, scene.plan.height, z1])
    cameras = [
        {
            "thirdPartyCameraId": number,
            "position": point(camera.position),
            "rotation": {"x": camera.pitch, "y": camera.yaw, "z": 0.0},
            "fieldOfView": camera.fov,
        }
        for number, camera in enumerate(scene.third)
    ]
    return {
        "screenWidth": scene.settings.width,
        "screenHeight": scene.settings.height,
        "lastAction": action,
        "lastActionSuccess": not error,
        "errorCode": code,
        "errorMessage": error,
        "actionReturn": returned,
        "thirdPartyCameras": cameras,
        "sceneName": scene.name,
        "agent": {
            "name": "agent",
            "position": {"x": x, "y": BODY_HEIGHT, "z": z},
            "rotation": {"x": 0.0, "y": yaw, "z": 0.0},
            "cameraHorizon": horizon,
            "isStanding": True,
            "inHighFrictionArea": False,
        },
        "objects": [describe(scene, thing, bool(visible[thing.box])) for thing in scene.things.values()],
        "colors": scene.colours(),
        "depthFormat": "Meters",
        "isSceneAtRest": True,
        "heldObjectPose": None if held is None else {"position": point(scene.centre(held.box))},
        "arm": None,
        "fov": scene.settings.fov,
        "cameraPosition": point(scene.eye().position),
        "cameraOrthSize": 0.0,
        "collided": False,
        "collidedObjects": [],
        "inventoryObjects": [] if held is None else [{"objectId": held.key, "objectType": held.kind}],
        "agentId": 0,
        "currentTime": 0.0,
        "sceneBounds": {
            "cornerPoints": [[float(v) for v in p] for p in (low, high)],
            "center": point(0.5 * (low + high)),
            "size": point(high - low),
        },
    }


def images(scene: Scene) -> list[tuple[int, bytes]]:
    """Return the image fields of the agent's camera and of the third-party ones, bottom row first."""
    fields: list[tuple[int, bytes]] = []
    rgb, depth, ids = scene.picture(scene.eye())
    fields.append((fifo.RGB, _bytes(rgb)))
    if scene.settings.depth:
        fields.append((fifo.DEPTH, _bytes(depth)))
    if scene.settings.instances:
        table = np.array([[*colour_of(number), 255] for number in range(int(ids.max()) + 1)], np.uint8)
        fields.append((fifo.IDS, _bytes(table[ids])))
    fields += [(fifo.THIRD_PARTY_RGB, _bytes(_view(scene, camera))) for camera in scene.third]
    return fields


def _view(scene: Scene, camera: Camera) -> np.ndarray:
    return scene.picture(camera)[0]


def _bytes(image: np.ndarray) -> bytes:
    return np.ascontiguousarray(image[::-1]).tobytes()
