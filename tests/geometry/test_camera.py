import numpy as np
import pytest

from embodied_mem.geometry import (
    camera_to_world,
    heading,
    intrinsics,
    project,
    relative_pose,
    unproject,
    world_to_camera,
    wrap_angle,
)


@pytest.mark.parametrize(
    ("yaw_degrees", "forward", "right"),
    [(0, (0, 1), (1, 0)), (90, (1, 0), (0, -1)), (180, (0, -1), (-1, 0))],
)
def test_yaw_is_clockwise_from_plus_z(yaw_degrees, forward, right):
    got_forward, got_right = heading(np.radians(yaw_degrees))
    np.testing.assert_allclose(got_forward, forward, atol=1e-12)
    np.testing.assert_allclose(got_right, right, atol=1e-12)


def test_point_ahead_below_and_right_has_positive_camera_coordinates():
    pose = np.array([2.0, 1.5, 3.0, np.pi / 2, 0.0])
    seen = world_to_camera(np.array([[5.0, 1.0, 2.0]]), pose)
    np.testing.assert_allclose(seen, [[1.0, 0.5, 3.0]], atol=1e-12)


def test_pitch_positive_looks_down():
    pose = np.array([0.0, 1.0, 0.0, 0.0, np.pi / 4])
    seen = world_to_camera(np.array([[0.0, 0.0, 1.0]]), pose)
    np.testing.assert_allclose(seen, [[0.0, 0.0, np.sqrt(2)]], atol=1e-12)


def test_world_and_camera_are_inverse_over_a_batch():
    rng = np.random.default_rng(0)
    pose = np.concatenate([rng.normal(size=(6, 3)), rng.uniform(-3, 3, (6, 1)), rng.uniform(-1, 1, (6, 1))], 1)
    points = rng.normal(size=(6, 10, 3))
    np.testing.assert_allclose(world_to_camera(camera_to_world(points, pose), pose), points, atol=1e-12)


def test_unproject_then_project_returns_pixel_centres_and_depth():
    k = np.stack([intrinsics(8, 6, 90), intrinsics(8, 6, 60, look_degrees=30)])
    depth = np.random.default_rng(1).uniform(0.5, 5, (2, 6, 8))
    points = unproject(depth, k)
    pixels, back = project(points.reshape(2, -1, 3), k)
    np.testing.assert_allclose(back.reshape(depth.shape), depth)
    columns, rows = np.meshgrid(np.arange(8) + 0.5, np.arange(6) + 0.5)
    np.testing.assert_allclose(pixels.reshape(2, 6, 8, 2), np.broadcast_to(np.stack([columns, rows], -1), (2, 6, 8, 2)))


def test_looking_down_by_principal_point_sees_the_floor_higher_in_the_image():
    level, down = intrinsics(64, 64, 90), intrinsics(64, 64, 90, look_degrees=30)
    floor = np.array([[0.0, 1.0, 2.0]])
    assert project(floor, down)[0][0, 1] < project(floor, level)[0][0, 1]


def test_points_behind_the_camera_have_no_pixel():
    assert np.isnan(project(np.array([[0.0, 0.0, -1.0]]), intrinsics(4, 4, 90))[0]).all()


def test_relative_pose_undoes_a_rigid_move_of_world_and_start():
    pose = np.array([1.0, 1.5, 2.0, 0.4, 0.1])
    origin = np.array([0.5, 1.5, 1.0, -0.3, 0.0])
    turn, shift = 0.9, np.array([3.0, -2.0])
    forward, right = heading(turn)

    def moved(p):
        xz = p[0] * right + p[2] * forward + shift
        return np.array([xz[0], p[1], xz[1], p[3] + turn, p[4]])

    np.testing.assert_allclose(relative_pose(moved(pose), moved(origin)), relative_pose(pose, origin), atol=1e-12)


def test_relative_pose_and_depth_rebuild_points_up_to_the_start_frame():
    origin = np.array([1.0, 1.5, -1.0, 0.7, 0.0])
    pose = np.array([2.0, 1.5, 0.5, -1.1, 0.0])
    world = np.array([[0.3, 0.2, 4.0]])
    local = camera_to_world(world_to_camera(world, pose), relative_pose(pose, origin))
    forward, right = heading(origin[3])
    offset = world[0] - origin[:3]
    expected = [offset[[0, 2]] @ right, offset[1], offset[[0, 2]] @ forward]
    np.testing.assert_allclose(local[0], expected, atol=1e-12)


def test_wrap_angle_stays_half_open():
    np.testing.assert_allclose(wrap_angle(np.array([np.pi, -np.pi, 7.0])), [-np.pi, -np.pi, 7.0 - 2 * np.pi])
