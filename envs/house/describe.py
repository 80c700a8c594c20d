"""The map of one row as JSON-able values, for reports and debugging."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embodied_mem.envs.house import classes as K

if TYPE_CHECKING:
    from embodied_mem.envs.house.batch import HouseWorld


def describe_row(world: HouseWorld, row: int) -> dict:
    """Return the present map of ``row``: name, height, rooms, walls, doors, windows, boxes and agent.

    Lengths in metres, angles in degrees; polygons and points are lists of [x, z].
    """
    plan, state = world.plan(row), world.arrays
    instances = plan.box_instance
    rooms = [
        {
            "type": K.ROOM_TYPES[int(plan.room_type[room])],
            "polygon": _points(plan.room_polygon(room)),
            "floor_rgb": plan.room_rgb[room, 1].tolist(),
        }
        for room in range(plan.num_rooms)
    ]
    first, count = world.library.plan_int.store[state.plan[row], 8:10].tolist()
    walls = [_points(wall.reshape(2, 2)) for wall in world.library.solid.store[first : first + count]]
    doors = [
        {
            "instance": 4 + door,
            "ends": _points(plan.door_ends[door]),
            "rooms": plan.door_room[door].tolist(),
            "openness": round(float(state.door_openness[row, door]), 3),
            "openable": bool(plan.door_openable[door]),
        }
        for door in range(plan.num_doors)
    ]
    windows = [{"ends": _points(ends)} for ends in plan.window_ends]
    boxes = []
    for box in range(plan.num_boxes):
        x, y, z, yaw = (float(value) for value in state.box_pose[row, box])
        boxes.append(
            {
                "instance": int(instances[box]),
                "class": K.CLASS_NAMES[int(plan.box_class[box])],
                "position": [round(x, 3), round(y, 3), round(z, 3)],
                "yaw": round(yaw * 57.29577951308232, 2),
                "size": [round(float(value), 3) for value in plan.box_size[box]],
                "rgb": plan.box_rgb[box].tolist(),
                "parent": int(state.box_parent[row, box]),
                "inside": bool(state.box_inside[row, box]),
                "open": bool(state.box_open[row, box]),
                "shown": bool(state.box_shown[row, box]),
                "tray": bool(plan.box_flags[box] & K.TRAY),
            }
        )
    agent = {
        "position": [round(float(value), 3) for value in state.position[row]],
        "yaw": round(float(state.yaw[row]), 2),
        "horizon": round(float(state.horizon[row]), 2),
        "held": int(state.held[row]),
    }
    return {
        "name": plan.name,
        "height": round(plan.height, 3),
        "bounds": [round(value, 3) for value in plan.bounds],
        "rooms": rooms,
        "walls": walls,
        "doors": doors,
        "windows": windows,
        "boxes": boxes,
        "agent": agent,
    }


def _points(array: object) -> list[list[float]]:
    return [[round(float(x), 3), round(float(z), 3)] for x, z in array]  # type: ignore[attr-defined]
