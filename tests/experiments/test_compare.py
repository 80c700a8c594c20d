"""Evaluations of the same episodes stand side by side; others are refused."""

from __future__ import annotations

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.experiments import compare, tables
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.results import make_result, metric


def result(success: float, **changes):
    metrics = {"success": metric(success, success - 0.05, success + 0.05, 200)}
    facts = {"seeds": [0], "episodes": 200, "env_steps": 10, "tasks": {"House": {"metrics": metrics}}, **changes}
    return make_result("eval", "suite", {"command_line": "embodied-mem eval suite"}, metrics, **facts)


def test_the_first_is_the_agent_and_the_others_its_columns(tmp_path):
    files = {"full": result(0.9), "window=0": result(0.4)}
    for index, content in enumerate(files.values()):
        atomic_write_json(tmp_path / f"{index}.json", content)
    out = tmp_path / "out.json"
    compare.main([str(out), *(f"{label}={tmp_path}/{index}.json" for index, label in enumerate(files))])
    text = tables.render(read_json(out))
    assert "| metric | agent | window=0 |" in text
    assert "| `success` | 0.9 [0.85, 0.95] | 0.4 [0.35, 0.45] |" in text and "is 'full'" in text
    assert read_json(out)["env_steps"] == 20


def test_controls_of_the_first_stay_beside_the_others():
    wiped = {"wiped:5": {"success": metric(0.2, 0.1, 0.3, 200)}}
    tasks = {"House": {"metrics": {"success": metric(0.9, 0.8, 1.0, 200)}, "controls": wiped}}
    joined = compare.compare({"bank": result(0.9, controls=wiped, tasks=tasks), "none": result(0.4)})
    assert list(joined["controls"]) == ["none", "wiped:5"] == list(joined["tasks"]["House"]["controls"])
    assert joined["tasks"]["House"]["controls"]["wiped:5"]["success"]["mean"] == 0.2


@pytest.mark.parametrize("changes", [{"seeds": [1]}, {"episodes": 100}, {"tasks": {"Other": {"metrics": {}}}}])
def test_other_episodes_are_refused(changes):
    with pytest.raises(UsageError, match="expected"):
        compare.compare({"a": result(0.9), "b": result(0.4, **changes)})


@pytest.mark.parametrize("arguments", [[], ["o.json", "a=x.json"], ["o.json", "a", "b"], ["o.json", "a=x", "a=y"]])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(UsageError, match="expected"):
        compare.main(arguments)


def test_a_missing_file_is_named():
    with pytest.raises(UsageError, match=r"no such file: nowhere\.json, none\.json"):
        compare.main(["o.json", "a=nowhere.json", "b=none.json"])
