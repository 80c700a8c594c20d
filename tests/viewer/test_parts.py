"""Parts of the report: curves over seeds, attention by step, the map, the verdict."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.viewer.curves import curve, panel
from embodied_mem.viewer.forest import percent, verdict
from embodied_mem.viewer.load import TrainRun
from embodied_mem.viewer.pictures import as_frames, data_uri, ramp, scan_image, sprite
from embodied_mem.viewer.reads import attention, heats, main_heat, strongest
from embodied_mem.viewer.svg import short, tag, ticks
from embodied_mem.viewer.topdown import draw_map, segments


def run_of(*seeds, tmp="."):
    rows = {f"seed{i}": [{"env_steps": x, "m": y} for x, y in seed] for i, seed in enumerate(seeds)}
    return TrainRun("run", tmp, rows, {})


def test_seeds_are_joined_at_common_steps():
    found = curve(run_of([(0, 0.0), (10, 1.0)], [(0, 1.0), (5, 1.0), (20, 1.0)]), "m", 0)
    assert found.x[0] == 0 and found.x[-1] == 10
    assert found.mean[-1] == pytest.approx(1.0) and found.mean[0] == pytest.approx(0.5)
    assert found.low[0] == 0.0 and found.high[0] == 1.0


def test_gaps_and_short_runs():
    assert curve(run_of([(0, None), (10, None)]), "m", 0) is None
    assert curve(run_of([(0, 1.0)]), "m", 0) is None
    flat = curve(run_of([(0, 2.0), (5, None), (10, 2.0)]), "m", 0)
    assert "NaN" not in panel([flat], "flat", rate=False) and flat.mean[0] == 2.0


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 9))
def test_ticks_are_round_ordered_and_inside(low, span, count):
    found = ticks(low, low + span, count)
    assert found == sorted(set(found)) and len(found) <= 2 * count + 2
    assert all(low - 1e-6 * span - 1e-9 <= value <= low + span * (1 + 1e-6) + 1e-9 for value in found)


def test_small_helpers():
    assert tag("text", "a", class_="b", x=1.0, y=None) == '<text class="b" x="1">a</text>'
    assert tag("a", title='"<') == '<a title="&quot;&lt;"/>'
    assert [short(value) for value in (0.5, 12345.0, -2e6)] == ["0.5", "12.3k", "-2M"]
    assert (
        percent(0.5) == "50\u00a0%"
        and percent(0.055) == "5.5\u00a0%"
        and percent(1.0) == "100\u00a0%"
        and percent(0.995) == "99.5\u00a0%"
    )


def test_attention_goes_to_the_step_that_was_written():
    weights = np.array([[0.0, 0.0], [1.0, 0.0], [0.25, 0.75]])
    age = np.array([[-1, -1], [1, -1], [2, 1]])
    assert attention(weights, age, 3).tolist() == [[0, 0, 0], [1, 0, 0], [0.25, 0.75, 0]]


def test_influence_between_decisions_shows_the_last_one():
    arrays = {
        "reward": np.zeros(4),
        "influence": np.array([[1.0, 0, 0, 0], [1.0, 2.0, 3.0, 9.0]]),
        "influence_steps": np.array([0, 2]),
    }
    heat = heats(arrays)["influence"]
    assert heat[1].tolist() == [1, 0, 0, 0] and heat[2].tolist() == [1, 2, 3, 0] and heat[3].tolist() == [1, 2, 3, 9]
    assert heats({"reward": np.zeros(4)}) == {}


def test_strongest_reads_are_shares():
    found = strongest(np.array([[0.0, 0.0, 0.0], [3.0, 1.0, 0.0]]), count=2)
    assert found == [[], [[0, 0.75], [1, 0.25]]]


def test_the_way_breaks_where_the_agent_is_set_down_and_where_the_phase_changes():
    steps = [{"phase": "a"}, {"phase": "a"}, {"phase": "b"}, {"phase": "b"}, {}]
    way = [(0.0, 0.0), (0.25, 0.0), (0.5, 0.0), (5.0, 5.0), None]
    assert segments(way, steps) == [
        ("a", [(0.0, 0.0), (0.25, 0.0)]),
        ("b", [(0.25, 0.0), (0.5, 0.0)]),
        ("b", [(5.0, 5.0)]),
    ]


def test_a_map_from_positions_alone():
    assert draw_map({}, [{}]) is None
    drawing = draw_map({}, [{"xz": [0, 0]}, {"xz": [0.25, 0]}])
    assert drawing.startswith("<svg") and 'class="way"' in drawing


def test_pictures():
    frames = np.zeros((14, 4, 6, 3), np.uint8)
    assert sprite(frames).shape == (8, 72, 3)
    assert as_frames(np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)).shape == (3, 4, 5, 3)
    assert scan_image(np.ones((5, 8, 3))).shape == scan_image(np.ones((5, 8, 1))).shape == (5, 8, 3)
    assert ramp(np.array([0.0, 1.0, np.nan])).shape == (3, 3)
    assert data_uri(frames[0]).startswith("data:image/png;base64,")
    assert data_uri(frames[0], "jpg").startswith("data:image/jpeg;base64,")


def rate(mean, low, high):
    return {"success": {"mean": mean, "low": low, "high": high, "n": 100}}


def test_the_verdict_follows_the_intervals():
    agent = rate(0.9, 0.85, 0.94)
    won = verdict(agent, {"none": rate(0.3, 0.2, 0.4), "oracle": rate(1.0, 0.98, 1.0), "shuffled": None})
    assert "90\u00a0%" in won and "No interval overlaps" in won and "at most 30\u00a0%" in won
    tied = verdict(agent, {"none": rate(0.8, 0.7, 0.88), "wiped:5": rate(0.3, 0.2, 0.4)})
    assert "The interval of <em>none</em> reaches" in tied
    assert "says nothing about memory" in verdict(agent, {"oracle": rate(1.0, 0.98, 1.0)})
    assert "no success rate" in verdict({}, {})


def test_a_sequence_of_goals_is_numbered_and_coloured():
    box = {"class": "Bed", "position": [1, 0, 1], "size": [1, 1, 1], "rgb": [1, 2, 3]}
    scene = {"bounds": [0, 0, 4, 4], "boxes": [box, box], "targets": [[0], [1], [0]]}
    drawing = draw_map(scene, [{"xz": [0, 0], "found": 0}, {"xz": [0.2, 0], "found": 0}, {"xz": [0.4, 0], "found": 1}])
    assert ">1, 3</text>" in drawing and ">2</text>" in drawing
    assert "way p-0" in drawing and "way p-1" in drawing


def test_memories_with_parts_show_each():
    read = {"weights": np.array([[0.0], [1.0]]), "age": np.array([[-1.0], [1.0]])}
    arrays = {f"read_{part}/{key}": value for part in ("working", "episodic") for key, value in read.items()}
    found = heats({"reward": np.zeros(2), **arrays, "read_weights": read["weights"], "read_age": read["age"]})
    assert list(found) == ["attention working", "attention episodic"]
    assert main_heat(found) is found["attention episodic"] and main_heat({}) is None
