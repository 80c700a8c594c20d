import math

import numpy as np
import pytest

from embodied_mem.envs.house.arrays import Action
from embodied_mem.envs.house.batch import HouseWorld, WorldConfig
from embodied_mem.envs.house.builder import PlanBuilder
from embodied_mem.envs.house.generator import generate
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.physics import clearance, in_room
from embodied_mem.errors import UsageError

from .conftest import furnished, put_agent, two_rooms, world_of


def play(world, *actions):
    """Play actions in row 0 and return the successes."""
    return [bool(world.act(np.full(world.num_envs, int(action)))[0]) for action in actions]


def test_steps_turns_and_looks():
    world = world_of(two_rooms()[0].build())
    put_agent(world, 2.0, 1.0, 90.0)
    assert play(world, Action.MoveAhead) == [True]
    assert np.allclose(world.arrays.position[0], [2.25, 1.0])
    assert all(play(world, Action.RotateLeft, Action.RotateLeft, Action.RotateLeft, Action.MoveAhead))
    assert np.allclose(world.arrays.position[0], [2.25, 1.25])
    assert play(world, Action.LookDown, Action.LookDown, Action.LookDown) == [True, True, False]
    assert play(world, Action.LookUp, Action.LookUp, Action.LookUp, Action.LookUp) == [True, True, True, False]
    assert world.arrays.horizon[0] == -30.0
    twelve = play(world, *[Action.RotateRight] * 12)
    assert all(twelve) and world.arrays.yaw[0] == 0.0


def test_walls_stop_the_agent_at_its_radius():
    world = world_of(two_rooms()[0].build())
    put_agent(world, 2.0, 2.0, 0.0)
    done = play(world, *[Action.MoveAhead] * 12)
    assert done == [True] * 7 + [False] * 5
    assert world.arrays.position[0, 1] == pytest.approx(3.75)


def test_sliding_keeps_the_part_along_the_wall():
    world = world_of(two_rooms()[0].build(), sliding=True)
    put_agent(world, 1.0, 3.75, 60.0)
    assert play(world, Action.MoveAhead) == [True]
    assert np.allclose(world.arrays.position[0], [1.0 + 0.25 * math.sin(math.radians(60)), 3.75])


def test_door_lets_through_only_when_open():
    for openness, reached in ((1.0, True), (0.0, False), (0.2, False)):
        world = world_of(two_rooms(openness)[0].build())
        put_agent(world, 3.0, 2.0, 90.0)
        play(world, *[Action.MoveAhead] * 8)
        assert (world.arrays.position[0, 0] > 4.5) == reached
        assert world.arrays.room[0] == int(reached)


def test_furniture_blocks_and_flat_or_small_things_do_not():
    plan, _ = furnished()
    world = world_of(plan)
    put_agent(world, 2.0, 2.0, 270.0)
    play(world, *[Action.MoveAhead] * 8)
    assert world.arrays.position[0, 0] == pytest.approx(1.0)
    put_agent(world, 2.0, 1.75, 180.0)
    assert all(play(world, *[Action.MoveAhead] * 4))


def test_an_agent_set_too_near_a_wall_can_leave_but_not_come_nearer():
    world = world_of(two_rooms()[0].build())
    put_agent(world, 2.0, 0.05, 180.0)
    assert play(world, Action.MoveAhead) == [False]
    put_agent(world, 2.0, 0.05, 0.0)
    assert play(world, Action.MoveAhead) == [True]


def test_random_walks_never_enter_walls_or_furniture():
    library, n = PlanLibrary(), 8
    plans = np.array([library.add(generate(seed)) for seed in range(n)])
    world = HouseWorld(n, library)
    world.load(np.arange(n), plans)
    for row in range(n):
        x, z = world.free_positions(plans[row])[5]
        put_agent(world, x, z, 30.0 * row, row=row)
    draw = np.random.default_rng(0)
    moved = 0
    for _ in range(400):
        moved += int(world.act(draw.choice([0, 0, 1, 2], n)).sum())
        for row in range(n):
            x, z = world.arrays.position[row]
            gap = clearance(world.plans, world.arrays, row, x, z, x, z, 0.3)[0]
            assert gap >= world.config.radius - 1e-9
            assert in_room(world.plans, world.arrays.room[row], x, z)
    assert moved > 400


def test_inactive_rows_stay():
    world = world_of(two_rooms()[0].build(), n=2)
    for row in range(2):
        put_agent(world, 2.0, 2.0, 0.0, row=row)
    world.act(np.zeros(2, np.int64), np.array([True, False]))
    assert world.arrays.position[:, 1].tolist() == [2.25, 2.0]


def test_rows_are_independent_of_their_number():
    plan = generate(4)
    draw = np.random.default_rng(1)
    actions = draw.integers(0, 9, (60, 3))
    traces = []
    for n in (1, 3):
        world = world_of(plan, n=n)
        for row in range(n):
            x, z = world.free_positions(0)[3]
            put_agent(world, x, z, 60.0, row=row)
        trace = []
        for step in actions:
            world.act(step[:1].repeat(n) if n == 3 else step[:1])
            trace.append((*world.arrays.position[0], world.arrays.yaw[0], world.arrays.held[0]))
        traces.append(trace)
    assert traces[0] == traces[1]


def test_loading_a_house_resets_everything():
    plan, boxes = furnished()
    world = world_of(plan)
    before = [array.copy() for array in world.arrays]
    world.set_open(0, boxes["cabinet"], True)
    world.set_door(0, 0, 0.0)
    world.teleport(0, boxes["mug"], (1.0, 0.0, 1.0, 0.0))
    world.load(np.array([0]), np.array([0]))
    for old, new in zip(before, world.arrays):
        assert np.array_equal(old, new)


def test_larger_houses_may_come_later():
    small, _ = furnished()
    world = world_of(small, n=2)
    put_agent(world, 2.0, 2.0, 0.0, row=1)
    large = world.library.add(generate(0))
    world.load(np.array([0]), np.array([large]))
    assert world.plan(0).num_boxes > small.num_boxes
    assert world.arrays.position[1].tolist() == [2.0, 2.0] and world.plan(1) is small


def test_free_positions_are_free_and_in_one_piece():
    world = world_of(generate(2))
    spots = world.free_positions(0)
    grid = world.free_grid(0)
    cells = grid.cells_of(spots)
    assert grid.free[cells[:, 0], cells[:, 1]].all() and len(spots) > 50


@pytest.mark.parametrize("kwargs", [dict(hfov=170.0), dict(width=0), dict(radius=0.0)])
def test_impossible_configs_are_refused(kwargs):
    with pytest.raises(UsageError):
        WorldConfig(**kwargs)


def test_no_rows_are_refused():
    with pytest.raises(UsageError):
        HouseWorld(0, PlanLibrary())


def test_a_house_without_floor_is_an_error():
    builder = PlanBuilder("closet")
    builder.room("Hallway", [(0, 0), (0, 0.3), (0.3, 0.3), (0.3, 0)])
    world = world_of(builder.build())
    with pytest.raises(UsageError, match="no floor"):
        world.free_positions(0)


def test_description_is_json():
    import json

    plan, boxes = furnished()
    world = world_of(plan)
    put_agent(world, 2.0, 2.0, 30.0)
    facts = json.loads(json.dumps(world.describe(0)))
    assert [room["type"] for room in facts["rooms"]] == ["Kitchen", "Bedroom"]
    assert facts["boxes"][boxes["apple"]]["parent"] == boxes["cabinet"]
    assert facts["agent"]["position"] == [2.0, 2.0] and len(facts["doors"]) == 1
