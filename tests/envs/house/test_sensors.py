import numpy as np
import pytest

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.colours import COLOUR_NAMES
from embodied_mem.envs.house.sensors import SENSORS, SensorConfig, Sensors
from embodied_mem.errors import UsageError
from embodied_mem.geometry.camera import camera_to_world, unproject

from .conftest import furnished, put_agent, two_rooms, world_of


def test_spaces_hold_the_readings(varied_world):
    sensors = Sensors(varied_world, SensorConfig(SENSORS, scan_layers=2))
    seen = sensors.observe()
    for name, space in sensors.space().items():
        assert space.contains(seen[name][0]), name


def test_unprojected_depth_lands_on_the_instance_that_semantic_names(varied_world):
    seen = Sensors(varied_world, SensorConfig(("depth", "semantic", "intrinsics"))).observe()
    state = varied_world.arrays
    checked = 0
    for row in range(varied_world.num_envs):
        plan = varied_world.plan(row)
        pose = np.array([state.position[row, 0], 1.5, state.position[row, 1], np.radians(state.yaw[row]), 0.0])
        points = unproject(seen["depth"][row], seen["intrinsics"][row]).reshape(-1, 3)
        world_points = camera_to_world(points, pose)
        ids = seen["semantic"][row].ravel()
        floor = ids == 1
        assert np.abs(world_points[floor, 1]).max(initial=0) < 2e-3
        assert np.abs(world_points[ids == 2, 1] - plan.height).max(initial=0) < 2e-3
        parts = {}
        for box in range(plan.num_boxes):
            parts.setdefault(int(plan.box_instance[box]), []).append(box)
        for instance in np.unique(ids[ids >= 4 + plan.num_doors + plan.num_windows]):
            here = world_points[ids == instance]
            gaps = [_outside(here, state.box_pose[row, box], plan.box_size[box]) for box in parts[int(instance)]]
            assert np.min(gaps, axis=0).max() < 3e-3
            checked += len(here)
    assert checked > 1000


def _outside(points, pose, size):
    """Distance (P,) from points to the surface or inside of a prism, per axis the largest overshoot."""
    c, s = np.cos(pose[3]), np.sin(pose[3])
    dx, dz = points[:, 0] - pose[0], points[:, 2] - pose[2]
    local = np.stack([dx * c - dz * s, points[:, 1] - pose[1] - size[1] / 2, dx * s + dz * c], -1)
    return np.maximum(np.abs(local) - size / 2, 0).max(-1)


def test_scan_finds_the_nearest_surface_of_every_column(varied_world):
    """Against a plain search: every wall segment, closed door part and standing box of the house, for every ray."""
    width, world = 48, varied_world
    config = SensorConfig(("scan",), scan_width=width, scan_layers=2, scan_range=50.0)
    seen = Sensors(world, config).observe()["scan"]
    for row in range(world.num_envs):
        x, z = world.arrays.position[row]
        for column in range(width):
            angle = np.radians(world.arrays.yaw[row]) + ((column + 0.5) / width - 0.5) * 2 * np.pi
            nearest = _nearest(world, row, x, z, np.sin(angle), np.cos(angle))
            assert seen[row, column, 0] == pytest.approx(nearest, abs=2e-3)


def _nearest(world, row, x, z, dx, dz):
    plan, state = world.plan(row), world.arrays
    first, count = world.library.plan_int.array[state.plan[row], 8:10]
    walls = [tuple(wall) for wall in world.library.solid.array[first : first + count]]
    for door in range(plan.num_doors):
        (ax, az), (bx, bz) = plan.door_ends[door]
        part = 1.0 - (state.door_openness[row, door] if (plan.door_room[door] >= 0).all() else 0.0)
        walls.append((ax, az, ax + (bx - ax) * part, az + (bz - az) * part))
    best = np.inf
    for ax, az, bx, bz in walls:
        ex, ez = bx - ax, bz - az
        cross = dx * ez - dz * ex
        if abs(cross) > 1e-9:
            t, s = ((ax - x) * ez - (az - z) * ex) / cross, ((ax - x) * dz - (az - z) * dx) / cross
            if t > 0 and -1e-6 <= s <= 1 + 1e-6:
                best = min(best, t)
    for box in range(plan.num_boxes):
        flat = plan.box_flags[box] & K.FLAT and plan.box_size[box, 1] < 0.05
        if not state.box_shown[row, box] or flat:
            continue
        px, _, pz, yaw = state.box_pose[row, box]
        c, s = np.cos(yaw), np.sin(yaw)
        low, high = 0.0, np.inf
        for o, d, half in (
            ((x - px) * c - (z - pz) * s, dx * c - dz * s, plan.box_size[box, 0] / 2),
            ((x - px) * s + (z - pz) * c, dx * s + dz * c, plan.box_size[box, 2] / 2),
        ):
            a, b = sorted(((-half - o) / (d or 1e-12), (half - o) / (d or 1e-12)))
            low, high = max(low, a), min(high, b)
        if low < high:
            best = min(best, low)
    return best


def test_scan_agrees_with_depth(varied_world):
    """The nearest thing in a column of the picture is the scan's, up to what the vertical view cuts off."""
    config = SensorConfig(("scan", "depth", "semantic"), scan_width=360, scan_layers=2)
    seen = Sensors(varied_world, config).observe()
    width = varied_world.config.width
    focal = width / (2 * varied_world.rules.tan_x)
    angles = np.degrees(np.arctan((np.arange(width) + 0.5 - width / 2) / focal))
    agree = total = 0
    for row in range(varied_world.num_envs):
        if varied_world.arrays.horizon[row] != 0:
            continue
        plan = varied_world.plan(row)
        table = plan.instance_class
        solid = ~np.isin(seen["semantic"][row], (1, 2))
        for column in range(width):
            ray = seen["depth"][row, :, column] / np.cos(np.radians(angles[column]))
            classes = table[seen["semantic"][row, :, column]]
            index = round(angles[column] + 180 - 0.5) % 360
            depth, cls = seen["scan"][row, index, :2]
            drawn = ray[solid[:, column] & (classes == cls)]
            assert depth <= ray[solid[:, column]].min() + 0.15 or cls == K.class_id("Wall")
            total += 1
            agree += bool(len(drawn)) and abs(drawn.min() - depth) < 0.12
    assert total > 90 and agree > 0.8 * total


def test_scan_looks_all_around_and_sees_small_things_on_furniture():
    plan, boxes = furnished()
    world = world_of(plan)
    put_agent(world, 4.6, 2.0, 90.0)
    one = Sensors(world, SensorConfig(("scan",), scan_width=73)).observe()["scan"][0].copy()
    two = Sensors(world, SensorConfig(("scan",), scan_width=73, scan_layers=2)).observe()["scan"][0]
    mug, table = K.class_id("Mug"), K.class_id("DiningTable")
    assert one[36, 1] == mug and two[36, 4] == mug and two[36, 1] == table
    assert two[36, 0] < two[36, 3] and one[36, 0] == two[36, 3]
    assert one[0, 0] == pytest.approx(4.6 - 0.6, abs=0.3), "behind it, through the door, stands the cabinet"
    assert one[0, 1] == K.class_id("Cabinet")
    assert (one[:, 2] < len(COLOUR_NAMES)).all()


def test_scan_range_and_closed_doors():
    world = world_of(two_rooms(openness=0.0)[0].build())
    put_agent(world, 2.0, 2.0, 90.0)
    scan = Sensors(world, SensorConfig(("scan",), scan_width=32, scan_range=1.0)).observe()["scan"][0]
    assert scan[:, 0].max() == 1.0
    assert (scan[15:17, 1] == K.DOOR).all()


def test_pose_is_relative_to_the_start_and_turns_with_it():
    world = world_of(two_rooms()[0].build())
    sensors = Sensors(world, SensorConfig(("pose",)))
    put_agent(world, 2.0, 2.0, 90.0)
    sensors.begin(np.array([0]), np.array([1], np.uint64))
    assert np.allclose(sensors.observe()["pose"], 0.0)
    for action in (0, 0, 2, 2, 2, 0):
        world.act(np.array([action]))
    pose = sensors.observe()["pose"][0]
    assert np.allclose(pose, [0.25, 0.0, 0.5, np.pi / 2, 0.0], atol=1e-6)


def test_pose_noise_drifts_with_motion_only_and_follows_the_key():
    traces = {}
    for key in (5, 5, 6):
        world = world_of(two_rooms()[0].build())
        sensors = Sensors(world, SensorConfig(("pose",), pose_noise=(0.1, 0.1)))
        put_agent(world, 2.0, 2.0, 0.0)
        sensors.begin(np.array([0]), np.array([key], np.uint64))
        first = sensors.observe()["pose"].copy()
        assert np.array_equal(first, sensors.observe()["pose"]), "standing still adds nothing"
        assert np.allclose(first, 0.0)
        for action in (0, 1, 0, 0):
            world.act(np.array([action]))
            pose = sensors.observe()["pose"].copy()
            assert np.array_equal(pose, sensors.observe()["pose"])
        if key in traces:
            assert np.array_equal(traces[key], pose)
        traces[key] = pose
    assert not np.array_equal(traces[5], traces[6])


def test_buffers_are_the_sensors_own():
    world = world_of(two_rooms()[0].build(), width=16, height=16)
    put_agent(world, 2.0, 2.0, 0.0)
    sensors = Sensors(world, SensorConfig(("rgb", "depth")))
    assert sensors.observe()["rgb"] is sensors.observe()["rgb"]


@pytest.mark.parametrize(
    "kwargs, word",
    [
        (dict(sensors=("rgbd",)), "did you mean"),
        (dict(sensors=("rgb", "rgb")), "once"),
        (dict(sensors=()), "at least one"),
        (dict(scan_layers=3), "scan_layers"),
        (dict(backend="opengl"), "backend"),
        (dict(threads=0), "threads"),
    ],
)
def test_bad_options_are_refused(kwargs, word):
    with pytest.raises(UsageError, match=word):
        SensorConfig(**kwargs)
