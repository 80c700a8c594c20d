"""Two paths to an answer: one call when it is sure, a second with frames when it is not."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers import ImagePart, TextPart, make_answerer
from embodied_mem.stream.dual_path import DualPath, said_in


@pytest.fixture
def snapshot(stream, make):
    return stream.write(make("movie_chat", short_len=6, long_len=20)).snapshot()


@pytest.mark.parametrize(
    "reply, path",
    [("cup\nCONFIDENCE: 0.8", "fast"), ("cup\nCONFIDENCE: 0.6", "detailed"), ("surely a cup", "detailed")],
)
def test_confidence_decides_how_many_calls_are_made(snapshot, stream, reply, path):
    answerer = make_answerer("scripted", replies=(reply, "a red cup"))
    found = DualPath(answerer, top=1, margin_s=0.0).ask(snapshot, "what?", stream.centres[2])
    assert found.path == path and sum(found.calls.values()) == len(answerer.requests) == (1 if path == "fast" else 2)
    assert found.answer.text == ("cup" if path == "fast" else "a red cup")
    assert not any(isinstance(part, ImagePart) for part in answerer.requests[0].context)
    if path == "detailed":
        images = [part for part in answerer.requests[1].context if isinstance(part, ImagePart)]
        texts = [part for part in answerer.requests[1].context if isinstance(part, TextPart)]
        assert images and len(texts) < len(snapshot.entries)
        seed = texts[0]
        inside = stream.times[stream.scene == 2]
        assert inside[0] <= seed.t0 and seed.t1 <= inside[-1]
        assert found.spans == tuple((part.t0, part.t1) for part in texts)


def test_out_of_range_values_are_refused():
    for values in ({"fast": 1.5}, {"top": 0}, {"margin_s": -1.0}):
        with pytest.raises(UsageError, match="expected"):
            DualPath(make_answerer("echo"), **values)
    assert np.isfinite(DualPath(make_answerer("echo")).fast)


def test_a_cue_in_words_shows_the_frames_of_its_time_alone(stream, make):
    memory = make("full_history")
    for index in range(100):
        said = "said: put the red mug down" if index == 40 else "said: a mug" if index == 70 else ""
        memory.write(stream.tokens[index], float(stream.times[index]), stream.frames[index], said)
    answerer = make_answerer("scripted", replies=("no\nCONFIDENCE: 0.1", "a table"))
    found = DualPath(answerer, margin_s=0.8).ask(
        memory.snapshot(), "What is seen when they mention the red mug?", stream.centres[3]
    )
    seconds = [part.t for part in answerer.requests[1].context if isinstance(part, ImagePart)]
    near = [t for t in stream.times[:100] if abs(t - stream.times[40]) <= 0.8]
    assert seconds == pytest.approx(near) and 1 <= len(near) < 20 and found.answer.text == "a table"
    assert said_in(memory.snapshot().entries, "Where is the red mug?") == []
    assert [e.number for e in said_in(memory.snapshot().entries, "What is seen when she says mug?")] == [40, 70]
