import gzip
import io
import json
import sys

import pytest

from embodied_mem.experiments.bench import sim, sim_peers


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(sim, "WARM_UP", 5)
    monkeypatch.setattr(sim, "ROWS", 2)
    monkeypatch.setattr(sim, "SIZE", 16)


def test_walk_counts_frames():
    walk = sim.Walk(2)
    ticks = iter(range(100))
    assert walk.rate(2, lambda: float(next(ticks))) == pytest.approx(20 * 2 / 2)
    boxes = sim._boxes(walk)
    assert boxes["high"] <= 40 and boxes["n"] <= 2
    assert all(plan.num_rooms == 4 for plan in walk.env.unwrapped.library.plans)


def test_largest_houses_are_chosen(tmp_path, monkeypatch):
    folder = tmp_path / "procthor"
    folder.mkdir()
    lines = [json.dumps({"rooms": [0] * k, "objects": [{"assetId": "x"}] * k}) for k in range(1, 8)]
    with gzip.open(folder / "houses_sample.jsonl.gz", "wt") as stream:
        stream.write("\n".join(lines) + "\n")
    monkeypatch.setenv("EMBODIED_MEM_DATA", str(tmp_path))
    notes = []
    with gzip.open(sim._largest_houses(tmp_path, notes), "rt") as stream:
        assert [len(json.loads(line)["rooms"]) for line in stream] == [7, 6, 5, 4]
    assert "4 to 7 rooms" in notes[0]


def test_missing_data_and_peers_give_null_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBODIED_MEM_DATA", "")
    notes = []
    assert sim._largest_houses(tmp_path, notes) is None
    assert sim._start_peer("no_such_simulator", "sim_worker", notes) is None
    assert "set EMBODIED_MEM_DATA" in notes[0] and "not installed" in notes[1]


def test_result_has_every_key_without_peers_and_data(monkeypatch):
    monkeypatch.setenv("EMBODIED_MEM_DATA", "")
    monkeypatch.setattr(sim, "_start_peer", lambda name, module, notes: None)
    monkeypatch.setattr(sim, "_start", lambda module, *arguments: FakeProcess())
    result = sim.run(quick=True)
    metrics = result["metrics"]
    for key in ("frames_per_core_second", "frames_per_second", "boxes_per_plan"):
        assert metrics[key]["mean"] > 0
    for key in ("frames_per_core_second_procthor", "ratio_frames_over_miniworld", "ratio_frames_over_memory_maze"):
        assert metrics[key]["mean"] is None
    json.dumps(result, allow_nan=False)


class FakeProcess:
    """Answers every question with 1,000 frames per second."""

    def __init__(self):
        self.stdin, self.stdout = io.StringIO(), io.StringIO("ready\n1000.0 0.5\n1000.0 0.5\n")

    def wait(self, timeout=None):
        return 0


def test_peer_reports_why_it_cannot_start(monkeypatch, capfd):
    def broken():
        raise RuntimeError("no EGL here\nsecond line")

    monkeypatch.setattr(sys, "stdin", io.StringIO("0.1\n"))
    sim_peers.serve(broken)
    assert capfd.readouterr().out == "RuntimeError: no EGL here\n"
