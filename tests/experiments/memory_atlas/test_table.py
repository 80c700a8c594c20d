"""The table, its Markdown and its page, from records that no training made."""

import re

import pytest

from embodied_mem.experiments import tables
from embodied_mem.experiments.memory_atlas.cell import learning_curve
from embodied_mem.experiments.memory_atlas.probes import PROBES
from embodied_mem.experiments.memory_atlas.table import make_table
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.viewer.atlas.heatmap import heatmap
from embodied_mem.viewer.atlas.page import render
from embodied_mem.viewer.atlas.scatter import Dot, scatter


def test_scores_have_intervals_over_seeds(table):
    item = table["metrics"]["gru_retention_score"]
    assert item["n"] == 3 and item["interval"] == "bootstrap95_mean_checkpoints"
    assert item["low"] < item["mean"] < item["high"] and item["mean"] == pytest.approx(0.8, abs=0.02)
    assert table["tasks"]["repeat_first"]["metrics"]["gru_return"]["mean"] == pytest.approx(0.7, abs=0.03)


def test_one_probe_counts_for_both_of_its_abilities(table):
    scores = table["atlas"]["ability_scores"]["gru"]
    assert scores["association"] == scores["rewriting"]
    assert list(scores) == ["retention", "rewriting", "association"]
    assert table["atlas"]["leaders"]["retention"] == ["gru"]


def test_nobody_leads_where_nothing_was_learned(plan, record):
    result = make_table(plan, [record(cell, -0.2) for cell in plan.cells])
    assert result["atlas"]["leaders"]["retention"] == []


def test_missing_cells_are_said(plan, record):
    result = make_table(plan, [record(plan.cells[0], 0.5), record(plan.cells[3], 0.5)])
    assert result["atlas"]["cells"] == {"done": 2, "planned": 12}
    assert "10 of 12 cells have not been run" in result["notes"]
    # A mean over some of the abilities could not be compared with one over all.
    assert [item["mean_score"] for item in result["atlas"]["memories"].values()] == [None, None]
    assert "gru, association: not run" in render(result)
    assert "No memory has been run on every probe yet" in render(make_table(plan, []))


def test_the_committed_table_is_rendered_by_the_same_markdown(table, tmp_path):
    atomic_write_json(tmp_path / "memory_atlas.json", table)
    assert [path.name for path in tables.update(tmp_path)] == ["memory_atlas.md"]
    text = (tmp_path / "memory_atlas.md").read_text()
    assert re.search(r"\| `gru` \| 0\.\d\d \[0\.\d\d, 0\.\d\d\] \|", text)
    assert text == tables.render(read_json(tmp_path / "memory_atlas.json"))


def test_the_page_is_one_file_with_every_memory_and_probe(table):
    page = render(table)
    assert not re.search(r"(src|href)=|url\(|@import", page)
    for word in ("gru", "none", "repeat_first", "association", "CPU-seconds"):
        assert word in page
    assert page.count('class="panel"') == 4 and page.count('class="heatmap"') == 2


def test_heat_is_clipped_and_figures_are_not():
    drawn = heatmap({"a": {"x": {"mean": -0.4, "n": 1}, "y": {"mean": 1.2, "n": 1}, "z": {"mean": None}}}, "xyz")
    assert 'fill-opacity="0.000"' in drawn and 'fill-opacity="1.000"' in drawn
    assert "−0.40" in drawn and "1.20" in drawn and 'class="empty"' in drawn


def test_labels_of_a_scatter_do_not_cover_each_other():
    dots = [Dot(f"memory_{index}", index, 1.0 + 0.001 * index, 0.5) for index in range(6)]
    places = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name"', scatter(dots, "ms"))
    assert len(set(places)) == 6


def test_a_curve_keeps_its_last_point():
    rows = [{"cpu_seconds": i / 10, "env_steps": i, "return_mean": None if i < 3 else 1.0} for i in range(500)]
    curve = learning_curve(rows, PROBES["tmaze_500"])
    assert len(curve["score"]) == 60 and curve["env_steps"][-1] == 499 and set(curve["score"]) == {1.0}
