"""Backtracking: what only a closer look shows is found in a few steps, within a budget, whatever a model says."""

import json
import re

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers import make_answerer
from embodied_mem.stream.answerers.base import Answer, Answerer, Capabilities
from embodied_mem.stream.answerers.plain import NoConfig
from embodied_mem.stream.backtracking import Backtracker

FACT_S = 1234.0
"""Second of an hour at which the cat is there."""


@pytest.fixture(scope="module")
def hour():
    """One frame per second for an hour; the second is written in the picture."""
    from embodied_mem.stream.memory import make_stream_memory

    memory = make_stream_memory("videolucy", nodes=4000, spans=(60.0, 10.0, 1.0))
    for t in range(3600):
        image = np.array([t // 256, t % 256, 0], np.uint8).reshape(1, 1, 3)
        memory.write(np.eye(4, dtype=np.float32)[[int(t == FACT_S)]] + 0.01, float(t), image)
    return memory.snapshot()


class Camera:
    """A captioner that sees the cat only in at most ten frames."""

    def __init__(self):
        self.calls, self.instructions = [], []

    def __call__(self, frames, instruction):
        times = [part.t for part in frames]
        self.calls.append(times)
        self.instructions.append(instruction)
        near = any(abs(t - FACT_S) < 6 for t in times) and times[-1] - times[0] < 10
        return "a cat on the sofa" if near else "a room"


class Reasoner(Answerer):
    """Sure once somebody saw a cat; looks where it is told to."""

    Config = NoConfig
    capabilities = Capabilities()

    def __init__(self, period=(1200, 1259), periods=None, broken=(), sure=True):
        super().__init__(NoConfig())
        self.period, self.periods, self.broken, self.sure, self.asked = period, periods, broken, sure, []

    def reply(self, request):
        kind = next((k for k in ("confident", "periods", "instruction") if k in request.question), "forced")
        self.asked.append((kind, request))
        if kind in self.broken:
            return Answer("I would rather not say {")
        seen = any("cat" in part.text for part in request.context)
        if kind == "confident":
            return Answer(json.dumps({"answer": "a cat" if seen else "?", "confident": seen and self.sure}))
        if kind == "periods":
            return Answer(json.dumps({"some": bool(self.periods), "periods": self.periods or []}))
        if kind == "instruction":
            return Answer("Well: " + json.dumps({"period": list(self.period), "instruction": "look for an animal"}))
        return Answer("perhaps a cat" if seen else "no idea")

    def kinds(self):
        return [kind for kind, _ in self.asked]


def test_a_fact_of_ten_seconds_is_found_in_few_steps(hour):
    camera, reasoner = Camera(), Reasoner()
    found = Backtracker(reasoner, camera).ask(hour, "Which animal is there?")
    assert found.answer.text == "a cat" and found.confident and not found.forced
    assert len(found.opened) <= 3 and found.counts.captions == len(camera.calls) <= 60 + 2 * (1 + 6)
    assert found.opened[0].t0 == 1200 and "look for an animal" in camera.instructions
    assert found.answer.spans == tuple((node.t0, node.t1) for node in found.opened)
    assert all(len(times) <= 20 for times in camera.calls)


def test_a_second_question_describes_the_hour_no_more(hour):
    camera = Camera()
    tracker = Backtracker(Reasoner(), camera)
    tracker.ask(hour, "Which animal is there?")
    before = len(camera.calls)
    assert tracker.ask(hour, "Which animal is there?").counts.captions == len(camera.calls) - before == 7


def test_one_that_is_sure_at_once_looks_no_closer(hour):
    class Sure(Reasoner):
        def reply(self, request):
            self.asked.append(("confident", request))
            return Answer('{"answer": "B", "confident": true}')

    reasoner, camera = Sure(), Camera()
    found = Backtracker(reasoner, camera).ask(hour, "Which room?", options=["hall", "kitchen"])
    assert found.answer.choice == 1 and len(reasoner.asked) == 1 and len(camera.calls) == 60 and not found.opened


def test_one_that_is_never_sure_opens_as_many_as_allowed_and_is_forced_once(hour):
    reasoner = Reasoner(sure=False)
    found = Backtracker(reasoner, Camera(), max_steps=4).ask(hour, "Which animal is there?")
    assert found.forced and found.answer.text == "perhaps a cat"
    assert len(found.opened) == 4 == len(set(found.opened)), "the same period is asked for, never the same node opened"
    assert reasoner.kinds() == ["confident", "periods", *["instruction", "confident"] * 4, "forced"]
    assert {node.depth for node in found.opened} == {0, 1}


@pytest.mark.parametrize("query", [np.eye(4, dtype=np.float32)[1], None])
def test_replies_that_cannot_be_read_are_asked_for_once_more_then_similarity_decides(hour, query):
    reasoner = Reasoner(broken=("periods", "instruction"))
    found = Backtracker(reasoner, Camera(), max_steps=1).ask(hour, "Which animal is there?", query)
    assert reasoner.kinds()[:5] == ["confident", "periods", "periods", "instruction", "instruction"]
    assert found.counts.repeated == 2 and found.counts.calls == len(reasoner.asked)
    if query is not None:
        assert found.opened[0].t0 == 1200 and found.answer.text == "a cat"
    silent = Backtracker(Reasoner(broken=("confident", "periods", "instruction")), Camera(), max_steps=1)
    assert silent.ask(hour, "Which animal is there?", query).answer.text


def test_periods_narrow_the_search_unless_the_question_counts_in_order(hour):
    for question, inside in (("Which animal is there?", True), ("Which is the second animal?", False)):
        reasoner = Reasoner(period=(0, 59), periods=[[1200, 1259]], sure=False)
        found = Backtracker(reasoner, Camera(), max_steps=2).ask(hour, question)
        assert ("periods" in reasoner.kinds()) == inside
        assert all(1200 <= node.t0 <= 1259 for node in found.opened) == inside
        assert len(found.opened) == 2


def test_what_has_left_the_memory_is_not_offered(make):
    memory = make("videolucy", nodes=5, spans=(60.0, 10.0, 1.0))
    for t in range(600):
        memory.write(np.ones((1, 4), np.float32), float(t), np.zeros((1, 1, 3), np.uint8))
    reasoner = Reasoner(period=(0, 59), sure=False)
    found = Backtracker(reasoner, Camera()).ask(memory.snapshot(), "What happened?")
    assert found.opened and all(node.t0 >= 540 for node in found.opened), "only the last minute has anything below it"
    blind = make("videolucy")
    for t in range(200):
        blind.write(np.ones((1, 4), np.float32), float(t), text="a dog barks" if t == 70 else "")
    reasoner = Reasoner(sure=False)
    found = Backtracker(reasoner, Camera()).ask(blind.snapshot(), "What barks?")
    assert not found.opened and found.counts.captions == 0
    assert [part.text for part in reasoner.asked[-1][1].context] == ["a dog barks"]


def test_a_reasoner_that_sees_describes_by_itself(make):
    memory = make("videolucy")
    memory.write(np.ones((1, 4), np.float32), 0.0, np.zeros((2, 2, 3), np.uint8))
    voice = make_answerer("scripted", replies=("a dark room", '{"answer": "dark", "confident": true}'))
    assert Backtracker(voice).ask(memory.snapshot(), "How is it?").answer.text == "dark"
    assert re.search("Describe", voice.requests[0].question) and len(voice.requests[0].context) == 1


def test_misuse_is_refused(hour, make):
    with pytest.raises(UsageError, match="expected a captioner"):
        Backtracker(Reasoner())
    with pytest.raises(UsageError, match="max_steps >= 0"):
        Backtracker(Reasoner(), Camera(), max_steps=-1)
    with pytest.raises(UsageError, match="memory videolucy"):
        Backtracker(Reasoner(), Camera()).ask(make("last_k").snapshot(), "What?")
