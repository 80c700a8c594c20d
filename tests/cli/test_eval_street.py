"""The street suites through the command line: options of a suite, own splits, recorded rollouts, records, errors."""

import json

import pytest

from embodied_mem.cli.app import run
from embodied_mem.files import read_jsonl

COUNT = 12


@pytest.fixture
def street(tmp_path, monkeypatch):
    """A straight street p0 - p1 - ... with a side street at p5, as EMBODIED_MEM_DATA."""
    folder = tmp_path / "data" / "touchdown"
    folder.mkdir(parents=True)
    names = [f"p{k}" for k in range(COUNT)]
    nodes = [f"{name},90,40.73,{-74 + k * 1.2e-4}" for k, name in enumerate(names)] + ["q0,0,40.7301,-73.9994"]
    links = [line for a, b in zip(names, names[1:]) for line in (f"{a},90,{b}", f"{b},270,{a}")]
    (folder / "nodes.txt").write_text("\n".join([*nodes, "q1,0,40.7302,-73.9994"]))
    (folder / "links.txt").write_text("\n".join([*links, "p5,0,q0", "q0,180,p5", "q0,0,q1", "q1,180,q0"]))
    rows = [
        {"route_id": k, "route_panoids": names[k : k + 4], "start_heading": 90.0, "navigation_text": "Go straight."}
        for k in (1, 2, 3)
    ]
    (folder / "dev_unseen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("EMBODIED_MEM_DATA", str(tmp_path / "data"))
    return tmp_path


def evaluate(capsys, *arguments):
    code = run(["eval", *map(str, arguments), "--json"])
    out = capsys.readouterr()
    assert code == 0, out.err
    return json.loads(out.out)


def test_a_split_is_played_once_with_every_metric(street, capsys):
    out = street / "out"
    result = evaluate(capsys, "touchdown", "--agent", "teacher", "--split", "dev_unseen", "--controls", "--out", out)
    metrics = result["metrics"]
    assert {"tc", "spd", "sed", "ndtw", "sdtw", "ndtw_std", "cls", "kpa", "success", "stopped"} <= set(metrics)
    assert metrics["tc"] == metrics["success"] and metrics["tc"]["mean"] == metrics["kpa"]["mean"] == 1.0
    assert metrics["tc"]["n"] == 3 and metrics["actions"]["mean"] == 4.0
    assert result["controls"]["oracle"]["tc"]["mean"] == 1.0
    assert result["controls"]["wiped:8"] is result["controls"]["shuffled"] is None
    assert "keeps no local memory" in " ".join(result["notes"])
    rows = [row for row in read_jsonl(out / "episodes.jsonl") if row["condition"] == "agent"]
    assert sorted(row["id"] for row in rows) == [1, 2, 3]
    first = next(row for row in rows if row["id"] == 1)
    assert first["states"] == [["p1", 90], ["p2", 90], ["p3", 90], ["p4", 90], ["p4", 90]]
    assert first["metrics"]["spd"] == 0.0 and set(first["metrics"]) <= set(metrics)


def test_options_of_the_suite(street, capsys):
    own = street / "own.jsonl"
    row = {"id": "x", "route_panoids": ["p4", "p3", "p2"], "start_heading": 80, "navigation_text": ""}
    own.write_text(json.dumps(row))
    options = ("--agent", "forward", "--data", own, "--semantics", "velma", "--max-actions", 2)
    result = evaluate(capsys, "touchdown", *options, "--out", street / "out")
    assert result["metrics"]["actions"] == {**result["metrics"]["actions"], "mean": 2.0, "n": 1}
    assert result["config"]["tasks"][0]["kwargs"]["semantics"] == "velma"
    states = read_jsonl(street / "out" / "episodes.jsonl")[0]["states"]
    assert states == [["p4", 90], ["p5", 90], ["p6", 90]]


def test_recorded_rollouts(street, capsys):
    path = street / "rollouts.jsonl"
    rows = [
        {"id": "a", "start": ["p5", 90], "ref_path": ["p5", "q0"], "actions": ["left", "forward", "stop"]},
        {"id": "b", "start": ["p2", 0], "ref_path": ["p2", "p3"], "actions": ["forward"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = evaluate(capsys, "touchdown", "--agent", f"replay:{path}", "--out", street / "out")
    assert result["metrics"]["tc"]["n"] == 2 and result["metrics"]["stopped"]["mean"] == 0.5
    found = {row["id"]: row for row in read_jsonl(street / "out" / "episodes.jsonl")}
    assert found["a"]["states"] == [["p5", 90], ["p5", 0], ["q0", 0], ["q0", 0]]
    assert found["b"]["states"] == [["p2", 0], ["p2", 270]], "of two links as near, the first of the file"
    assert found["a"]["metrics"]["sed"] == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("touchdown", "--agent", "replay"), "replay:FILE"),
        (("touchdown", "--agent", "replay:none.jsonl"), "none.jsonl"),
        (("touchdown", "--agent", "stop", "--data", "none.jsonl"), "none.jsonl"),
        (("touchdown", "--agent", "stop", "--semantics", "x"), "unknown semantics 'x'"),
        (("touchdown", "--agent", "stop", "--max-actions", "many"), "--max-actions"),
        (("touchdown", "--agent", "stop", "--max-actions", "0"), "max_actions >= 1"),
        (("touchdown", "--agent", "stop", "--split", "dev_seen"), "dev_seen"),
        (("touchdown", "--agent", "stop", "--split", "test"), "no split 'test'"),
        (("map2seq", "--agent", "stop"), "map2seq"),
        (("probes", "--agent", "oracle", "--semantics", "velma"), "--semantics"),
        (("probes", "--agent", "stop", "--task", "passive-50"), "Street-v0"),
    ],
)
def test_errors_are_one_line_and_code_2(street, capsys, arguments, message):
    assert run(["eval", *arguments, "--out", str(street / "out"), "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and message in shown.err and shown.err.strip().count("\n") == 0
    assert not (street / "out").exists()


def test_the_help_of_a_suite_shows_its_options(capsys):
    assert run(["eval", "touchdown", "--help"]) == 0
    assert "--max-actions" in capsys.readouterr().out
    assert run(["eval", "--help"]) == 0
    assert "--max-actions" not in capsys.readouterr().out
