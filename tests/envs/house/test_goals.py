import numpy as np
import pytest

from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.goals import GoalFields
from embodied_mem.envs.house.library import PlanLibrary

from .conftest import two_rooms


def world_with(builder, n=1):
    world = HouseWorld(n, PlanLibrary())
    world.load(np.arange(n), np.full(n, world.library.add(builder.build())))
    return world


def test_distance_is_the_walk_through_the_door_plus_the_gap():
    builder, left, right = two_rooms()
    mug = builder.box("Mug", right, x=6.0, z=2.0, y=0.0)
    goals = GoalFields(world_with(builder), limit=1.0)
    field = goals.of(0, (mug,))
    assert field.at(2.0, 2.0) == pytest.approx(4.0 - 0.065, abs=0.12)
    assert field.at(6.0, 2.8) == pytest.approx(0.8 - 0.045, abs=0.08)


def test_near_but_behind_a_wall_is_not_reached():
    builder, left, right = two_rooms()
    mug = builder.box("Mug", right, x=4.4, z=0.5, y=0.0)
    field = GoalFields(world_with(builder), limit=1.0).of(0, (mug,))
    assert field.at(3.6, 0.5) > 1.5
    assert field.at(5.0, 0.5) < 1.0


def test_any_of_several_boxes_counts():
    builder, left, right = two_rooms()
    near = builder.box("Mug", left, x=1.0, z=1.0, y=0.0)
    far = builder.box("Mug", right, x=7.0, z=1.0, y=0.0)
    goals = GoalFields(world_with(builder), limit=1.0)
    both, one, two = goals.of(0, (near, far)), goals.of(0, (near,)), goals.of(0, (far,))
    for x, z in ((2.0, 2.0), (6.0, 2.0), (3.5, 3.5)):
        assert both.at(x, z) == pytest.approx(min(one.at(x, z), two.at(x, z)), abs=1e-5)


def test_shut_away_goal_is_not_reachable_and_fields_are_kept():
    builder, left, right = two_rooms()
    # A ring of furniture around the goal leaves no place to stand within reach.
    mug = builder.box("Mug", left, x=2.0, z=2.0, y=0.0)
    for x, z, width, depth in (
        (2.0, 1.25, 3.0, 1.2),
        (2.0, 2.75, 3.0, 1.2),
        (1.2, 2.0, 1.2, 1.0),
        (2.8, 2.0, 1.2, 1.0),
    ):
        builder.box("Sofa", left, x=x, z=z, size=(width, 1.0, depth))
    goals = GoalFields(world_with(builder), limit=0.3)
    field = goals.of(0, (mug,))
    assert not field.reachable and np.isinf(field.at(0.4, 0.4))
    assert goals.of(0, (mug,)) is field


def test_rows_follow_their_own_goals():
    builder, left, right = two_rooms()
    here = builder.box("Mug", left, x=1.0, z=1.0, y=0.0)
    there = builder.box("Bowl", right, x=7.0, z=3.0, y=0.0)
    world = world_with(builder, 2)
    world.place(np.arange(2), np.array([2.0, 2.0]), np.array([2.0, 2.0]), np.zeros(2))
    goals = GoalFields(world, limit=1.0)
    goals.assign(0, goals.of(0, (here,)))
    goals.assign(1, goals.of(0, (there,)))
    distance = goals.update(np.arange(2)).copy()
    assert distance[0] < 2.0 < 4.5 < distance[1]
    before = goals.version.copy()
    goals.assign(0, goals.of(0, (there,)))
    assert goals.update(np.array([0]))[0] == pytest.approx(distance[1])
    assert (goals.version - before).tolist() == [1, 0]


def test_nearest_stand_is_beside_the_goal():
    builder, left, right = two_rooms()
    sofa = builder.box("Sofa", left, x=2.0, z=3.4)
    field = GoalFields(world_with(builder), limit=1.0).of(0, (sofa,))
    x, z = field.nearest_stand()
    assert field.at(x, z) < 0.35
