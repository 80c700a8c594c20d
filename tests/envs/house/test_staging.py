import numpy as np
import pytest

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.colours import colour_codes
from embodied_mem.envs.house.generator import GeneratorConfig, generate
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.tasks.staging import BareRooms, stage


def rooms(seed):
    return BareRooms("t", "train", 5, (3.6, 4.2)).plan(seed)


@pytest.mark.parametrize("seed", range(4))
def test_one_container_per_wall_of_a_bare_room(seed):
    staged = stage(rooms(seed), np.random.default_rng(seed), 4, looks=4, one_per_wall=True)
    plan = staged.plan
    x0, z0, x1, z1 = plan.bounds
    walls = set()
    for box in staged.containers:
        x, _, z, yaw = plan.box_pose[box]
        gaps = [x - x0, x1 - x, z - z0, z1 - z]
        walls.add(int(np.argmin(gaps)))
        # Its front looks away from the wall.
        ahead = np.array([x + 0.3 * np.sin(yaw), z + 0.3 * np.cos(yaw)])
        assert min(ahead[0] - x0, x1 - ahead[0], ahead[1] - z0, z1 - ahead[1]) > min(gaps)
    assert walls == {0, 1, 2, 3}


@pytest.mark.parametrize("seed", range(4))
def test_containers_in_a_furnished_house_differ_and_leave_the_floor_connected(seed):
    house = generate(seed, GeneratorConfig(rooms=(2, 3), boxes=24))
    staged = stage(house, np.random.default_rng(seed), 6, thin=4)
    plan, boxes = staged.plan, staged.containers
    assert len(set(plan.box_class[boxes])) == 6
    assert len(set(colour_codes(plan.box_rgb[boxes]))) == 6
    assert set(np.flatnonzero(plan.box_flags & K.OPENABLE)) == set(boxes)
    assert not plan.door_openable.any() and (plan.door_openness == 1).all()
    assert plan.box_parent[staged.item] == boxes[0] and plan.box_inside[staged.item]
    kept = {tuple(pose) for pose in plan.box_pose[: staged.containers[0]]}
    assert kept < {tuple(pose) for pose in house.box_pose}


@pytest.mark.parametrize("thin", [3, 1000])
def test_thinning_takes_furniture_with_what_lies_on_it(thin):
    house = generate(3, GeneratorConfig(rooms=(2, 2), boxes=30))
    plan = stage(house, np.random.default_rng(0), 2, thin=thin).plan
    own = plan.box_class[:-5]
    parents = plan.box_parent[: len(own)]
    assert len(own) < house.num_boxes and (parents < len(own)).all()
    if thin == 1000:
        assert not (parents >= 0).any()


def test_one_room_of_a_house_is_cleared():
    house = generate(3, GeneratorConfig(rooms=(3, 3), boxes=40))
    staged = stage(house, np.random.default_rng(0), 3, room=1)
    assert (staged.plan.box_room[staged.containers] == 1).all()
    others = staged.plan.box_room[: staged.containers[0]]
    assert (others != 1).all() and len(others) == (house.box_room != 1).sum()


def test_containers_overlap_nothing():
    house = generate(7, GeneratorConfig(rooms=(3, 3), boxes=40))
    staged = stage(house, np.random.default_rng(0), 6, clutter=3, thin=4)
    plan = staged.plan
    solid = [
        box
        for box in range(plan.num_boxes)
        if plan.box_parent[box] < 0 and not plan.box_flags[box] & K.FLAT and plan.box_pose[box, 1] < 1.0
    ]

    def bounds(box):
        (x, _, z, yaw), (w, _, d) = plan.box_pose[box], plan.box_size[box]
        half = 0.5 * np.array(
            [abs(np.cos(yaw)) * w + abs(np.sin(yaw)) * d, abs(np.sin(yaw)) * w + abs(np.cos(yaw)) * d]
        )
        return np.array([x, z]) - half, np.array([x, z]) + half

    for box in staged.containers:
        low, high = bounds(box)
        for other in solid:
            if other != box:
                other_low, other_high = bounds(other)
                assert not ((low < other_high - 1e-3) & (other_low < high - 1e-3)).all(), (box, other)


def test_no_room_gives_none_and_equal_seeds_give_equal_plans():
    assert stage(rooms(0), np.random.default_rng(0), 10) is None
    first, second = (stage(rooms(1), np.random.default_rng(5), 4) for _ in range(2))
    np.testing.assert_array_equal(first.plan.box_pose, second.plan.box_pose)
    np.testing.assert_array_equal(first.plan.box_rgb, second.plan.box_rgb)


def test_item_appears_when_its_container_opens():
    staged = stage(rooms(2), np.random.default_rng(2), 4)
    world = HouseWorld(1, PlanLibrary())
    world.load(np.array([0]), np.array([world.library.add(staged.plan)]))
    assert world.arrays.box_shown[0, staged.item] == 0
    world.set_open(0, int(staged.containers[0]), True)
    assert world.arrays.box_shown[0, staged.item] == 1


def test_bare_rooms_of_the_splits_differ():
    train, test = (BareRooms("t", split, 20, (3.0, 6.0)) for split in ("train", "test"))
    shapes = {source.plan(index).bounds for source in (train, test) for index in range(20)}
    assert len(shapes) == 40
