"""The timeline: frames kept, merged and let go add up, for every memory."""

import numpy as np
import pytest

from embodied_mem import registry
from embodied_mem.stream.memory import make_stream_memory
from embodied_mem.stream.web.timeline import BARS, Timeline, bars, counts


def write(memory, times):
    draw = np.random.default_rng(0)
    for t in times:
        memory.write(draw.standard_normal((2, 8)), float(t), np.full((4, 4, 3), t % 256, np.uint8))


@pytest.mark.parametrize("name", sorted(registry.names("stream_memory")))
def test_kept_merged_and_let_go_are_all_that_was_written(name):
    memory = make_stream_memory(name, **registry.meta("stream_memory", name).get("small", {}))
    timeline = Timeline()
    for start in range(0, 60, 15):
        write(memory, range(start, start + 15))
        drawn = timeline.look(memory.snapshot())
        parts = drawn["kept"], drawn["merged"], drawn["let_go"]
        assert sum(parts) == start + 15 == drawn["version"] and min(parts) >= 0, (name, parts)
        assert drawn["until_s"] == start + 14
        assert all(0 <= t0 <= t1 <= start + 14 for store in drawn["stores"] for t0, t1, *_ in store["bars"])


def test_what_leaves_was_let_go_and_what_joins_was_merged():
    memory, timeline = make_stream_memory("last_k", slots=3), Timeline()
    write(memory, range(3))
    timeline.look(memory.snapshot())
    write(memory, range(3, 5))
    drawn = timeline.look(memory.snapshot())
    assert [(e["what"], e["t0"]) for e in drawn["log"]] == [("let go", 0), ("let go", 1)]
    assert (drawn["kept"], drawn["merged"], drawn["let_go"]) == (3, 0, 2)
    memory, timeline = make_stream_memory("flash_vstream", csm_slots=4, pool=1), Timeline()
    for t in range(12):
        write(memory, [t])
        drawn = timeline.look(memory.snapshot())
    assert {e["what"] for e in drawn["log"]} == {"merged"} and drawn["log"][-1]["frames"] > 1
    assert drawn["merged"] > 0 == drawn["let_go"] and counts(memory.snapshot()) == (drawn["kept"], drawn["merged"], 0)


def test_nothing_new_tells_nothing_and_a_reset_begins_anew():
    memory, timeline = make_stream_memory("last_k", slots=3), Timeline()
    assert timeline.look(memory.snapshot())["until_s"] is None
    write(memory, range(5))
    first = timeline.look(memory.snapshot())
    assert timeline.look(memory.snapshot()) == first
    memory.reset()
    write(memory, range(2))
    assert timeline.look(memory.snapshot())["log"] == first["log"]


def test_many_entries_are_drawn_as_few_bars():
    memory = make_stream_memory("full_history")
    write(memory, range(1000))
    drawn = bars(memory.snapshot().entries)
    assert len(drawn) == BARS and sum(bar[2] for bar in drawn) == 1000 == sum(bar[3] for bar in drawn)
    assert drawn[0][0] == 0 and drawn[-1][1] == 999
