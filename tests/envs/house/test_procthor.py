import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.check import problems
from embodied_mem.envs.house.procthor import ProcthorHouses, assets, house_plan
from embodied_mem.errors import UsageError

SAMPLE = Path(os.environ.get("EMBODIED_MEM_DATA", "")) / "procthor" / "houses_sample.jsonl.gz"
needs_data = pytest.mark.skipif(
    not os.environ.get("EMBODIED_MEM_DATA") or not SAMPLE.is_file(),
    reason="needs EMBODIED_MEM_DATA with procthor/houses_sample.jsonl.gz",
)


def wall(number, a, b, **more):
    (x0, z0), (x1, z1) = a, b
    points = [(x0, 0, z0), (x1, 0, z1), (x0, 2.8, z0), (x1, 2.8, z1)]
    polygon = [dict(x=x, y=y, z=z) for x, y, z in points]
    name = f"wall|{number}|{x0}|{z0}|{x1}|{z1}"
    return dict(id=name, roomId=f"room|{number}", polygon=polygon, material="Paint", **more)


def room_walls(number, x0, x1):
    corners = [(x0, 0.0), (x0, 4.0), (x1, 4.0), (x1, 0.0)]
    walls = [wall(number, a, b) for a, b in zip(corners, [*corners[1:], corners[0]])]
    polygon = [dict(x=x, y=0, z=z) for x, z in corners]
    return dict(id=f"room|{number}", roomType="Kitchen", floorPolygon=polygon, floorMaterial="Wood"), walls


def house(schema):
    """Two rooms joined by a door whose opening is 0.5..1.5 m from the start of room 2's wall (at z = 0.5..1.5)."""
    left, left_walls = room_walls(2, 0.0, 4.0)
    right, right_walls = room_walls(3, 4.0, 8.0)
    old = schema == "0.0.1"
    hole = [dict(x=2.5, y=0.0, z=0.0), dict(x=3.5, y=2.1, z=0.0)]
    opening = dict(boundingBox=dict(min=hole[0], max=hole[1])) if old else dict(holePolygon=hole)
    door = dict(
        id="door|2|3", room0="room|2", room1="room|3", wall0=left_walls[2]["id"], wall1=right_walls[0]["id"],
        openable=True, openness=1, **opening,
    )  # fmt: skip
    pane = [dict(x=1.0, y=0.8, z=0.0), dict(x=2.0, y=2.0, z=0.0)]
    window = dict(id="window|2|0", room0="room|2", room1="room|2", wall0=left_walls[1]["id"], wall1="wall|exterior")
    window.update(boundingBox=dict(min=pane[0], max=pane[1])) if old else window.update(holePolygon=pane)
    apple = dict(id="Apple|1", assetId="Apple_15", position=dict(x=1.0, y=0.87, z=2.0), rotation=dict(x=0, y=45, z=0))
    table = dict(
        id="2|0", assetId="Dining_Table_218_1", position=dict(x=1.0, y=0.3905, z=2.0), rotation=dict(x=0, y=90, z=0),
        kinematic=True, children=[apple],
    )  # fmt: skip
    if old:
        table.update(objectType="DiningTable", size=dict(x=1.7882, y=0.781, z=1.0))
        apple.update(objectType="Apple", size=dict(x=0.1274, y=0.1416, z=0.1274))
    else:
        left["floorMaterial"] = dict(name="Wood")
    mystery = dict(id="2|9", assetId="No_Such_Asset", position=dict(x=3, y=1, z=3), rotation=dict(x=0, y=0, z=0))
    agent = dict(position=dict(x=2.0, y=0.95, z=1.0), rotation=dict(x=0, y=90, z=0))
    return dict(
        rooms=[left, right], walls=left_walls + right_walls, doors=[door], windows=[window], objects=[table, mystery],
        metadata=dict(schema=schema, agent=agent),
    )  # fmt: skip


@pytest.mark.parametrize("schema", ["0.0.1", "1.0.0"])
def test_both_schemas_give_the_same_house(schema):
    plan = house_plan(house(schema))
    assert (plan.num_rooms, plan.num_doors, plan.num_windows, plan.num_boxes) == (2, 1, 1, 2)
    assert np.allclose(sorted(plan.door_ends[0, :, 1]), [0.5, 1.5]) and np.allclose(plan.door_ends[0, :, 0], 4.0)
    assert plan.height == pytest.approx(2.8)
    assert K.CLASS_NAMES[plan.box_class[0]] == "DiningTable" and plan.box_parent[1] == 0
    assert np.allclose(plan.box_size[0], [1.7882, 0.781, 1.0], atol=1e-3)
    assert plan.box_pose[0, 1] == pytest.approx(0.0, abs=1e-3)
    assert plan.box_pose[0, 3] == pytest.approx(np.pi / 2)
    assert plan.meta["skipped"] == "1"
    assert plan.start == pytest.approx((2.0, 1.0, np.pi / 2))
    assert problems(plan) == []


def test_door_is_measured_from_the_other_end_when_only_that_lets_one_through():
    blocked = house("0.0.1")
    shelf = dict(
        id="2|1", assetId="Shelf", objectType="ShelvingUnit", size=dict(x=1.0, y=1.5, z=0.8),
        position=dict(x=3.6, y=0.75, z=1.0), rotation=dict(x=0, y=0, z=0),
    )  # fmt: skip
    blocked["objects"].append(shelf)
    plan = house_plan(blocked)
    assert np.allclose(sorted(plan.door_ends[0, :, 1]), [2.5, 3.5])
    assert problems(plan) == []


def test_empty_wall_is_an_opening_of_full_height():
    open_plan = house("0.0.1")
    open_plan["doors"] = []
    open_plan["walls"][2]["empty"] = open_plan["walls"][4]["empty"] = True
    plan = house_plan(open_plan)
    assert plan.num_doors == 1 and plan.door_top[0] == pytest.approx(2.8)
    assert np.hypot(*(plan.door_ends[0, 1] - plan.door_ends[0, 0])) == pytest.approx(4.0)
    assert problems(plan) == []


@needs_data
def test_sample_houses_load_and_are_connected():
    houses = ProcthorHouses(str(SAMPLE))
    assert len(houses) == 22
    plans = [houses.plan(k) for k in range(22)]
    assert sorted({plan.num_rooms for plan in plans}) == [1, 2, 3, 4, 5, 6, 7, 10]
    assert all(plan.meta["skipped"] == "0" for plan in plans)
    assert [plan.name for plan in plans if problems(plan)] == []


@needs_data
def test_splits_share_no_house():
    train, test = (ProcthorHouses(str(SAMPLE), split) for split in ("train", "test"))
    assert len(train) + len(test) == 22
    assert not {line for line in train._lines} & {line for line in test._lines}


def test_asset_table_ships_with_the_package():
    table = assets()
    assert len(table) == 1653 and table["Apple_15"].type == "Apple"


def test_missing_and_damaged_files_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="found none"):
        ProcthorHouses(str(tmp_path / "none.jsonl.gz"))
    whole = gzip.compress(json.dumps(house("0.0.1")).encode() * 50)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match="damaged"):
        ProcthorHouses(str(cut))
    plain = tmp_path / "plain.jsonl"
    plain.write_text("{broken\n" + json.dumps({"rooms": []}) + "\n" + json.dumps(house("1.0.0")) + "\n")
    houses = ProcthorHouses(str(plain))
    with pytest.raises(UsageError, match="not valid JSON"):
        houses.plan(0)
    with pytest.raises(UsageError, match="not a ProcTHOR house"):
        houses.plan(1)
    assert houses.plan(2).num_rooms == 2
    unknown = house("0.0.1")
    unknown["metadata"]["schema"] = "9.9"
    with pytest.raises(UsageError, match="schema"):
        house_plan(unknown)
