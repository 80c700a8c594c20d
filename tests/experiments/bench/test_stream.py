from embodied_mem import registry
from embodied_mem.experiments.bench.stream import FIGURES, TOKENS, WIDTH, scenes


def test_every_memory_is_measured_and_stays_small():
    result = registry.get("bench", "stream")(quick=True)
    names = registry.names("stream_memory")
    assert set(result["tasks"]) == set(names) and set(FIGURES) <= set(result["metrics"])
    for name in names:
        found = {key: result["tasks"][name]["metrics"][key]["mean"] for key in FIGURES}
        assert 0 <= found["snapshot_p95_ms"] < 50 and found["ratio_ingest_100k_over_1k"] > 0, name
        assert found["ratio_answer_10h_over_2min"] > 0, name
        assert result["metrics"][f"{name}_snapshot_p95_ms"]["mean"] == found["snapshot_p95_ms"]
    growth = {name: result["metrics"][f"ratio_{name}_bytes_100k_over_warm"]["mean"] for name in names}
    assert growth["full_history"] > 4 and growth["last_k"] == 1.0 == growth["none"]


def test_the_stream_is_the_same_every_time():
    assert (scenes(300) == scenes(300)).all() and scenes(300).shape == (300, TOKENS, WIDTH)
