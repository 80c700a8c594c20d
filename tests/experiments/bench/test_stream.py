import numpy as np
import pytest

from embodied_mem import registry
from embodied_mem.evaluation.memory_sizes import SIZES
from embodied_mem.experiments.bench.stream import FIGURES, QUICK, TOKENS, WIDTH, ratio_of_sums, scenes


def test_every_memory_is_measured_and_stays_small(capsys):
    result = registry.get("bench", "stream")(quick=True)
    names = registry.names("stream_memory")
    assert set(result["tasks"]) == set(names) and set(FIGURES) <= set(result["metrics"])
    for name in names:
        found = {key: result["tasks"][name]["metrics"][key]["mean"] for key in (*FIGURES, "entries")}
        assert 0 <= found["snapshot_p95_ms"] < 50 and found["ratio_ingest_100k_over_1k"] > 0, name
        assert found["ratio_answer_10h_over_2min"] > 0, name
        assert found["entries"] >= (QUICK.entries if name in SIZES else 0), name
        assert result["metrics"][f"{name}_snapshot_p95_ms"]["mean"] == found["snapshot_p95_ms"]
    growth = {name: result["metrics"][f"ratio_{name}_bytes_100k_over_warm"]["mean"] for name in names}
    assert growth["full_history"] > 2 and growth["last_k"] == 1.0 == growth["none"]
    told = capsys.readouterr()
    assert not told.out and [line.split(",")[0].split()[1] for line in told.err.splitlines()] == names


def test_the_stream_is_the_same_every_time():
    assert (scenes(300) == scenes(300)).all() and scenes(300).shape == (300, TOKENS, WIDTH)


def test_a_clock_that_stands_still_for_a_while_does_no_harm():
    found = ratio_of_sums(np.array([[0.0, 2.0], [3.0, 0.0], [3.0, 2.0]]))
    assert found["mean"] == pytest.approx(1.5) and found["low"] <= 1.5 <= found["high"] and found["n"] == 3
    assert ratio_of_sums(np.zeros((4, 2)))["mean"] is None
