"""R2R and RxR files on a small made-up building: the graph, its episodes, the walks and their metrics."""

import gzip
import json
import math

import numpy as np
import pytest

from embodied_mem.envs.street.env import BatchedStreet
from embodied_mem.envs.street.indoor import read_indoor
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate

# Hall h, kitchen k to its east, stairs s to its north, landing l above, and a cupboard that the files leave out.
PLACES = {"h": (0, 0, 1.5), "k": (4, 0, 1.5), "s": (0, 3, 1.5), "l": (0, 6, 4.5), "x": (9, 9, 1.5)}
DOORS = [("h", "k"), ("h", "s"), ("s", "l"), ("l", "x")]


def view(name):
    x, y, z = PLACES[name]
    joined = {b if a == name else a for a, b in DOORS if name in (a, b)}
    return {
        "image_id": name,
        "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
        "included": name != "x",
        "unobstructed": [other in joined for other in PLACES],
        "height": 1.5,
    }


R2R = [
    {
        "scan": "home", "path_id": 7, "path": ["h", "s", "l"], "heading": math.pi / 2,
        "instructions": ["Go up the stairs.", "Upstairs, please."],
    },
    {"scan": "home", "path_id": 8, "path": ["k", "h"], "heading": 0.0, "instructions": ["To the hall."]},
]  # fmt: skip


@pytest.fixture
def home(tmp_path):
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "home_connectivity.json").write_text(json.dumps([view(name) for name in PLACES]))
    (tmp_path / "r2r.json").write_text(json.dumps(R2R))
    return tmp_path


def test_the_building_becomes_a_graph_with_headings(home):
    graph, episodes = read_indoor(home / "r2r.json", home / "graphs")
    assert graph.names == ["home/h", "home/k", "home/s", "home/l"]
    assert graph.link_heading(0, 1) == 90 and graph.link_heading(0, 2) == 0 and graph.link_heading(2, 0) == 180
    assert graph.out_degree.tolist() == [2, 1, 2, 1]
    assert episodes.ids == ["7_0", "7_1", "8_0"] and episodes.heading.tolist() == [90, 90, 0]
    assert episodes.route[0].tolist() == [0, 2, 3] and episodes.texts[2] == "To the hall."


def test_rxr_lines_are_read_too(home):
    row = {"scan": "home", "path": ["h", "k"], "heading": 0.1, "instruction_id": 5, "instruction": "Kitchen."}
    (home / "rxr.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    _, episodes = read_indoor(home / "rxr.jsonl.gz", home / "graphs")
    assert episodes.ids == [5] and episodes.heading.tolist() == [6] and episodes.texts == ["Kitchen."]


def test_links_that_share_a_heading_are_told_apart(tmp_path):
    places = {"a": (0, 0, 0), "b": (0, 1, 0), "c": (0, 2, 0)}
    views = [
        {"image_id": name, "pose": [0, 0, 0, x, 0, 0, 0, y, 0, 0, 0, z], "included": True, "unobstructed": [1, 1, 1]}
        for name, (x, y, z) in places.items()
    ]
    (tmp_path / "s_connectivity.json").write_text(json.dumps(views))
    (tmp_path / "e.json").write_text(json.dumps([{"scan": "s", "path": ["a", "c"], "instructions": ["x"]}]))
    graph, _ = read_indoor(tmp_path / "e.json", tmp_path)
    assert graph.link_heading(0, 1) == 0 and graph.link_heading(0, 2) == 1


def test_dead_ends_can_be_entered_and_are_scored_in_metres(home):
    env = BatchedStreet(
        1, data=str(home / "r2r.json"), connectivity=home / "graphs", order="listed", record=True,
        autoreset_mode="DISABLED",
    )  # fmt: skip
    assert env.semantics == "indoor" and env.actions == ("forward", "left", "right", "stop")
    env.reset(seed=0, options={"episode": np.array([0])})
    for action in (1, 0, 0, 3):
        _, _, terminated, _, info = env.step(np.array([action]))
    climb = math.hypot(3, 3)
    assert terminated[0] and info["sr"][0] == info["spl"][0] == info["ndtw"][0] == 1.0
    assert info["pl"][0] == pytest.approx(3 + climb) and info["ne"][0] == 0.0
    assert info["states"][0][-1] == ["home/l", 180]


def test_agents_and_metrics_of_the_suite(home):
    options = {"data": str(home / "r2r.json"), "connectivity": str(home / "graphs")}
    best = evaluate("teacher", "indoor-vln", env_options=options)
    assert best["metrics"]["success"]["mean"] == best["metrics"]["spl"]["mean"] == 1.0
    assert best["metrics"]["sr"]["n"] == 3 and {"ne", "oracle_ne", "osr", "ndtw", "sdtw", "cls", "pl"} <= set(
        best["metrics"]
    )
    idle = evaluate("stop", "indoor-vln", env_options=options)
    assert idle["metrics"]["sr"]["mean"] == 0.0 and idle["metrics"]["ne"]["mean"] == pytest.approx(
        (2 * (3 + 18**0.5) + 4) / 3
    )
    with pytest.raises(UsageError, match="beside connectivity"):
        evaluate("stop", "indoor-vln")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scan": "villa"}, "villa_connectivity.json"),
        ({"path": ["h", "x"]}, "viewpoints that home lacks"),
        ({"path": ["h", "l"]}, "not connected"),
        ({"path": []}, "viewpoints that home lacks"),
        ({"heading": "east"}, "'heading' in radians"),
        ({"instructions": []}, "list of texts"),
        ({"scan": 3}, "expected 'scan' as str"),
    ],
)
def test_bad_episodes_are_named(home, change, message):
    (home / "bad.json").write_text(json.dumps([{**R2R[0], **change}]))
    with pytest.raises(UsageError, match=message):
        read_indoor(home / "bad.json", home / "graphs")


def test_bad_files_are_refused(home):
    (home / "graphs" / "home_connectivity.json").write_text('[{"image_id": "h"}]')
    with pytest.raises(UsageError, match="no connectivity file"):
        read_indoor(home / "r2r.json", home / "graphs")
    for text, message in (("[1]", "expected an object"), ("[", "not valid JSON"), ("", "no episodes")):
        (home / "bad.json").write_text(text)
        with pytest.raises(UsageError, match=message):
            read_indoor(home / "bad.json", home / "graphs")
