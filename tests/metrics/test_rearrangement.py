"""Rearrangement energies and scores: exact boxes, edge cases, and the 1,000 published tasks where there are data."""

import csv
import gzip
import json
import os
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.errors import UsageError
from embodied_mem.metrics import ObjectState, energy, rearrangement
from embodied_mem.metrics.boxes import box_iou, corner_gap, corners

CUP = ObjectState((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def moved(x=0.0, y=0.0, z=0.0, yaw=0.0, **options):
    return ObjectState((x, y, z), (1.0, 1.0, 1.0), yaw, **options)


def test_corners_turn_clockwise_seen_from_above():
    box = corners(np.zeros(3), np.array([2.0, 1.0, 4.0]), 90.0)
    assert np.allclose(box[:, 0].max(), 2.0) and np.allclose(box[:, 2].max(), 1.0)
    # Local (1, 2) lands at (x cos a + z sin a, -x sin a + z cos a).
    assert np.allclose(box[2], [2.0, -0.5, -1.0])


def test_overlap_is_exact():
    one = corners(np.zeros(3), np.ones(3), 0.0)
    turned = corners(np.zeros(3), np.ones(3), 45.0)
    octagon = 2 * (np.sqrt(2) - 1)
    assert box_iou(one, turned) == pytest.approx(octagon / (2 - octagon))
    assert box_iou(one, corners(np.array([0.0, 0.5, 0.0]), np.ones(3), 0.0)) == pytest.approx(1 / 3)
    assert box_iou(one, corners(np.array([2.0, 0.0, 0.0]), np.ones(3), 0.0)) == 0.0
    assert corner_gap(one, corners(np.array([3.0, 0.0, 0.0]), np.ones(3), 0.0)) == pytest.approx(2.0)


@settings(max_examples=60, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, 360), st.floats(0, 360))
def test_overlap_is_symmetric_and_agrees_with_sampling(offset, first, second):
    one = corners(np.zeros(3), np.array([1.0, 0.8, 1.6]), first)
    other = corners(np.array(offset), np.array([0.7, 1.0, 1.2]), second)
    iou = box_iou(one, other)
    assert 0.0 <= iou <= 1.0 and iou == pytest.approx(box_iou(other, one), abs=1e-9)
    points = np.random.default_rng(0).uniform(-2.2, 2.2, size=(40_000, 3))
    inside = [_inside(points, np.zeros(3), [1.0, 0.8, 1.6], first), _inside(points, offset, [0.7, 1.0, 1.2], second)]
    either = (inside[0] | inside[1]).sum()
    assert iou == pytest.approx((inside[0] & inside[1]).sum() / either, abs=0.06)


def _inside(points, centre, size, yaw):
    local = points - np.asarray(centre)
    c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    x, z = local[:, 0] * c - local[:, 2] * s, local[:, 0] * s + local[:, 2] * c
    half = np.array(size) / 2
    return (np.abs(x) < half[0]) & (np.abs(local[:, 1]) < half[1]) & (np.abs(z) < half[2])


def test_energies():
    assert energy(CUP, CUP) == 0.0
    assert energy(CUP, moved(broken=True)) == 1.0
    assert energy(CUP, moved(x=0.009, yaw=9.0)) == 0.0, "near enough counts as in place"
    assert energy(CUP, moved(x=0.3)) == 0.0, "half the union shared counts as placed"
    assert energy(CUP, moved(x=0.5)) == pytest.approx(0.5 * (1 - (1 / 3) / 0.5))
    assert energy(CUP, moved(x=2.0)) == pytest.approx(0.5 + 0.5 * 0.5)
    assert energy(CUP, moved(x=9.0)) == 1.0
    door = ObjectState((0, 0, 0), (1, 1, 1), openness=0.5, pickupable=False)
    assert energy(door, ObjectState((9, 0, 0), (1, 1, 1), openness=0.7, pickupable=False)) == 0.0
    assert energy(door, ObjectState((0, 0, 0), (1, 1, 1), openness=0.71, pickupable=False)) == 1.0
    box = ObjectState((0, 0, 0), (1, 1, 1), openness=0.0)
    assert energy(box, ObjectState((0, 0, 0), (1, 1, 1), openness=1.0)) == 0.0, "what is carried is judged by its place"


def test_scores():
    goal = [CUP] * 4
    start = [moved(9), moved(9), moved(), moved()]
    assert rearrangement(goal, start, goal) | {"start_energy": 2.0} == {
        "success": 1.0,
        "prop_fixed": 1.0,
        "prop_fixed_strict": 1.0,
        "num_initially_misplaced": 2,
        "num_fixed": 2,
        "num_newly_misplaced": 0,
        "num_misplaced": 0,
        "start_energy": 2.0,
        "end_energy": 0.0,
        "prop_misplaced": 0.0,
        "energy_prop": 0.0,
    }
    idle = rearrangement(goal, start, start)
    assert idle["energy_prop"] == 1.0 and idle["prop_fixed_strict"] == 0.0 and idle["prop_misplaced"] == 1.0
    worse = rearrangement(goal, start, [moved(), moved(9), moved(9), moved(9)])
    assert worse["prop_fixed"] == 0.5 and worse["prop_fixed_strict"] == 0.0 and worse["prop_misplaced"] == 1.5
    fine = rearrangement(goal, goal, goal)
    assert fine["prop_fixed"] == 1.0 and fine["prop_misplaced"] is fine["energy_prop"] is None


def test_bad_states_are_refused():
    with pytest.raises(UsageError, match="not broken"):
        energy(moved(broken=True), CUP)
    with pytest.raises(UsageError, match="openness in both"):
        energy(moved(openness=0.1), CUP)
    with pytest.raises(UsageError, match="same objects"):
        rearrangement([CUP], [CUP], [])
    with pytest.raises(UsageError, match="lacks the key 'size'"):
        ObjectState.of({"pos": [0, 0, 0]})
    with pytest.raises(UsageError, match="expected numbers"):
        ObjectState.of({"pos": [0, 0], "size": [1, 1, 1], "yaw": 0, "openness": None, "pickupable": True})


@pytest.mark.data
def test_published_tasks_have_their_start_energy():
    root = Path(os.environ.get("EMBODIED_MEM_DATA", ""))
    tasks_file, sizes_file = root / "rearrange/ithor_2023_val.jsonl.gz", root / "procthor/asset_sizes.csv.gz"
    if not tasks_file.is_file() or not sizes_file.is_file():
        pytest.skip("EMBODIED_MEM_DATA holds no rearrangement tasks")
    sizes = median_sizes(sizes_file)
    with gzip.open(tasks_file, "rt") as stream:
        tasks = [json.loads(line) for line in stream]
    agree, gaps = 0, []
    for task in tasks:
        energies = []
        for name, start, goal in task["objects"]:
            if goal is not None:
                size = sizes.get(name.rsplit("_", 1)[0], (0.2, 0.2, 0.2))
                energies.append(energy(*(ObjectState(tuple(p[0]), size, p[1][1]) for p in (goal, start))))
        agree += sum(value > 0 for value in energies) == task["num_position_changes"]
        opened = [abs(item["start_openness"] - item["target_openness"]) > 0.2 for item in task["openable"]]
        gaps.append(abs(sum(energies) + sum(opened) - task["upstream_start_energy"]))
    assert len(tasks) == 1000 and agree == 993
    assert np.mean(gaps) == pytest.approx(0.0086, abs=5e-5) and np.median(gaps) == pytest.approx(0.0015, abs=1e-4)


def median_sizes(path):
    with gzip.open(path, "rt") as stream:
        rows = list(csv.DictReader(stream))
    columns = list(rows[0])
    kind = next(name for name in columns if "type" in name.lower())
    axes = [next(name for name in columns if name.lower().rstrip("_m") in (axis, f"size_{axis}")) for axis in "xyz"]
    grouped = {}
    for row in rows:
        grouped.setdefault(row[kind], []).append([float(row[axis]) for axis in axes])
    return {name: tuple(median(column) for column in zip(*values)) for name, values in grouped.items()}
