"""Street metrics: worked cases, the edge cases of the definitions, and what must hold for any pair of paths."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.errors import UsageError
from embodied_mem.metrics import EdgeGraph, edit_distance, street
from embodied_mem.metrics.sequences import collapse, dtw

LINE = EdgeGraph(8, [[k, k + 1] for k in range(7)])
# A square block with a tail at every corner: the corners 0..3 have three links.
BLOCK = EdgeGraph(8, [[0, 1], [1, 2], [2, 3], [3, 0], [0, 4], [1, 5], [2, 6], [3, 7]])


def test_the_route_itself_is_perfect():
    found = street([4, 0, 1, 5], [4, 0, 1, 5], BLOCK)
    assert found == {
        "tc": 1.0,
        "spd": 0.0,
        "sed": 1.0,
        "dtw": 0.0,
        "ndtw": 1.0,
        "sdtw": 1.0,
        "ndtw_std": 1.0,
        "cls": 1.0,
        "kpa": 1.0,
        "sed_levenshtein": 1.0,
    }


def test_stopping_at_once_on_a_route_of_two_is_a_success():
    found = street([0], [0, 1], LINE)
    assert found["tc"] == 1.0 and found["spd"] == 1.0 and found["sed"] == 0.5
    assert found["dtw"] == 1.0 and found["ndtw"] == pytest.approx(math.exp(-1 / (2 * math.sqrt(2))))
    assert found["ndtw_std"] == pytest.approx(math.exp(-1 / 6))
    assert found["kpa"] == pytest.approx((0 + 1) / (2 + 1)), "a path of one panorama has no key points"


def test_a_start_at_the_goal():
    found = street([3], [3, 4, 3], LINE)
    assert found["tc"] == 1.0 and found["spd"] == 0.0
    assert street([3], [3], LINE)["kpa"] == 1.0, "no key points on either side, and the goal reached"


def test_standing_still_is_the_sum_of_distances():
    found = street([0], [0, 1, 2, 3], LINE)
    assert found["dtw"] == 6.0 and found["tc"] == found["sed"] == found["sdtw"] == 0.0
    share = np.exp(-np.arange(4)).mean()
    assert found["cls"] == pytest.approx(share * 4 * share / (4 * share + abs(4 * share - 1)))


def test_leaving_and_coming_back_adds_panoramas_but_turning_does_not():
    assert street([0, 0, 1, 1, 1, 2], [0, 1, 2], LINE) == street([0, 1, 2], [0, 1, 2], LINE)
    assert street([0, 1, 0, 1, 2], [0, 1, 2], LINE)["sed"] == pytest.approx(1 - 2 / 5)


def test_success_is_measured_at_the_last_panorama_only():
    assert street([0, 1, 2, 3, 4, 5], [0, 1, 2, 3], LINE)["tc"] == 0.0
    assert street([0, 1, 2, 3, 4], [0, 1, 2, 3], LINE)["tc"] == 1.0


def test_key_points_are_the_first_two_panoramas_and_the_choices():
    # Keys of the route: 4, 0, 0->1, 1->5 (out of 0 and 1, which have three links).
    found = street([4, 0, 3, 7], [4, 0, 1, 5], BLOCK)
    assert found["tc"] == 0.0 and found["kpa"] == pytest.approx(2 / 5)
    # Repeats count in the length of the list, not in the set of hits.
    again = street([4, 0, 1, 5], [4, 0, 1, 0, 1, 5], BLOCK)
    assert again["kpa"] == pytest.approx((4 + 1) / (6 + 1))


def test_swaps_cost_one_once():
    assert edit_distance([2, 0], [0, 1, 2]) == 3, "a swapped pair is not edited again"
    assert edit_distance([0, 1, 2, 3], [0, 2, 1, 3]) == 1
    found = street([0, 2, 1, 3], [0, 1, 2, 3], LINE)
    assert found["sed"] == 0.75 and found["sed_levenshtein"] == 0.5
    assert street([0, 2, 1, 3], [0, 1, 2, 3], LINE, edit="levenshtein")["sed"] == 0.5


def test_an_unreachable_goal_has_no_distance():
    found = street([0], [2, 3], EdgeGraph(4, [[0, 1], [2, 3]]))
    assert found["spd"] is None and found["dtw"] is None and found["tc"] == found["ndtw"] == 0.0


@pytest.mark.parametrize("pred", [[], [0.5], [[0, 1]], ["a"]])
def test_bad_paths_are_refused(pred):
    with pytest.raises(UsageError, match="expected pred as a list"):
        street(pred, [0, 1], LINE)
    with pytest.raises(UsageError, match="node indices"):
        street([99], [0, 1], LINE)


def test_an_unknown_edit_is_refused():
    with pytest.raises(UsageError, match="expected edit"):
        edit_distance([1], [2], "hamming")


def brute_force_dtw(table):
    n, m = table.shape

    def best(i, j):
        if i == j == 0:
            return table[0, 0]
        ways = [best(a, b) for a, b in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if a >= 0 and b >= 0]
        return table[i, j] + min(ways)

    return best(n - 1, m - 1)


@pytest.mark.parametrize(("n", "m"), itertools.product((1, 2, 4), (1, 3, 4)))
def test_warping_is_exact(n, m):
    table = np.random.default_rng(n * 10 + m).uniform(size=(n, m))
    assert dtw(table) == pytest.approx(brute_force_dtw(table))


def test_warping_refuses_an_empty_table():
    with pytest.raises(UsageError, match="distance table"):
        dtw(np.zeros((0, 3)))


paths = st.lists(st.integers(0, 7), min_size=1, max_size=12)


@settings(max_examples=150, deadline=None)
@given(pred=paths, ref=paths, repeats=st.integers(1, 3))
def test_what_holds_for_any_paths(pred, ref, repeats):
    for graph in (LINE, BLOCK):
        found = street(pred, ref, graph)
        assert found == street(np.repeat(pred, repeats), ref, graph)
        assert 0 < found["ndtw"] <= 1 and 0 < found["ndtw_std"] <= 1 and 0 < found["cls"] <= 1
        assert found["sdtw"] <= found["ndtw"] and 0 <= found["kpa"] <= 1
        assert 0 <= found["sed_levenshtein"] <= found["sed"] <= found["tc"]
        route = collapse(ref)
        own = street(route, route, graph)
        assert own["tc"] == own["sed"] == own["ndtw"] == 1 and own["spd"] == 0
        assert own["cls"] == pytest.approx(1.0)
        # A route that comes back repeats key points, which its own set of hits does not.
        assert len(set(route.tolist())) < len(route) or own["kpa"] == 1
