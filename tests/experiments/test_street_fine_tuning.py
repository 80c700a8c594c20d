"""Fine-tuning of street agents: the paired gain, the table, and work that is kept."""

import json

import pytest

from embodied_mem.experiments import street_fine_tuning as tuning
from embodied_mem.experiments import tables
from embodied_mem.results import metric


def found(rate, control):
    metrics = {name: metric(rate, 0.0, 1.0, 4, "wilson95") for name in (*tuning.SHOWN, "cls")}
    return {"metrics": metrics, "controls": control, "episodes": 4, "env_steps": 100}


def test_the_table_has_the_agent_before_and_after_and_the_paired_gain():
    old = {(0, 0): 0.0, (0, 1): 0.0, (0, 2): 1.0, (0, 3): 0.0}
    new = {(0, 3): 1.0, (0, 1): 1.0, (0, 2): 1.0, (0, 0): 0.0}
    disturbed = {"wiped:1": {name: metric(0.0) for name in tuning.SHOWN}, "shuffled": None}
    suites = {"synthetic map2seq": {"fine-tuned": (found(0.75, disturbed), new), "imitation": (found(0.25, {}), old)}}
    result = tuning.table(suites, {"seeds": [0], "command_line": "x"}, 12.0)
    assert result["metrics"]["synthetic_map2seq_tc"]["mean"] == 0.75
    gain = result["metrics"]["synthetic_map2seq_gain"]
    assert gain["mean"] == 0.5 and gain["n"] == 4 and gain["interval"] == "paired_bootstrap95_mean"
    columns = result["tasks"]["synthetic map2seq"]["controls"]
    assert set(columns) == {"imitation", "fine-tuned, wiped:1"} and columns["imitation"]["tc"]["mean"] == 0.25
    assert "cls" not in columns["imitation"] and result["env_steps"] == 200
    assert "| `tc` | 0.75 [0, 1] | 0.25 [0, 1] | 0 |" in tables.render(result)


def test_checkpoints_are_paired_with_themselves():
    old = {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 1.0}
    new = {(0, 0): 1.0, (0, 1): 1.0, (1, 0): 0.0, (1, 1): 1.0}
    assert [part[0].tolist() for part in tuning.paired(new, old)] == [[1.0, 0.0], [-1.0, 0.0]]


def test_what_is_there_is_not_made_again(tmp_path, monkeypatch):
    work, out = tmp_path / "work", tmp_path / "out.json"
    for stage in tuning.PRESETS:
        seed = work / stage / "run0" / "seed0"
        (seed / "agent").mkdir(parents=True)
        (seed / "agent" / "agent.json").write_text("{}")
        (seed / "result.json").write_text(json.dumps({"cpu_seconds": 3.0}))
        for name in (*tuning.HUMAN, *tuning.SYNTHETIC):
            folder = work / stage / name.replace(" ", "-")
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(found(0.5, {})))
            rows = [
                {"condition": condition, "checkpoint": 0, "episode": k, "metrics": {"tc": k % 2}}
                for condition in ("agent", "shuffled")
                for k in range(4)
            ]
            (folder / "episodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("train", "evaluate"):
        monkeypatch.setattr(tuning, name, lambda *_, **__: pytest.fail("made again"))
    words = ["--work", str(work), "--out", str(out), "--tuning", "lr=1e-5"]
    tuning.main(words)
    result = tables.read_json(out)
    assert set(result["tasks"]) == {*tuning.HUMAN, *tuning.SYNTHETIC} and result["seconds"] == 6.0
    assert result["metrics"]["touchdown_gain"]["mean"] == 0 and str(tmp_path) not in out.read_text()
    assert result["config"]["changes"]["fine-tuned"] == {"lr": 1e-5}
    assert result["config"]["command_line"].endswith("--tuning lr=1e-5")
