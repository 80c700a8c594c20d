"""Chunk memory: a needle's chunk is found, chunks are rings of whole chunks."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.hcam import coarse


def test_a_noisy_copy_of_a_chunk_mean_finds_its_chunk():
    draw, hits = np.random.default_rng(0), 0
    for _ in range(200):
        chunks = draw.standard_normal((32, 16, 64)).astype(np.float32)
        place = int(draw.integers(32))
        query = chunks.mean(1)[place] + 0.05 * draw.standard_normal(64).astype(np.float32)
        hits += coarse(chunks.mean(1), query, 1)[0][1] == place
    assert hits >= 198


def test_equal_chunks_give_the_latest_and_weights_sum_to_one():
    found = coarse(np.ones((5, 4), np.float32), np.ones(4, np.float32), 3)
    assert [place for _, place in found] == [4, 3, 2] and sum(w for w, _ in found) == pytest.approx(1)


def test_frames_of_the_best_chunks_come_first(Scenes, make):
    stream = Scenes([8] * 6, tokens=2, width=16, noise=0.1)
    memory = stream.write(make("hcam", chunk=8, chunks=6, top_k=1))
    found = memory.read(stream.centres[3], budget=16)
    inside = stream.times[stream.scene == 3]
    assert found.times[:, 0].unique().tolist() == inside.tolist()


def test_the_ring_holds_whole_chunks(stream, make):
    memory = make("hcam", chunk=7, chunks=3)
    for index in range(100):
        stream.write(memory, index, index + 1)
        numbers = [e.number for name in ("frames", "open") for e in memory.stores[name]]
        assert numbers == list(range(max(0, ((index + 1) // 7 - 3) * 7), index + 1))
        assert [s.number % 7 for s in memory.stores["summaries"]] == [0] * len(memory.stores["summaries"])


def test_surprise_ends_a_chunk(stream, make):
    events = {"min_len": 3, "max_len": 30}
    memory = stream.write(make("hcam", chunk=30, chunks=20, boundary="surprise", surprise=events))
    starts = np.flatnonzero(np.diff(stream.scene)) + 1
    assert set(starts) <= {s.number for s in memory.stores["summaries"]} | {memory.stores["open"][0].number}
    with pytest.raises(UsageError, match="max_len <= chunk = 16"):
        make("hcam", boundary="surprise", surprise={"max_len": 40})
