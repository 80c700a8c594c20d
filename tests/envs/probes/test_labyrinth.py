import numpy as np
import pytest

from embodied_mem.envs.make import make_vec

N = 400
FREE, WALL, START, GOAL = range(4)


@pytest.mark.parametrize(("difficulty", "cells"), [("easy", 5), ("medium", 7), ("hard", 9)])
def test_mazes_are_trees_of_all_cells_with_entrances_in_opposite_walls(difficulty, cells):
    env = make_vec("LabyrinthEscape-v0", N, difficulty=difficulty)
    env.reset(seed=0)
    grid = env.privileged()["labyrinth_grid"]
    size = 2 * cells + 1
    assert grid.shape == (N, size, size) and (grid[:, 1::2, 1::2] == FREE).all()
    # All cells are open; one opening less than cells, and the walks through them (oracle test) reach every one: a tree.
    assert ((grid == FREE).sum((1, 2)) == cells**2 + cells**2 - 1).all()
    assert (grid[:, 2:-1:2, 2:-1:2] == WALL).all()
    ((_, *start), (_, *goal)) = (np.nonzero(grid == kind) for kind in (START, GOAL))
    start, goal = np.stack(start, 1), np.stack(goal, 1)
    assert len(start) == len(goal) == N
    across = np.abs(start - goal) == size - 1
    assert across.any(axis=1).all()
    sides = [(start[:, axis] == edge).sum() for axis in (0, 1) for edge in (0, size - 1)]
    assert sum(sides) == N and min(sides) > N / 4 - 5 * np.sqrt(N * 3 / 16)


def test_walls_stop_and_the_last_action_shows():
    env = make_vec("LabyrinthExplore-v0", N, autoreset_mode="DISABLED")
    first, _ = env.reset(seed=0)
    assert (first[:, 9] == 4).all() and (first[:, :9] == START).sum() == N
    place, grid = env.privileged()["labyrinth_place"], env.privileged()["labyrinth_grid"]
    actions = np.arange(N) % 4
    observed, reward, *_ = env.step(actions)
    assert (observed[:, 9] == actions).all()
    target = np.clip(place + np.array([[0, -1], [0, 1], [-1, 0], [1, 0]])[actions], 0, 10)
    opened = grid[np.arange(N), target[:, 0], target[:, 1]] == FREE
    assert 0 < opened.sum() < N
    assert np.array_equal(env.privileged()["labyrinth_place"], np.where(opened[:, None], target, place))
    assert reward[opened] == pytest.approx(1 / 49) and reward[~opened] == pytest.approx(-1 / 1024)
