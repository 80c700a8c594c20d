"""The grid map marks free, occupied and unknown as by hand, shows the world turned to the heading, finds frontiers."""

import numpy as np
import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryInput, make_memory
from embodied_mem.memory.spatial.frontiers import frontier_cells, frontier_groups, occupancy, to_grid
from embodied_mem.memory.spatial.grid_cells import ego_cells, flat_cells


def build(**config):
    torch.manual_seed(0)
    return make_memory("grid_map", **{"in_dim": 3, "out_dim": 4, "size": 9, "cell": 1.0, "channels": 3, **config})


def look(depth, yaw=0.0, place=(0.0, 0.0)):
    """One pixel straight ahead."""
    pose = torch.tensor([[[place[0], 0.0, place[1], yaw, 0.0]]])
    return MemoryInput(
        torch.ones(1, 1, 3),
        depth=torch.full((1, 1, 1, 1), depth),
        pose=pose,
        intrinsics=torch.tensor([[[1.0, 1.0, 0.5, 0.5]]]),
    )


def test_rays_carve_free_space_up_to_the_hit():
    memory = build(rows=1, columns=1)
    _, state = memory.sequence(look(3.0))
    found = occupancy(state["odds"])[0]
    want = torch.zeros(9, 9, dtype=torch.int64)
    want[4:7, 4], want[7, 4] = -1, 1
    assert torch.equal(found, want)
    assert state["hits"].view(9, 9).nonzero().tolist() == [[7, 4]]
    # to the right: yaw is clockwise from +z
    _, state = memory.sequence(look(2.0, yaw=np.pi / 2), state)
    assert occupancy(state["odds"])[0, 4].tolist() == [0, 0, 0, 0, -1, -1, 1, 0, 0]


def test_missing_depth_leaves_everything_unknown_and_log_odds_are_bounded():
    memory = build(rows=1, columns=1, limit=2.0)
    _, state = memory.sequence(look(float("inf")))
    assert not state["odds"].any()
    for _ in range(8):
        _, state = memory.sequence(look(3.0), state)
    assert float(state["odds"].max()) == 2.0 and float(state["odds"].min()) == -2.0


def test_only_points_between_low_and_high_are_obstacles():
    memory = build(rows=1, columns=1, low=0.5, high=1.0)
    _, state = memory.sequence(look(3.0))
    # the way there is free, the last of it in the point's own cell
    assert occupancy(state["odds"])[0, 4:8, 4].tolist() == [-1, -1, -1, -1]
    assert not state["hits"].any()


def test_the_view_turns_with_the_heading():
    world = torch.arange(81)
    pose = torch.tensor([[0.0, 0, 0, 0, 0], [0, 0, 0, np.pi / 2, 0], [3.0, 0, 0, 0, 0]], dtype=torch.float64)
    cells, visible = ego_cells(pose, 1.0, 9, 3)
    grid = world.view(9, 9)
    # ahead is +z, a later row of the map
    assert torch.equal(world[cells[0]].view(3, 3), grid[3:6, 3:6].flip(0))
    # facing +x: ahead is a later column, right is -z
    assert torch.equal(world[cells[1]].view(3, 3), grid[3:6, 3:6].T.flip(0).flip(1))
    assert visible[:2].all() and visible[2].all()
    assert ego_cells(pose + 4, 1.0, 9, 3)[1].sum(1).tolist()[2] < 9


def test_cells_outside_are_said():
    _, inside = flat_cells(torch.tensor([[4.4, 0], [4.6, 0], [0, -4.6], [float("nan"), 0]]).double(), 1.0, 9)
    assert inside.tolist() == [True, False, False, False]


def test_what_was_written_is_read_back_from_behind_and_after_a_reset_it_is_not():
    memory = build(source="pose", view=3)
    inputs = look(1.0)
    here = inputs._replace(x=torch.zeros(1, 1, 3))
    fresh, _ = memory.sequence(here)
    _, state = memory.sequence(inputs)
    kept, _ = memory.sequence(here, state)
    cleared, _ = memory.sequence(here, state, torch.ones(1, 1, dtype=torch.bool))
    assert not torch.allclose(kept, fresh) and torch.equal(cleared, fresh)


def test_frontiers_are_free_cells_beside_the_unknown():
    state = torch.full((1, 5, 5), 1)
    state[0, 1:4, 1:4] = -1
    state[0, 2, 4] = 0
    state[0, 0, 1] = 0
    found = frontier_cells(state)
    assert found[0].nonzero().tolist() == [[1, 1], [2, 3]]
    groups = frontier_groups(found[0].numpy())
    assert sorted(group.tolist() for group in groups) == [[[1, 1]], [[2, 3]]]
    assert frontier_groups(found[0].numpy(), least=2) == []
    grid = to_grid(state[0], 0.5)
    assert grid.free.sum() == 9 and grid.cells_of(np.zeros(2)).tolist() == [2, 2]
    assert grid.centres_of(np.array([2, 3])).tolist() == [0.5, 0.0]
    with pytest.raises(UsageError, match="R \\* R"):
        occupancy(torch.zeros(1, 10))


def test_even_views_are_refused():
    with pytest.raises(UsageError, match="odd view"):
        build(view=4)
