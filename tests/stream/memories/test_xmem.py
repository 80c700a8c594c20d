"""Three stores over a stream: frames every so often, prototypes with exact times, an average of all."""

import numpy as np

SIZES = {"every": 2, "bank": {"work_max": 6, "work_min": 3, "protos": 4, "lt_max": 20, "top_k": 8}}


def test_stores_keep_their_sizes_and_the_first_frame(stream, make):
    memory = make("xmem", **SIZES)
    for index in range(150):
        # long tokens: distances are large beside 1, so that a prototype takes the values of its like
        memory.write(10 * stream.tokens[index], float(stream.times[index]), stream.frames[index])
        assert memory.stores["working"][0].number == 0 and len(memory.stores["working"]) <= 6
        assert len(memory.stores["long"]) <= 20
        assert all(e.number % 2 == 0 for name in ("working", "long") for e in memory.stores[name])
    assert len(memory.stores["long"]) == 20
    for proto in memory.stores["long"]:
        assert proto.t0 == proto.t1 == stream.times[proto.number]
        # a prototype is the mean of tokens like its own: nearer to its scene than to any other
        scene = stream.scene[proto.number]
        assert np.argmax(stream.centres @ proto.tokens[0]) == scene


def test_the_sensory_store_is_a_fading_average(stream, make):
    memory = stream.write(make("xmem", rate=0.25), 0, 30)
    expected = stream.tokens[0]
    for index in range(1, 30):
        expected = 0.75 * expected + 0.25 * stream.tokens[index]
    assert np.allclose(memory.stores["sensory"][0].tokens, expected, atol=1e-5)
    assert memory.stores["sensory"][0].weight == 30
