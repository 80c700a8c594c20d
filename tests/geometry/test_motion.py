"""Plans over turns and moves: shortest, around walls, through gaps, with barred moves."""

import numpy as np
import pytest

from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.motion import LEFT, MOVE, RIGHT, MotionModel, bar, plan_motion, prepare


def room(rows=40, columns=40):
    return Grid(np.ones((rows, columns), bool), 0.1)


def at(grid, x, z):
    goal = np.zeros_like(grid.free)
    row, column = grid.cells_of(np.array([x, z]))
    goal[row, column] = True
    return goal


def walk(plan, pose, model):
    """Return the poses (L + 1, 3) of a plan."""
    poses = [np.array(pose, float)]
    for code in plan:
        x, z, yaw = poses[-1]
        if code == MOVE:
            poses.append(np.array([x + model.step * np.sin(yaw), z + model.step * np.cos(yaw), yaw]))
        else:
            poses.append(np.array([x, z, yaw + np.radians(model.turn) * (1 if code == RIGHT else -1)]))
    return np.array(poses)


def test_straight_ahead_and_turned():
    grid = room()
    ground = prepare(grid, at(grid, 1.05, 2.05))
    assert plan_motion(ground, np.array([1.05, 1.05, 0.0])).tolist() == [MOVE] * 4
    turned = plan_motion(ground, np.array([1.05, 1.05, np.pi / 2]), MotionModel(turn=90.0)).tolist()
    assert turned == [LEFT] + [MOVE] * 4


def test_nothing_to_do_at_the_goal_and_no_way_to_a_cut_off_one():
    grid = room()
    assert len(plan_motion(prepare(grid, at(grid, 1.0, 1.0)), np.array([1.0, 1.0, 0.3]))) == 0
    free = np.ones((40, 40), bool)
    free[:, 18:22] = False
    split = Grid(free, 0.1)
    assert plan_motion(prepare(split, at(split, 3.5, 1.0)), np.array([0.5, 1.0, 0.0])) is None


@pytest.mark.parametrize("seed", range(6))
def test_plans_are_short_free_and_arrive(seed):
    rng = np.random.default_rng(seed)
    free = np.ones((60, 60), bool)
    for _ in range(8):
        r, c = rng.integers(5, 50, 2)
        free[r : r + 8, c : c + 8] = False
    free[:4, :4] = free[-4:, -4:] = True
    grid = Grid(free, 0.1)
    model = MotionModel()
    ground = prepare(grid, at(grid, 5.75, 5.75))
    pose = np.array([0.2, 0.2, float(rng.uniform(0, 6.28))])
    plan = plan_motion(ground, pose, model)
    poses = walk(plan, pose, model)
    cells = grid.cells_of(poses[:, :2])
    assert free[cells[:, 0], cells[:, 1]].all() and ground.goal[tuple(cells[-1])]
    # A discrete heading errs by half a turn at most, and the last step by its length.
    best = float(ground.field[tuple(cells[0])])
    assert model.step * (plan == MOVE).sum() <= 1.12 * best + 0.3


def test_known_facts_about_moves_are_kept():
    grid = room()
    ground = prepare(grid, at(grid, 2.05, 3.05))
    pose = np.array([2.05, 1.05, 0.0])
    first = np.ones(12, bool)
    first[0] = False
    assert plan_motion(ground, pose, first=first)[0] != MOVE
    ahead = np.array([2.05, 1.30, 0.0])
    through = walk(plan_motion(ground, pose), pose, MotionModel())
    assert np.allclose(through[2], [2.05, 1.55, 0.0])
    barred = walk(plan_motion(ground, pose, barred=np.array([bar(grid, ahead)])), pose, MotionModel())
    assert not any(np.allclose(a, ahead) and np.allclose(b[:2], [2.05, 1.55]) for a, b in zip(barred, barred[1:]))


def test_where_nothing_else_works_blocked_borders_are_tried():
    free = np.zeros((40, 40), bool)
    free[2:38, 2:12] = free[2:38, 28:38] = True
    # A gap of one cell: steps of 0.25 m at an odd angle would hardly stay in it.
    free[20, 10:30] = True
    grid = Grid(free, 0.1)
    plan = plan_motion(prepare(grid, at(grid, 3.3, 2.0)), np.array([0.6, 2.3, 0.13]), MotionModel())
    assert plan is not None and 8 < (plan == MOVE).sum() < 20


def test_long_plans_are_cut():
    grid = room()
    assert len(plan_motion(prepare(grid, at(grid, 3.55, 3.55)), np.array([0.3, 0.3, 0.0]), limit=3)) == 3
