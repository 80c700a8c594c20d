"""Worked cases of every family, where the data are there; hand-made ones otherwise."""

import json
import os
from pathlib import Path

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.metrics.cases import FAMILIES, largest_error, score_case


@pytest.mark.data
def test_worked_cases():
    path = Path(os.environ.get("EMBODIED_MEM_DATA", "")) / "metric_examples.json"
    if not path.is_file():
        pytest.skip("EMBODIED_MEM_DATA holds no metric_examples.json")
    document = json.loads(path.read_text())
    assert len(document["cases"]) == 18 and {case["kind"] for case in document["cases"]} == set(FAMILIES)
    for case in document["cases"]:
        found = score_case(case)
        assert set(found) == set(case["expected"]), case["id"]
        assert largest_error(found, case["expected"]) <= document["tolerance"] == 1e-6, case["id"]


def test_largest_error():
    assert largest_error({"a": 1.0, "b": None}, {"a": 1.5, "b": None}) == 0.5
    assert largest_error({"a": 1.0}, {"a": None}) == largest_error({"a": None}, {"a": 1.0}) == float("inf")
    assert largest_error({}, {"a": 1.0}) == float("inf")


LINE = {"num_nodes": 3, "undirected_edges": [[0, 1], [1, 2]], "pred_path": [0], "ref_path": [0, 1, 2]}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ([], "expected a case"),
        ({"kind": "street"}, "expected a case"),
        ({"kind": "stret", "input": LINE}, "did you mean 'street'"),
        ({"kind": "street", "input": {**LINE, "num_nodes": 0}}, "num_nodes >= 1"),
        ({"kind": "street", "input": {**LINE, "pred_path": [7]}}, "node indices"),
        ({"kind": "street", "input": {**LINE, "undirected_edges": [[0, 1, 2], [1]]}}, "another form"),
        ({"kind": "street", "input": {k: v for k, v in LINE.items() if k != "ref_path"}}, "lacks 'ref_path'"),
        ({"kind": "goal_nav", "input": {"positions": [1], "geodesic_to_goal": [1]}}, "positions of shape"),
        ({"kind": "multion", "input": {"leg_geodesics": [1], "found_calls": [[1]], "total_path": 1}}, "another form"),
        ({"kind": "vln_graph", "input": {"edge_weight": "hops"}}, "edge_weight 'euclidean'"),
        ({"kind": "vln_continuous", "input": {"distance": "x"}}, "distance 'euclidean'"),
    ],
)
def test_bad_cases_are_refused(case, message):
    with pytest.raises(UsageError, match=message):
        score_case(case)
