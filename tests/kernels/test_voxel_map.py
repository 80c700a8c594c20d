"""What is particular to voxel maps: codes over all bits, the order of points, resets, poses, walks."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.kernels import (
    clear_map,
    insert_voxels,
    map_cast,
    map_parents,
    map_query,
    morton_decode,
    morton_encode,
    unproject_insert,
    voxel_map,
)
from embodied_mem.kernels.specs.unproject_insert import by_code
from embodied_mem.perception.unproject import points_from_depth


def view(B=2, H=6, W=8, F=3):
    g = torch.Generator().manual_seed(0)
    depth = 0.5 + 3 * torch.rand(B, H, W, generator=g)
    pose = torch.randn(B, 5, generator=g) * torch.tensor([1.0, 1.0, 1.0, 0.7, 0.3])
    intr = torch.tensor([[7.0, 7.0, W / 2, H / 2]]).expand(B, 4).contiguous()
    return depth, pose, intr, torch.randn(B, H, W, F, generator=g)


@pytest.mark.parametrize("bits", [1, 10, 20, 21])
def test_codes_are_a_bijection_that_keeps_the_order_of_an_octree(bits):
    g = torch.Generator().manual_seed(bits)
    voxels = torch.randint(0, 2**bits, (4000, 3), generator=g)
    codes = morton_encode(voxels)
    assert torch.equal(morton_decode(codes), voxels) and int(codes.min()) >= 0
    assert torch.equal(morton_decode(codes >> 3), voxels >> 1)
    assert len(codes.unique()) == len(voxels.unique(dim=0))
    corners = torch.tensor([[2**bits - 1] * 3, [2**bits - 1, 0, 0], [0, 0, 2**bits - 1]])
    last = sum(1 << (3 * bit) for bit in range(bits))
    assert morton_encode(corners).tolist() == [7 * last, last, 4 * last]


def test_points_go_where_perception_puts_them():
    depth, pose, intr, features = view()
    map = voxel_map(2, 128, size=0.25, bits=8, features=3)
    unproject_insert(depth, pose, intr, map, features=features)
    points, valid = points_from_depth(depth, intr, pose)
    assert valid.all() and not map.lost.any()
    found = map_query(map, points)
    assert (found.points > 0).all()
    own = ((points - map.origin.unsqueeze(1)) / map.size).floor()
    same = (own.unsqueeze(1) == own.unsqueeze(2)).all(-1).float()
    assert torch.equal(found.points.squeeze(-1), same.sum(-1).int())
    mean = same @ features.flatten(1, 2) / same.sum(-1, keepdim=True)
    torch.testing.assert_close(found.mean.squeeze(2), mean, rtol=1e-5, atol=1e-6)


def test_the_order_of_points_and_views_does_not_count():
    depth, pose, intr, features = view()
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    maps = [voxel_map(2, 128, size=0.5, features=3) for _ in range(2)]
    unproject_insert(depth, pose, intr, maps[0], features=features)
    for part in order.chunk(3):
        some = torch.zeros_like(depth).flatten(1)
        some[:, part] = depth.flatten(1)[:, part]
        unproject_insert(some.view_as(depth), pose, intr, maps[1], features=features)
    first, second = (by_code(map.keys, map.points, map.total) for map in maps)
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    torch.testing.assert_close(first[2], second[2], rtol=1e-5, atol=1e-6)
    assert maps[1].dropped.tolist() == [2 * 48] * 2


def test_known_voxels_go_where_their_points_go():
    depth, pose, intr, _ = view()
    maps = [voxel_map(2, 128, size=0.5, bits=6) for _ in range(3)]
    unproject_insert(depth, pose, intr, maps[0], max_depth=2.0)
    points, valid = points_from_depth(depth, intr, pose, 2.0)
    voxels = ((points - maps[0].origin.unsqueeze(1)) / 0.5).floor().long()
    insert_voxels(maps[1], voxels, valid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embodied_mem.kernels.ops.unproject_insert.inline", lambda *_, **__: False)
        insert_voxels(maps[2], voxels, valid)
    for map in maps[1:]:
        for found, wanted in zip(by_code(*map[:3]), by_code(*maps[0][:3])):
            assert torch.equal(found, wanted)
    insert_voxels(maps[1], torch.tensor([[[64, 0, 0]], [[0, -1, 0]]]))
    assert maps[1].dropped.tolist() == [1, 1]
    with pytest.raises(ValueError, match="map of 0 features"):
        insert_voxels(voxel_map(2, 16, size=0.5, features=1), voxels)


def test_a_reset_empties_its_row_alone():
    depth, pose, intr, _ = view()
    map = voxel_map(2, 16, size=0.5)
    unproject_insert(depth, pose, intr, map)
    assert map.overflow.all() and map.held.tolist() == [16, 16]
    kept = map.keys[1].clone()
    clear_map(map, torch.tensor([True, False]))
    assert map.held.tolist() == [0, 16] and map.overflow.tolist() == [False, True]
    assert not map.points[0].any() and torch.equal(map.keys[1], kept)


def test_parents_hold_what_their_children_hold():
    depth, pose, intr, features = view()
    map = voxel_map(2, 256, size=0.125, bits=9, features=3)
    unproject_insert(depth, pose, intr, map, features=features)
    coarse, direct = map_parents(map, 2), voxel_map(2, 256, size=0.5, bits=7, features=3, origin=map.origin)
    unproject_insert(depth, pose, intr, direct, features=features)
    assert (coarse.size, coarse.bits) == (0.5, 7) and torch.equal(coarse.points.sum(1), map.points.sum(1))
    for found, wanted in zip(by_code(*coarse[:3]), by_code(*direct[:3])):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_ray_meets_the_first_wall():
    map = voxel_map(1, 64, size=1.0, bits=4)
    wall = torch.ones(1, 8, 8) * 3.5
    unproject_insert(wall, torch.zeros(1, 5), torch.tensor([[8.0, 8.0, 4.0, 4.0]]), map)
    start = torch.tensor([[[0.25, 0.25, 0.5], [0.25, 0.25, 0.5], [0.25, 0.25, 3.25], [0.0, 0.0, 99.0]]])
    toward = torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]]])
    hit = map_cast(map, start, toward)
    assert hit.distance.tolist() == [[1.25, torch.inf, 0.0, torch.inf]]
    assert (hit.slots >= 0).tolist() == [[True, False, True, False]]
    assert map_cast(map, start, toward, steps=3).slots[0, 0] == -1


def test_wrong_arguments_are_named():
    depth, pose, intr, features = view()
    map = voxel_map(2, 16, size=0.5)
    with pytest.raises(UsageError, match="power of two"):
        voxel_map(1, 12, size=0.5)
    with pytest.raises(ValueError, match="features of shape"):
        unproject_insert(depth, pose, intr, map, features=features)
    with pytest.raises(ValueError, match=r"pose \(2, 5\)"):
        unproject_insert(depth, pose[:, :4], intr, map)
    with pytest.raises(ValueError, match="at most 15 voxels"):
        map_query(map, torch.zeros(2, 1, 3), radius=9.0)
    with pytest.raises(ValueError, match="reset"):
        clear_map(map, torch.tensor([1, 0]))
    with pytest.raises(ValueError, match="0 < levels < 10"):
        map_parents(map, 10)
