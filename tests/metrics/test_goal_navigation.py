"""Goal-navigation metrics: worked cases, hand-made cases, and the inequalities that must hold for any episode."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.errors import UsageError
from embodied_mem.metrics import GoalEpisode, goal_nav, goal_nav_summary, path_length
from embodied_mem.metrics.ratios import covered_share, path_ratio


def worked_cases(kind: str) -> tuple[float, list[dict]]:
    path = Path(os.environ.get("EMBODIED_MEM_DATA", "")) / "metric_examples.json"
    if not path.is_file():
        pytest.skip("EMBODIED_MEM_DATA holds no metric_examples.json")
    document = json.loads(path.read_text())
    return document["tolerance"], [case for case in document["cases"] if case["kind"] == kind]


@pytest.mark.data
def test_worked_cases():
    tolerance, cases = worked_cases("goal_nav")
    assert len(cases) == 3
    for case in cases:
        given_input = case["input"]
        found = goal_nav(
            given_input["positions"],
            given_input["geodesic_to_goal"],
            stop_called=given_input["stop_called"],
            success_distance=given_input["success_distance"],
            strict=given_input["strict"],
        )
        assert set(found) == set(case["expected"])
        assert found == pytest.approx(case["expected"], abs=tolerance), case["id"]


def line(lengths, **options):
    """An episode on a straight line towards the goal, at these distances from it."""
    return goal_nav([[-g, 0.0] for g in lengths], lengths, **{"stop_called": True, "success_distance": 1.0, **options})


def test_straight_success_is_perfect():
    found = line([4.0, 3.0, 2.0, 0.5])
    assert found["sr"] == found["osr"] == 1.0
    assert found["spl"] == 1.0
    assert found["pl"] == pytest.approx(3.5)
    assert found["soft_spl"] == pytest.approx(1 - 0.5 / 4.0)
    assert found["dtg"] == pytest.approx(0.5) and found["dts"] == 0.0


def test_detour_halves_spl():
    found = goal_nav([[0, 0], [0, 4], [0, 0], [0.5, 0]], [1.0, 4.1, 1.0, 0.5], stop_called=True, success_distance=0.6)
    assert found["spl"] == pytest.approx(1.0 / 8.5)


def test_success_needs_a_stop_but_soft_spl_does_not():
    walked = line([4.0, 0.5], stop_called=False)
    assert walked["sr"] == walked["spl"] == 0.0
    assert walked["osr"] == 1.0 and walked["soft_spl"] > 0.8


def test_radius_itself_counts_only_when_not_strict():
    assert line([4.0, 1.0])["sr"] == 0.0
    assert line([4.0, 1.0], strict=False)["sr"] == 1.0


def test_environment_verdict_overrides_distance():
    assert line([4.0, 0.5], success=False)["sr"] == 0.0
    assert line([4.0, 2.5], success=True)["spl"] == 1.0
    assert line([4.0, 2.5], success=True)["osr"] == line([4.0, 0.5], success=False)["osr"] == 1.0


def test_start_at_the_goal():
    assert line([0.0])["spl"] == line([0.0])["soft_spl"] == 1.0
    moved = goal_nav([[0, 0], [1, 0], [0, 0]], [0.0, 1.0, 0.0], stop_called=True, success_distance=0.5)
    assert moved["sr"] == 1.0 and moved["spl"] == 0.0


def test_unreachable_goal_is_undefined_not_zero():
    found = goal_nav([[0, 0], [1, 0]], [math.inf, math.inf], stop_called=True, success_distance=1.0)
    assert found["sr"] == 0.0 and found["osr"] == 0.0
    assert found["spl"] is found["soft_spl"] is found["dtg"] is found["dts"] is found["progress_ratio"] is None


@pytest.mark.parametrize("positions", [[], [1.0, 2.0]])
def test_bad_positions_are_refused(positions):
    with pytest.raises(UsageError, match="positions of shape"):
        path_length(positions)


def test_mismatched_lengths_are_refused():
    with pytest.raises(UsageError, match="one geodesic distance per position"):
        goal_nav([[0, 0], [1, 0]], [1.0], stop_called=True, success_distance=1.0)


distances = st.floats(0.0, 50.0, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(
    start=distances,
    final=distances,
    best=distances,
    path=distances,
    radius=st.floats(0.1, 3.0),
    strict=st.booleans(),
    success=st.none() | st.booleans(),
)
def test_inequalities(start, final, best, path, radius, strict, success):
    episode = GoalEpisode(start, final, min(start, final, best), path, True, radius, strict, success)
    found = goal_nav_summary(episode)
    assert 0.0 <= found["spl"] <= found["sr"] <= found["osr"] <= 1.0
    assert 0.0 <= found["soft_spl"] <= found["progress_ratio"] <= 1.0
    assert found["dts"] <= found["dtg"]


@settings(max_examples=100, deadline=None)
@given(distances, distances)
def test_ratios_stay_in_the_unit_interval(a, b):
    assert 0.0 <= path_ratio(a, b) <= 1.0
    assert 0.0 <= covered_share(a, b) <= 1.0


def test_standing_still_adds_nothing():
    path = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    assert path_length(np.repeat(path, 3, axis=0)) == pytest.approx(path_length(path))
