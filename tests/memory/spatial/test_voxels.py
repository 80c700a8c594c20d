"""The voxel map holds what a dictionary would; queries equal brute force; the unbounded map shares the rules."""

import math

import pytest
import torch

from embodied_mem import kernels
from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryInput, make_memory
from embodied_mem.memory.spatial import morton, slots
from embodied_mem.memory.spatial import voxel_queries as queries
from embodied_mem.memory.spatial.octree import Octree
from embodied_mem.memory.spatial.seen import SeenConfig, seen_points, sparse_depth
from embodied_mem.perception.unproject import points_from_depth


def build(**config):
    torch.manual_seed(0)
    return make_memory("voxel_map", **{"in_dim": 3, "out_dim": 4, "value_dim": 3, **config})


def identity(memory):
    """Make a cell's value the features themselves."""
    with torch.no_grad():
        memory.value.weight.copy_(torch.eye(3))
        memory.value.bias.zero_()
        memory.where.weight.zero_()
    return memory


def row(memory, state, number=0):
    config = memory.config
    return queries.voxels_of(state["cells"][number], state["token"][number], config.cell, config.depth)


def visits(places, steps, seed=0):
    """A walk over a few places with other features at every step."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randint(len(places), (1, steps), generator=generator)
    pose = torch.cat([places[order], torch.zeros(1, steps, 2)], -1)
    return MemoryInput(torch.randn(1, steps, 3, generator=generator), pose=pose), order[0]


def test_mean_update_keeps_the_mean_of_what_each_cell_saw():
    memory = identity(build(source="pose", update="mean", slots=16))
    places = torch.randint(-8, 8, (9, 3), generator=torch.Generator().manual_seed(1)) * 0.5
    inputs, order = visits(places, 60)
    _, state = memory.sequence(inputs)
    held = row(memory, state)
    for place in order.unique():
        token, found = queries.exact(held, places[place].unsqueeze(0))
        same = (places[order] == places[place]).all(1)
        assert found.all() and torch.allclose(token[0], inputs.x[0, same].mean(0), atol=1e-5)
    assert int(held.seen.sum()) == 60


def test_the_cells_seen_longest_ago_give_way():
    memory = identity(build(source="pose", update="mean", slots=3))
    places = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    order = [0, 1, 2, 0, 3]
    pose = torch.cat([places[order], torch.zeros(5, 2)], -1).unsqueeze(0)
    _, state = memory.sequence(MemoryInput(torch.randn(1, 5, 3), pose=pose))
    _, found = queries.exact(row(memory, state), places)
    assert found.tolist() == [True, False, True, True]
    assert memory.ages(state)["token"].sort().values.tolist() == [[0, 1, 2]]


def test_points_of_one_step_in_one_cell_are_averaged_and_far_ones_left_out():
    memory = identity(build(slots=16, rows=2, columns=2, cell=4.0, max_depth=3.0, update="mean"))
    depth = torch.tensor([[[[1.0, 1.0], [1.0, 9.0]]]])
    inputs = MemoryInput(
        torch.ones(1, 1, 3), depth=depth, pose=torch.zeros(1, 1, 5), intrinsics=torch.tensor([[[1.0, 1, 1, 1]]])
    )
    _, state = memory.sequence(inputs)
    held = row(memory, state)
    assert len(held.codes) == 1 and held.seen.tolist() == [1] and torch.allclose(held.tokens, torch.ones(1, 3))


def training_step(backend="auto"):
    memory = build(rows=8, columns=8, slots=96, cell=0.4, token_dim=2)
    inputs = memory.sample_input(memory.config, 3, 5, torch.Generator().manual_seed(2))
    resets = torch.zeros(3, 5, dtype=torch.bool)
    resets[1, 3] = True
    with kernels.use_backend(backend):
        y, state = memory.sequence(inputs, None, resets)
        y.square().mean().backward()
        after, _ = memory.step(MemoryInput(*(None if z is None else z[:, 0] for z in inputs)), state)
    grads = torch.cat([parameter.grad.flatten() for parameter in memory.parameters()])
    order = state["cells"][..., 0].argsort(1)
    held = state["token"].gather(1, order.unsqueeze(-1).expand_as(state["token"]))
    return y.detach(), state["cells"][..., 0].sort(1).values, held.detach(), after.detach(), grads


@pytest.mark.parametrize("how", ["auto", "reference", "operators"])
def test_many_points_are_merged_by_the_voxel_operations_with_the_same_result(how, monkeypatch):
    monkeypatch.setattr(slots, "PAIRS", 10**6)
    kernels.reset_stats()
    wanted = training_step()
    assert not kernels.stats()
    monkeypatch.setattr(slots, "PAIRS", 0)
    if how == "operators":
        for op in ("unproject_insert", "map_query"):
            monkeypatch.setattr(f"embodied_mem.kernels.ops.{op}.inline", lambda *_, **__: False)
    found = training_step("reference" if how == "reference" else "auto")
    assert {"map_insert", "map_find"} <= set(kernels.stats())
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_sparse_view_of_the_depth_unprojects_to_the_same_points():
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(2, 9, 12, generator=generator) + 1
    intrinsics, pose = torch.tensor([[7.0, 8, 6.2, 4.1]]).expand(2, 4), torch.randn(2, 5, generator=generator)
    whole, _ = points_from_depth(depth.double(), intrinsics.double(), pose.double())
    seen = seen_points(MemoryInput(torch.zeros(2, 3), None, depth, pose, intrinsics), SeenConfig(rows=3, columns=4))
    want = whole.unflatten(1, (9, 12))[:, 1::3, 1::3][:, :3, :4].flatten(1, 2)
    assert torch.allclose(seen.world, want, atol=1e-12)
    with pytest.raises(UsageError, match="at least 10 x 4 pixels, got 9 x 12"):
        sparse_depth(depth, intrinsics, 10, 4)


def random_voxels(count=200):
    generator = torch.Generator().manual_seed(3)
    octree = Octree(4, cell=0.5, depth=6)
    octree.insert(torch.rand(count, 3, generator=generator) * 8 - 4, torch.randn(count, 4, generator=generator))
    return octree.voxels


def test_queries_equal_brute_force():
    held = random_voxels()
    by_cell = {tuple(cell): n for n, cell in enumerate(morton.decode(held.codes).tolist())}
    points = torch.rand(40, 3, generator=torch.Generator().manual_seed(4)) * 8 - 4
    cells, _ = morton.cells_of(points, held.cell, held.depth)
    tokens, found = queries.exact(held, points)
    around, present = queries.neighbourhood(held, points)
    near = queries.radius(held, points, 1.3)
    for q, cell in enumerate(cells.tolist()):
        index = by_cell.get(tuple(cell))
        assert bool(found[q]) == (index is not None)
        assert torch.equal(tokens[q], torch.zeros(4) if index is None else held.tokens[index])
        steps = [(x, y, z) for x in (-1, 0, 1) for y in (-1, 0, 1) for z in (-1, 0, 1)]
        want = [by_cell.get(tuple(a + b for a, b in zip(cell, step))) for step in steps]
        assert present[q].tolist() == [index is not None for index in want]
        assert all(torch.equal(around[q, k], held.tokens[i]) for k, i in enumerate(want) if i is not None)
        want = [math.dist(points[q].tolist(), centre) <= 1.3 for centre in held.centres().tolist()]
        assert near[q].tolist() == want


def test_a_ray_meets_the_first_voxel_on_its_way():
    held = random_voxels(400)
    generator = torch.Generator().manual_seed(5)
    origins, directions = torch.rand(30, 3, generator=generator) * 6 - 3, torch.randn(30, 3, generator=generator)
    directions[0] = torch.tensor([1.0, 0, 0])
    index, metres = queries.ray(held, origins, directions, 6.0)
    unit = directions.double() / directions.double().norm(dim=1, keepdim=True)
    low, high = held.centres() - held.cell / 2, held.centres() + held.cell / 2
    hits = 0
    for q in range(30):
        # slab test against every voxel
        a, b = (low - origins[q]) / unit[q], (high - origins[q]) / unit[q]
        enter, leave = torch.minimum(a, b).amax(1), torch.maximum(a, b).amin(1)
        inside = (origins[q] >= low).logical_and(origins[q] <= high)
        missed = (unit[q] == 0).logical_and(~inside).any(1)
        meets = (leave > enter.clamp(min=0)) & (enter <= 6.0) & ~missed
        if not meets.any():
            assert int(index[q]) == -1 and math.isinf(float(metres[q]))
            continue
        first = torch.where(meets, enter.clamp(min=0), torch.inf).argmin()
        assert int(index[q]) == int(first) and math.isclose(
            float(metres[q]), float(enter[first].clamp(min=0)), abs_tol=1e-9
        )
        hits += 1
    assert hits >= 5


def test_parents_hold_the_weighted_mean_of_what_is_below():
    held = random_voxels()
    above = queries.aggregate(held, 2)
    assert (above.cell, above.depth) == (2.0, 4) and int(above.seen.sum()) == int(held.seen.sum())
    for n, code in enumerate(above.codes.tolist()):
        below = held.codes >> 6 == code
        weight = held.seen[below].float().unsqueeze(1)
        assert torch.allclose(above.tokens[n], (held.tokens[below] * weight).sum(0) / weight.sum(), atol=1e-5)


def test_the_unbounded_map_keeps_means_and_slices_nodes():
    octree = Octree(2, cell=1.0, depth=8)
    assert queries.exact(octree.voxels, torch.zeros(1, 3))[1].tolist() == [False]
    for value in (1.0, 2.0, 6.0):
        assert octree.insert(torch.tensor([[3.0, 0, 1], [1e6, 0, 0]]), torch.full((2, 2), value)) == 1
    assert len(octree) == 1 and octree.version == 3
    assert torch.allclose(octree.voxels.tokens, torch.full((1, 2), 3.0))
    octree.insert(torch.tensor([[-90.0, 0, 1]]), torch.ones(1, 2))
    node = int(morton.parent(octree.voxels.codes[-1], 3))
    assert len(octree.below(node, 3).codes) == 1 and octree.nbytes() == 2 * (8 + 8 + 8)
    with pytest.raises(UsageError, match="expected points"):
        octree.insert(torch.zeros(2, 2), torch.zeros(2, 2))


def test_a_map_stays_under_its_byte_limit_and_bad_sizes_are_refused():
    for name in ("voxel_map", "grid_map"):
        memory = make_memory(name, in_dim=128, out_dim=128)
        packed = memory.pack(memory.initial_state(1))
        assert sum(value.numel() * value.element_size() for value in packed.values()) <= 256 * 1024
    with pytest.raises(UsageError, match="slots >= 16, the points of a step, got 9"):
        build(slots=9)
    with pytest.raises(UsageError, match="tokens"):
        memory = build(token_dim=2)
        inputs = memory.sample_input(memory.config, 1, 2, torch.Generator().manual_seed(0))
        memory.sequence(inputs._replace(tokens=inputs.tokens[:, :, :5]))
