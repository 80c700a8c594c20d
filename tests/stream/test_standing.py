"""Standing questions: told once when the answer turns to yes, of what came since, without holding up the stream."""

import threading

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers import Answer, AnswererError, make_answerer
from embodied_mem.stream.answerers.plain import Scripted, ScriptedConfig
from embodied_mem.stream.asker import Asker
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.sources import ArraySource
from embodied_mem.stream.standing import StandingQueries, to_be_told


def session():
    source = ArraySource(np.zeros((1, 8, 8, 3), np.uint8), [0.0])
    return Session(source, SessionConfig(memory="full_history", frame_side=8))


def see(running, *lines):
    for text in lines:
        start = running.memory.version
        running.memory.write(np.ones((1, 4)), float(start), None, text)


class ByHand(StandingQueries):
    """Checked by the test instead of by a thread."""

    def _watch(self):
        self._closed.wait()


def watched(running, told, answerer=None, **options):
    return ByHand(running, Asker(answerer or make_answerer("rule")), told.append, every_s=0.0, **options)


def test_told_once_when_it_turns_to_yes_and_again_after_a_no():
    running, told = session(), []
    see(running, "the door is open")  # before the question was put: no alarm
    standing = watched(running, told)
    number = standing.add("the door is open")
    for line, alerts in (("a wall", 0), ("the open door", 1), ("the open door", 1), ("a wall", 1), ("an open door", 2)):
        see(running, line)
        standing.check()
        assert len(told) == alerts, line
    assert [a.at_s for a in told] == [2.0, 5.0] and told[0].number == number and told[0].question == "the door is open"
    assert told[0].reply.spans[0].text == "the open door" and told[0].reply.evidence.times.min() == 1.0
    assert standing.remove(number) and not standing.remove(number) and standing.questions == {}
    standing.close()
    with pytest.raises(UsageError, match="closed"):
        standing.add("x")


def test_a_yes_that_is_not_sure_enough_is_not_told():
    class Unsure(Scripted):
        def reply(self, request):
            assert request.options == ("yes", "no")
            return Answer("yes", confidence=0.4)

    for sure, alerts in ((0.5, 0), (0.4, 1)):
        running, told = session(), []
        standing = watched(running, told, Unsure(ScriptedConfig()), sure=sure)
        standing.add("is it so?")
        see(running, "anything")
        standing.check()
        assert len(told) == alerts
        standing.close()
    with pytest.raises(UsageError, match="sure"):
        watched(running, told, sure=2)


def test_an_answerer_that_is_away_for_a_while_does_not_end_the_question():
    class Moody(Scripted):
        def reply(self, request):
            self.requests.append(request)
            if len(self.requests) == 1:
                raise AnswererError("no server")
            return Answer("yes")

    running, told = session(), []
    standing = watched(running, told, Moody(ScriptedConfig()))
    standing.add("is it so?")
    for _ in range(2):
        see(running, "anything")
        standing.check()
    assert list(standing.reports) == ["no server"] and len(told) == 1
    standing.close()


def test_an_answerer_that_says_neither_yes_nor_no_is_reported():
    running, told = session(), []
    standing = watched(running, told, Scripted(ScriptedConfig(("unknown", "no"))))
    number = standing.add("is it so?")
    for trouble in ("expected yes or no, the answerer says 'unknown'", None):
        see(running, "anything")
        standing.check()
        assert standing.trouble(number) == trouble
    assert told == [] and len(standing.reports) == 1
    standing.close()


def test_a_session_tells_while_it_runs_and_is_not_held_up():
    images = np.zeros((300, 8, 8, 3), np.uint8)
    images[200:] = 255
    began, release = threading.Event(), threading.Event()

    class Bright(Scripted):
        def reply(self, request):
            began.set()
            release.wait(20)
            pictures = [part.rgb for part in request.context if hasattr(part, "rgb")]
            return Answer("yes" if any(p.mean() > 200 for p in pictures) else "no")

    told, done = [], threading.Event()
    source = ArraySource(images, 0.5 * np.arange(300))
    with Session(source, SessionConfig(memory="last_k", memory_config={"slots": 20}, frame_side=8)) as running:
        running.tell_when(
            "is it bright?", Asker(Bright(ScriptedConfig())), lambda alert: (told.append(alert), done.set())
        )
        running.start()
        assert began.wait(20) and running.join(20)  # all 300 frames, with the first answer still being thought about
        assert running.counters().written == 300 and not told
        release.set()
        assert done.wait(20)
    assert 100.0 <= told[0].at_s <= 149.5 and len(told) == 1


def test_nothing_is_promised_of_a_stream_that_is_over():
    with session() as running:
        assert running.start().join(20) and running.ended
        with pytest.raises(UsageError, match="has ended"):
            running.tell_when("x", Asker(make_answerer("rule")), print)


def test_closing_a_session_ends_its_questions():
    running = session()
    standing = running.tell_when("x", Asker(make_answerer("rule")), print)
    running.close()
    with pytest.raises(UsageError, match="closed"):
        standing.add("y")
    assert not any(thread.name == "standing" and thread.is_alive() for thread in threading.enumerate())


@pytest.mark.parametrize(
    "text, what",
    [
        ("Tell me when the mug moves!", "the mug moves"),
        ("please let me know if somebody comes in", "somebody comes in"),
        ("alert me as soon as it rains.", "it rains"),
        ("tell me about the mug", None),
        ("when did you tell me?", None),
    ],
)
def test_what_a_person_wants_to_be_told_of(text, what):
    assert to_be_told(text) == what
