import dataclasses

import numpy as np
import pytest

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.builder import TRAY_REACH, PlanBuilder
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.errors import UsageError

from .conftest import furnished, two_rooms


def test_plan_is_read_only():
    plan, _ = furnished()
    with pytest.raises(ValueError):
        plan.box_pose[0, 0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.height = 3.0


def test_tray_shares_the_instance_of_its_container_and_stands_out_in_front():
    plan, boxes = furnished()
    tray = plan.trays()[boxes["cabinet"]]
    assert plan.box_instance[tray] == plan.box_instance[boxes["cabinet"]]
    assert plan.box_pose[tray, 0] == pytest.approx(0.35 + 0.25 + TRAY_REACH / 2, abs=1e-5)
    assert plan.box_pose[tray, 2] == pytest.approx(2.0, abs=1e-5)


def test_instances_map_to_classes():
    plan, boxes = furnished()
    table = plan.instance_class
    assert table[1] == K.FLOOR and table[3] == K.WALL and table[4] == K.DOOR and table[5] == K.WINDOW
    for name, box in boxes.items():
        assert K.CLASS_NAMES[table[plan.box_instance[box]]].lower() == name.replace("table", "diningtable")


def test_contents_lie_on_the_tray():
    plan, boxes = furnished()
    tray = plan.trays()[boxes["cabinet"]]
    top = plan.box_pose[tray, 1] + plan.box_size[tray, 1]
    assert plan.box_pose[boxes["apple"], 1] == pytest.approx(top)
    assert plan.box_inside[boxes["apple"]]


def test_wrong_parts_are_refused():
    builder, left, _ = two_rooms()
    with pytest.raises(UsageError, match="unknown object class"):
        builder.box("Unicorn", left)
    table = builder.box("DiningTable", left)
    with pytest.raises(UsageError, match="cannot lie inside"):
        builder.box("Apple", left, parent=table, inside=True)
    with pytest.raises(UsageError, match="room type"):
        builder.room("Garage", [(0, 0), (1, 0), (1, 1)])
    with pytest.raises(UsageError, match="no room"):
        PlanBuilder("empty").build()


def test_arrays_of_different_length_are_refused():
    plan, _ = furnished()
    with pytest.raises(UsageError, match="different lengths"):
        dataclasses.replace(plan, box_room=plan.box_room[:-1])


def test_library_packs_doors_on_both_sides_and_refuses_one_off_the_wall():
    builder, left, right = two_rooms()
    library = PlanLibrary()
    library.add(builder.build())
    sides = library.opening_int.array[library.opening_int.array[:, 0] == 0]
    assert sides[:, 2].tolist() == [1, 0] and sorted(sides[:, 5].tolist()) == [0, 1]
    builder.door((3, 1.5), (3, 2.5), left, right)
    with pytest.raises(UsageError, match="does not lie on a wall"):
        library.add(builder.build())


def test_library_growth_keeps_earlier_plans():
    library = PlanLibrary()
    plan, _ = furnished()
    first = library.add(plan)
    before = library.arrays().edge_float[: library.plan_int.array[first, 3]].copy()
    for _ in range(40):
        library.add(plan)
    assert np.array_equal(library.arrays().edge_float[: len(before)], before)
    assert library.get("key", lambda: plan) == library.get("key", lambda: plan) == 41


def test_library_limit():
    library = PlanLibrary(limit=1)
    plan, _ = furnished()
    library.add(plan)
    with pytest.raises(UsageError, match="limit of 1"):
        library.add(plan)


def test_a_house_of_too_many_rooms_is_refused():
    builder = PlanBuilder("hotel")
    for k in range(65):
        builder.room("Bedroom", [(3 * k, 0), (3 * k, 3), (3 * k + 3, 3), (3 * k + 3, 0)])
    with pytest.raises(UsageError, match="more than the 64"):
        PlanLibrary().add(builder.build())


def test_class_colours_are_distinct():
    rgb = np.array([row.rgb for row in K.OBJECTS], np.int64)
    gap = ((rgb[:, None] - rgb[None]) ** 2).sum(-1) + np.eye(len(rgb), dtype=np.int64) * 10**6
    assert gap.min() >= 20**2
