import numpy as np
import pytest

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.arrays import Action
from embodied_mem.envs.house.sensors import SensorConfig, Sensors
from embodied_mem.errors import UsageError

from .conftest import furnished, put_agent, two_rooms, world_of


def play(world, action):
    return bool(world.act(np.full(world.num_envs, int(action)))[0])


@pytest.fixture
def kitchen():
    """The furnished house; the agent stands in front of the closed cabinet."""
    plan, boxes = furnished()
    world = world_of(plan)
    put_agent(world, 1.6, 2.0, 270.0)
    return world, plan, boxes


def test_fetch_from_a_container_and_lay_on_the_table(kitchen):
    world, plan, boxes = kitchen
    state = world.arrays
    assert not play(world, Action.PickupObject), "the cabinet is closed"
    assert play(world, Action.OpenObject)
    assert state.target[0] == plan.box_instance[boxes["cabinet"]]
    assert play(world, Action.PickupObject)
    assert state.held[0] == boxes["apple"] and not state.box_shown[0, boxes["apple"]]
    assert not play(world, Action.PickupObject), "the hand is full"
    put_agent(world, 5.0, 2.0, 90.0)
    assert play(world, Action.PutObject)
    assert state.held[0] == -1 and state.box_parent[0, boxes["apple"]] == boxes["table"]
    top = plan.box_size[boxes["table"], 1]
    assert state.box_pose[0, boxes["apple"], 1] == pytest.approx(top)
    assert state.box_room[0, boxes["apple"]] == 1
    assert not play(world, Action.PutObject), "nothing in the hand"


def test_open_twice_and_close(kitchen):
    world, plan, boxes = kitchen
    tray = plan.trays()[boxes["cabinet"]]
    assert play(world, Action.OpenObject) and world.arrays.box_shown[0, tray]
    assert not play(world, Action.OpenObject)
    assert play(world, Action.CloseObject) and not world.arrays.box_shown[0, tray]
    assert not play(world, Action.CloseObject)


def test_put_into_a_closed_container_fails_and_into_an_open_one_hides(kitchen):
    world, _, boxes = kitchen
    play(world, Action.OpenObject)
    play(world, Action.PickupObject)
    play(world, Action.CloseObject)
    assert not play(world, Action.PutObject)
    play(world, Action.OpenObject)
    assert play(world, Action.PutObject)
    assert world.arrays.box_inside[0, boxes["apple"]]
    play(world, Action.CloseObject)
    assert not world.arrays.box_shown[0, boxes["apple"]]


@pytest.mark.parametrize("x, z, yaw", [(3.0, 2.0, 270.0), (1.6, 2.0, 90.0), (6.0, 0.8, 270.0)])
def test_out_of_reach_out_of_view_or_behind_a_wall(x, z, yaw):
    plan, boxes = furnished()
    world = world_of(plan)
    put_agent(world, x, z, yaw)
    play(world, Action.OpenObject)
    assert not world.arrays.box_open[0, boxes["cabinet"]]


def test_doors_open_and_close_but_not_onto_the_agent():
    world = world_of(two_rooms(openness=0.0)[0].build())
    put_agent(world, 3.0, 2.0, 90.0)
    assert play(world, Action.OpenObject) and world.arrays.door_openness[0, 0] == 1.0
    assert world.arrays.target[0] == 4
    assert play(world, Action.CloseObject) and world.arrays.door_openness[0, 0] == 0.0
    play(world, Action.OpenObject)
    put_agent(world, 3.95, 2.0, 90.0)
    assert not play(world, Action.CloseObject)


def test_things_put_down_do_not_overlap():
    plan, boxes = furnished()
    world = world_of(plan)
    assert world.put(0, boxes["apple"], boxes["table"])
    gap = np.abs(world.arrays.box_pose[0, boxes["apple"], [0, 2]] - world.arrays.box_pose[0, boxes["mug"], [0, 2]])
    assert np.hypot(*gap) > 0.08


def test_what_carries_something_cannot_be_picked_up(kitchen):
    world, _, boxes = kitchen
    world.put(0, boxes["mug"], boxes["cabinet"])
    play(world, Action.OpenObject)
    assert world.arrays.box_inside[0, boxes["mug"]]
    assert not play(world, Action.PutObject)


def test_visible_agrees_with_what_the_camera_draws(varied_world):
    ids = Sensors(varied_world, SensorConfig(("semantic",))).observe()["semantic"]
    wrong = total = 0
    for row in range(varied_world.num_envs):
        plan = varied_world.plan(row)
        boxes = np.flatnonzero((plan.box_flags & (K.TRAY | K.OPENABLE)) == 0)
        seen = varied_world.visible(np.full(len(boxes), row), boxes)
        pixels = np.array([(ids[row] == plan.box_instance[box]).sum() for box in boxes])
        wrong += int((seen & (pixels == 0)).sum() + (~seen & (pixels > 12)).sum())
        total += int(seen.sum())
    assert total > 20 and wrong <= 0.12 * total


def test_nearest_visible_and_gap():
    plan, boxes = furnished()
    world = world_of(plan)
    put_agent(world, 4.6, 2.0, 90.0)
    row = np.array([0])
    assert world.nearest_visible(row, np.array([K.class_id("Mug")]))[0] == boxes["mug"]
    assert world.nearest_visible(row, np.array([K.class_id("Mug")]), limit=0.5)[0] == -1
    assert world.nearest_visible(row, np.array([K.class_id("Apple")]))[0] == -1
    assert world.gap(row, np.array([boxes["mug"]]))[0] == pytest.approx(
        1.4 - plan.box_size[boxes["mug"], 0] / 2, abs=0.02
    )
    assert not world.visible(row, np.array([-1]))[0]


def test_a_table_cannot_be_opened():
    plan, boxes = furnished()
    with pytest.raises(UsageError, match="cannot be opened"):
        world_of(plan).set_open(0, boxes["table"], True)
