"""Graphs, instruction files and splits: what is read, and what is refused with one clear message."""

import gzip
import json

import numpy as np
import pytest

from embodied_mem.envs.street.data import data_root
from embodied_mem.envs.street.env import BatchedStreet
from embodied_mem.envs.street.graph import StreetGraph, inside, touchdown_graph
from embodied_mem.errors import UsageError
from embodied_mem.spaces import decode_text


def street(**options):
    return BatchedStreet(1, autoreset_mode="DISABLED", **options)


def test_without_data_the_error_says_where_to_get_them(monkeypatch):
    monkeypatch.setenv("EMBODIED_MEM_DATA", "")
    with pytest.raises(UsageError, match="set EMBODIED_MEM_DATA.*lil-lab/touchdown.*map2seq_vln"):
        street(data="touchdown")
    monkeypatch.setenv("EMBODIED_MEM_DATA", "/nowhere/at/all")
    with pytest.raises(UsageError, match="to name a folder"):
        data_root()


def test_a_missing_part_is_named(city):
    with pytest.raises(UsageError, match="no split 'dev_seen' of touchdown .*there: dev_unseen"):
        street(data="touchdown", split="dev_seen")
    (city / "touchdown" / "nodes.txt").unlink()
    with pytest.raises(UsageError, match="nodes.txt or nodes.txt.gz"):
        street(data="touchdown")


def test_links_keep_the_order_of_the_file(city):
    graph = touchdown_graph()
    first, stop = graph.arrays.first[[2, 3]]
    assert graph.names[2] == "c" and graph.arrays.heading[first:stop].tolist() == [270, 90, 0, 180]
    assert graph.out_degree.tolist() == [1, 2, 4, 2, 3, 1, 2, 2, 1, 2, 1, 2, 1]
    assert graph.hops(np.array([0]), np.array([8]))[0] == 5
    assert np.linalg.norm(graph.xz[1] - graph.xz[0]) == pytest.approx(10.0, abs=0.01)
    assert [graph.names[k] for k in graph.shortest_route(0, 6)] == ["a", "b", "c", "n"]


def test_splits_and_formats(city):
    env = street(data="map2seq", split="dev_seen", order="listed")
    assert env.data.ids == [20] and env.style == "map2seq" and env.items == 1
    obs, _ = env.reset(seed=0)
    assert decode_text(obs["instruction"][0]) == "Go to the T."
    own = city / "own.jsonl.gz"
    own.write_bytes(gzip.compress((city / "touchdown" / "dev_unseen.jsonl").read_bytes() + b"\n"))
    assert street(data=str(own)).data.ids == [1, 2, 3]


def test_recorded_rollouts_bring_start_route_and_limit(city):
    path = city / "rollouts.jsonl"
    row = {"id": "r", "start": ["c", 45], "ref_path": ["c", "d"], "actions": ["forward", "forward", "left", "stop"]}
    path.write_text(json.dumps(row) + "\n" + json.dumps({**row, "id": "s", "actions": ["right"]}))
    env = BatchedStreet(2, data=str(path), order="listed", record=True, autoreset_mode="DISABLED")
    env.reset(seed=0, options={"episode": np.arange(2)})
    assert env.world.limit.tolist() == [4, 1] and env.privileged()["street_recorded"].tolist() == [0, 2]
    _, _, _, truncated, info = env.step(np.array([0, 2]))
    assert truncated.tolist() == [False, True] and info["states"][1] == [["c", 45], ["c", 90]]
    cut = BatchedStreet(2, data=str(path), max_actions=2)
    assert cut._limits.tolist() == [2, 1]
    path.write_text(json.dumps({**row, "actions": ["turn_around"]}))
    with pytest.raises(UsageError, match="'turn_around', which semantics 'touchdown' lacks"):
        street(data=str(path))
    assert street(data=str(path), semantics="velma").items == 1


GOOD = {"id": 1, "route_panoids": ["b", "c"], "start_heading": 0, "navigation_text": "x"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no episodes"),
        ("{", "line 1: not valid JSON"),
        ("[1]", "line 1: expected a JSON object"),
        (json.dumps({**GOOD, "route_panoids": []}), "line 1: expected a route"),
        (json.dumps({**GOOD, "route_panoids": ["b", "zz"]}), "line 1: panorama 'zz' is not in the graph"),
        (json.dumps({**GOOD, "start_heading": "north"}), "line 1: expected a heading"),
        (json.dumps(GOOD) + "\n" + json.dumps({"id": 2}), "line 2: the key 'route_panoids' is missing"),
        (json.dumps({"id": 1, "start": ["b", 0], "ref_path": ["b"], "actions": ["fly"]}), "unknown action 'fly'"),
        (json.dumps({"id": 1, "start": ["b", 0], "ref_path": ["b"], "actions": []}), "at least one name"),
        (json.dumps({"id": 1, "start": "b", "ref_path": ["b"], "actions": ["stop"]}), "line 1"),
    ],
)
def test_bad_files_name_the_line(city, text, message):
    path = city / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        street(data=str(path))


def test_a_torn_archive_is_refused(city):
    path = city / "torn.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode() * 50)[:40])
    with pytest.raises(UsageError, match="cannot read"):
        street(data=str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"semantics": "touchdwn"}, "did you mean 'touchdown'"),
        ({"sensors": ("vectr",)}, "did you mean 'vector'"),
        ({"sensors": ()}, "at least one"),
        ({"sensors": ("panorama",)}, "panoramas=PATH"),
        ({"order": "random"}, "expected order"),
        ({"max_actions": 0}, "max_actions >= 1"),
        ({"data": "nowhere.jsonl"}, "which is none"),
        ({"graph": "paris"}, "unknown graph"),
        ({"style": "x"}, "expected style"),
        ({"split": "dev"}, "expected split"),
        ({"instruction_length": 8}, "instruction_length >="),
    ],
)
def test_bad_options_are_refused(city, options, message):
    with pytest.raises(UsageError, match=message):
        street(**options)


def test_bad_graphs_are_refused(city):
    xz = np.zeros((2, 2))
    for links, message in (
        ([[0, 90, 5]], "between panoramas"),
        ([[0, 360, 1]], "headings in"),
        ([[0, 9, 1], [0, 9, 1]], "different headings"),
    ):
        with pytest.raises(UsageError, match=message):
            StreetGraph(["a", "b"], xz, np.array(links))
    with pytest.raises(UsageError, match="different panorama ids"):
        StreetGraph(["a", "a"], xz, np.array([[0, 1, 1]]))
    (city / "touchdown" / "links.txt.gz").write_bytes(b"b,90\n")
    with pytest.raises(UsageError, match="expected 3 fields"):
        touchdown_graph()


def test_inside_a_polygon():
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    assert inside(np.array([0.5, 1.5, -0.1]), np.array([0.5, 0.5, 0.9]), square).tolist() == [True, False, False]
