import numpy as np
import pytest

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.check import problems
from embodied_mem.envs.house.generator import GeneratorConfig, generate
from embodied_mem.envs.house.sources import GeneratedHouses
from embodied_mem.errors import UsageError


def same(a, b):
    names = [name for name, value in vars(a).items() if isinstance(value, np.ndarray)]
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


@pytest.mark.parametrize("rooms", [1, 2, 4, 7, 10])
def test_houses_are_valid(rooms):
    for seed in range(4):
        config = GeneratorConfig(rooms=(rooms, rooms), boxes=10 * rooms + 6, containers=3)
        plan = generate(seed, config)
        assert plan.num_rooms == rooms
        assert plan.num_boxes <= config.boxes
        assert ((plan.box_flags & K.OPENABLE) != 0).sum() >= 3
        assert problems(plan) == []


def test_same_seed_same_house_and_other_seed_another():
    assert same(generate(5), generate(5))
    assert not same(generate(5), generate(6))


def test_boxes_do_not_overlap_on_the_floor():
    for seed in range(6):
        plan = generate(seed)
        standing = (plan.box_parent < 0) & ((plan.box_flags & (K.FLAT | K.TRAY)) == 0)
        corners = []
        for box in np.flatnonzero(standing):
            x, _, z, yaw = plan.box_pose[box]
            c, s = abs(np.cos(yaw)), abs(np.sin(yaw))
            w, _, d = plan.box_size[box] / 2
            corners.append((x - w * c - d * s, z - w * s - d * c, x + w * c + d * s, z + w * s + d * c))
        for k, a in enumerate(corners):
            for b in corners[k + 1 :]:
                assert min(a[2], b[2]) - max(a[0], b[0]) < 1e-3 or min(a[3], b[3]) - max(a[1], b[1]) < 1e-3


def test_objects_rest_on_their_receptacle():
    plan = generate(3, GeneratorConfig(clutter=1.0))
    lying = np.flatnonzero((plan.box_parent >= 0) & ~plan.box_inside)
    assert len(lying) > 3
    for box in lying:
        parent = plan.box_parent[box]
        assert plan.box_pose[box, 1] == pytest.approx(plan.box_pose[parent, 1] + plan.box_size[parent, 1], abs=1e-4)
        gap = np.hypot(*(plan.box_pose[box, [0, 2]] - plan.box_pose[parent, [0, 2]]))
        assert gap <= np.hypot(*plan.box_size[parent, [0, 2]]) / 2


def test_houses_differ_in_shape_and_furniture():
    plans = [generate(seed) for seed in range(12)]
    assert len({plan.bounds for plan in plans}) == 12
    assert len({tuple(sorted(plan.box_class.tolist())) for plan in plans}) == 12
    assert any((np.diff(plan.room_start) > 4).any() for plan in plans), "no room that is not a rectangle"


def test_closed_doors():
    plan = generate(1, GeneratorConfig(rooms=(6, 6), boxes=60, closed_doors=1.0))
    inner = plan.door_openable
    assert inner.any() and (plan.door_openness[inner] == 0).all()


def test_splits_are_disjoint():
    config = GeneratorConfig(rooms=(1, 2), boxes=14)
    train, test = (GeneratedHouses(config, split, 3) for split in ("train", "test"))
    for k in range(3):
        assert not same(train.plan(k), test.plan(k))
    assert same(train.plan(1), GeneratedHouses(config, "train", 2).plan(1))


@pytest.mark.parametrize(
    "kwargs", [dict(rooms=(0, 1)), dict(rooms=(3, 11)), dict(containers=30), dict(room_area=(3.0, 5.0))]
)
def test_impossible_configs_are_refused(kwargs):
    with pytest.raises(UsageError):
        GeneratorConfig(**kwargs)


def test_bad_sources_are_refused():
    with pytest.raises(UsageError, match="split"):
        GeneratedHouses(split="dev")
    with pytest.raises(UsageError, match="index"):
        GeneratedHouses(count=2).plan(2)
