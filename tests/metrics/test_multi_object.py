"""MultiON metrics: worked cases, hand-made cases, and the inequalities that must hold for any episode."""

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.errors import UsageError
from embodied_mem.metrics import MultiObjectEpisode, multion, multion_summary


@pytest.mark.data
def test_worked_cases():
    path = Path(os.environ.get("EMBODIED_MEM_DATA", "")) / "metric_examples.json"
    if not path.is_file():
        pytest.skip("EMBODIED_MEM_DATA holds no metric_examples.json")
    document = json.loads(path.read_text())
    cases = [case for case in document["cases"] if case["kind"] == "multion"]
    assert len(cases) == 3
    for case in cases:
        found = multion(**case["input"])
        assert set(found) == set(case["expected"])
        assert found == pytest.approx(case["expected"], abs=document["tolerance"]), case["id"]


def test_all_found_on_the_shortest_path():
    found = multion([3.0, 2.0], [(0.5, 3.0), (1.0, 5.0)], total_path=5.0)
    assert found == {"success": 1.0, "progress": 1.0, "spl": 1.0, "ppl": 1.0, "ppl_total": 1.0, "found": 2}


def test_wrong_call_ends_the_count():
    found = multion([3.0, 2.0, 1.0], [(0.5, 6.0), (9.0, 7.0), (0.1, 8.0)], total_path=8.0)
    assert found["found"] == 1 and found["progress"] == pytest.approx(1 / 3)
    assert found["ppl"] == pytest.approx(1 / 3 * 3.0 / 6.0)
    assert found["ppl_total"] == pytest.approx(1 / 3 * 3.0 / 8.0)
    assert found["spl"] == 0.0


def test_the_radius_itself_counts():
    assert multion([3.0], [(1.5, 3.0)], 3.0)["success"] == 1.0
    assert multion([3.0], [(1.5000001, 3.0)], 3.0)["success"] == 0.0


def test_calls_after_the_last_goal_are_ignored():
    assert multion([3.0], [(0.0, 3.0), (0.0, 4.0)], 4.0)["found"] == 1


def test_a_leg_without_a_path_leaves_the_weighted_scores_undefined():
    found = multion([math.inf, 2.0], [(0.5, 3.0)], 3.0)
    assert found["ppl"] is found["ppl_total"] is None
    assert found["progress"] == 0.5 and found["spl"] == 0.0


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="at least one leg"):
        multion([], [], 0.0)
    with pytest.raises(UsageError, match=r"found in \[0, 1\]"):
        multion_summary(MultiObjectEpisode((1.0,), 2, 1.0, 1.0))


@settings(max_examples=200, deadline=None)
@given(
    legs=st.lists(st.floats(0.0, 20.0), min_size=1, max_size=5),
    share=st.floats(0.0, 1.0),
    first=st.floats(0.0, 60.0),
    rest=st.floats(0.0, 60.0),
)
def test_inequalities(legs, share, first, rest):
    episode = MultiObjectEpisode(tuple(legs), int(share * len(legs)), first, first + rest)
    found = multion_summary(episode)
    assert 0.0 <= found["ppl_total"] <= found["ppl"] <= found["progress"] <= 1.0
    assert found["spl"] <= found["success"] <= found["progress"]
