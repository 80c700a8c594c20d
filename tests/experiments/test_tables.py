"""The tables in the docs come from the committed result files and are up to date."""

import pytest

from embodied_mem.experiments import tables
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.results import make_result, metric

JSONS = sorted(tables.RESULTS.glob("*.json"))


def result():
    return make_result(
        "eval",
        "probes",
        {},
        {"success": metric(0.9, 0.85, 0.93, 200, "wilson95")},
        seeds=[0, 1],
        episodes=200,
        controls={"none": {"success": metric(0.25, 0.2, 0.31, 200)}, "wiped:5": None},
        notes=["wiped: agent holds no local memory"],
    )


def test_render_puts_the_agent_beside_its_controls():
    text = tables.render(result())
    assert "| `success` | 0.9 [0.85, 0.93] | 0.25 [0.2, 0.31] |" in text
    assert "seeds 0, 1" in text and "- wiped:" in text


def test_update_writes_only_what_changed(tmp_path):
    atomic_write_json(tmp_path / "a.json", result())
    assert [path.name for path in tables.update(tmp_path)] == ["a.md"]
    assert tables.update(tmp_path) == []


@pytest.mark.parametrize("path", JSONS, ids=lambda path: path.stem)
def test_committed_tables_are_fresh(path):
    text = path.with_suffix(".md").read_text(encoding="utf-8")
    assert text == tables.render(read_json(path)), "run python -m embodied_mem.experiments.tables"


def test_results_hold_only_finite_numbers():
    assert make_result("bench", "x", {}, {"a": float("nan")})["metrics"]["a"]["mean"] is None
