import numpy as np
import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.geometry import camera
from embodied_mem.perception.pooling import grid_pool, mean_pool
from embodied_mem.perception.unproject import points_from_depth, to_world, unproject


def scene(seed=0):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 6.0, (2, 3, 4, 5))
    pose = rng.uniform(-2.0, 2.0, (2, 3, 5))
    return depth, np.tile(camera.intrinsics(5, 4, 80.0, 10.0), (2, 3, 1)), pose


def test_points_equal_the_numpy_geometry():
    depth, intrinsics, pose = scene()
    expected = camera.camera_to_world(camera.unproject(depth, intrinsics).reshape(2, 3, 20, 3), pose)
    points, valid = points_from_depth(*(torch.from_numpy(value) for value in (depth, intrinsics, pose)))
    np.testing.assert_allclose(points.numpy(), expected, atol=1e-12)
    assert valid.all()


def test_points_project_back_to_their_pixels():
    depth, intrinsics, _ = scene()
    points = unproject(torch.from_numpy(depth), torch.from_numpy(intrinsics)).numpy().reshape(2, 3, 20, 3)
    pixels, back = camera.project(points, intrinsics)
    columns, rows = np.meshgrid(np.arange(5) + 0.5, np.arange(4) + 0.5)
    np.testing.assert_allclose(pixels, np.broadcast_to(np.stack([columns, rows], -1).reshape(20, 2), pixels.shape))
    np.testing.assert_allclose(back, depth.reshape(2, 3, 20))


def test_absent_depth_is_marked_and_gives_no_nan():
    depth = torch.tensor([[1.0, float("nan")], [0.0, 50.0]])
    points, valid = points_from_depth(depth, torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.zeros(5))
    assert valid.tolist() == [True, False, False, False] and torch.isfinite(points).all()


def test_gradients_reach_depth():
    depth = torch.ones(2, 2, dtype=torch.float64, requires_grad=True)
    intrinsics = torch.tensor([2.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d: unproject(d, intrinsics), depth)


def test_wrong_axes_are_explained():
    with pytest.raises(UsageError, match="intrinsics"):
        unproject(torch.zeros(2, 4, 4), torch.zeros(4))
    with pytest.raises(UsageError, match="pose"):
        to_world(torch.zeros(7, 3), torch.zeros(4))


def test_grid_pool_averages_cells():
    tokens = torch.arange(16.0).reshape(1, 16, 1)
    assert grid_pool(tokens, (4, 4), (2, 2)).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert torch.equal(grid_pool(tokens, (4, 4), (4, 4)), tokens)
    with pytest.raises(UsageError, match=r"4\*4"):
        grid_pool(tokens[:, :15], (4, 4), (2, 2))


def test_mean_pool_leaves_out_padding():
    tokens = torch.tensor([[[1.0], [3.0], [float("nan")]]])
    assert mean_pool(tokens, torch.tensor([[True, True, False]])).item() == 2.0
    assert mean_pool(tokens, torch.zeros(1, 3, dtype=torch.bool)).item() == 0.0
