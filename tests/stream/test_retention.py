"""Six scenes of 200 to 20 frames, 500 in all, in twelve slots: memories that claim the long term lose none of them."""

import pytest

from embodied_mem import registry
from embodied_mem.evaluation.memory_sizes import SIZES
from embodied_mem.stream.memory import make_stream_memory

LENGTHS = [200, 100, 80, 60, 40, 20]
SLOTS = 12
CLAIM = [name for name in registry.names("stream_memory") if registry.meta("stream_memory", name).get("long_term")]


@pytest.fixture(scope="module", params=[LENGTHS, LENGTHS[::-1]], ids=["long first", "short first"])
def six(request, Scenes):
    stream = Scenes(request.param, tokens=4, width=64, noise=0.2 * 8, seed=1)
    # centres of unit variance per number, as the noise is of 0.2
    stream.tokens += 7 * stream.centres[stream.scene][:, None]
    return stream


def held(name, stream):
    """Return the scenes of which the memory holds something that is theirs alone, and the times it recalls."""
    memory = make_stream_memory(name, **SIZES[name](SLOTS))
    stream.write(memory)
    spans = memory.read().times.tolist()
    scene = dict(zip(stream.times.tolist(), stream.scene.tolist()))
    return {scene[t0] for t0, t1 in spans if scene[t0] == scene[t1]}, {t for span in spans for t in span}


@pytest.mark.parametrize("name", CLAIM)
def test_no_scene_is_lost(name, six):
    own, times = held(name, six)
    assert own == set(range(6)), name
    assert times <= set(six.times.tolist()), "times are exactly those of frames"


def test_memories_of_the_present_lose_some(six):
    assert set(CLAIM) == {"flash_vstream", "movie_chat", "omnilive", "hippomm", "sparse_events"}
    for name in ("last_k", "slot_buffer", "uniform", "reservoir"):
        assert held(name, six)[0] != set(range(6)), name
