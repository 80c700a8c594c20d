"""Indoor VLN metrics: hand-made graphs and paths, edge cases, inequalities."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.errors import UsageError
from embodied_mem.metrics import oracle_spl, vln_continuous, vln_graph

# A ring of four rooms, 4 m apart, and a cupboard 1 m off room 2.
ROOMS = [[0, 0, 0], [4, 0, 0], [4, 4, 0], [0, 4, 0], [5, 4, 0]]
DOORS = [[0, 1], [1, 2], [2, 3], [3, 0], [2, 4]]


def graph(pred, ref, **options):
    return vln_graph(ROOMS, DOORS, pred, ref, **{"stopped": True, **options})


def test_the_route_itself():
    found = graph([0, 1, 2], [0, 1, 2])
    assert found["sr"] == found["osr"] == found["ndtw"] == found["sdtw"] == found["spl"] == found["cls"] == 1.0
    assert found["pl"] == 8.0 and found["ne"] == found["oracle_ne"] == 0.0


def test_path_efficiency_is_against_the_shortest_path_not_the_route():
    found = graph([0, 3, 2, 1], [0, 3, 2, 1])
    assert found["sr"] == 1.0 and found["spl"] == pytest.approx(4 / 12)


def test_the_threshold_itself_is_no_success():
    far = vln_graph([[0, 0], [3, 0], [6, 0]], [[0, 1], [1, 2]], [0, 1], [0, 1, 2], stopped=True)
    assert far["ne"] == 3.0 and far["sr"] == far["osr"] == 0.0
    near = graph([0, 1, 2], [0, 1, 2, 4])
    assert near["ne"] == 1.0 and near["sr"] == 1.0


def test_success_needs_a_stop_unless_it_is_waived():
    walked = graph([0, 1, 2], [0, 1, 2], stopped=False)
    assert walked["sr"] == walked["spl"] == walked["sdtw"] == 0.0 and walked["osr"] == 1.0
    assert graph([0, 1, 2], [0, 1, 2], stopped=False, require_stop=False)["sr"] == 1.0


def test_a_start_at_the_goal():
    assert graph([0], [0])["spl"] == 1.0 and graph([0], [0])["cls"] == 1.0
    walked = graph([0, 1, 0], [0])
    assert walked["sr"] == 1.0 and walked["spl"] == 0.0 and walked["cls"] == 0.0


def test_repeats_are_collapsed():
    assert graph([0, 0, 1, 1, 2], [0, 1, 2]) == graph([0, 1, 2], [0, 1, 2])


def test_a_goal_that_is_cut_off_is_undefined():
    found = vln_graph([[0, 0], [1, 0], [9, 9]], [[0, 1]], [0, 1], [0, 2], stopped=True)
    assert found["sr"] == 0.0 and found["ne"] is None and found["spl"] is None and found["ndtw"] == 0.0


def test_continuous_paths():
    found = vln_continuous([[0, 0], [0, 0], [2, 0], [4, 0]], [[0, 0], [4, 0]], stopped=True)
    assert found["pl"] == 4.0 and found["spl"] == 1.0 and found["dtw"] == 2.0
    assert found["ndtw"] == pytest.approx(math.exp(-2 / 6))
    around = vln_continuous([[0, 0], [2, 0]], [[0, 0], [4, 0]], stopped=True, geodesic_to_goal=[9.0, 5.0])
    assert around["ne"] == 5.0 and around["sr"] == 0.0 and around["dtw"] == 2.0, "warping uses the straight line"


def test_oracle_spl_takes_the_best_prefix():
    assert oracle_spl(np.array([6.0, 2.0, 1.0]), np.array([0.0, 6.0, 9.0])) == 1.0
    assert oracle_spl(np.array([6.0, 4.0]), np.array([0.0, 6.0])) == 0.0


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="pred_path"):
        graph([9], [0])
    with pytest.raises(UsageError, match="ref_path"):
        graph([0], [])
    with pytest.raises(UsageError, match="edges between"):
        vln_graph(ROOMS, [[0, 9]], [0], [0], stopped=True)
    with pytest.raises(UsageError, match="one dimension"):
        vln_continuous([[0, 0]], [[0, 0, 0]], stopped=True)
    with pytest.raises(UsageError, match="one geodesic"):
        vln_continuous([[0, 0]], [[0, 0]], stopped=True, geodesic_to_goal=[1, 2])


nodes = st.lists(st.integers(0, 4), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(pred=nodes, ref=nodes)
def test_inequalities(pred, ref):
    found = graph(pred, ref)
    assert 0 <= found["spl"] <= found["sr"] <= found["osr"] <= 1
    assert 0 < found["ndtw"] <= 1 and found["sdtw"] <= found["ndtw"] and 0 <= found["cls"] <= 1
    assert found["oracle_ne"] <= found["ne"]
