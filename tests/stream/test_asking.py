"""Questions at their second: the memory has seen what came before, replies carry confidence and evidence."""

import math

import numpy as np
import pytest

import embodied_mem as em
from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers import Answer, AnswererError, make_answerer
from embodied_mem.stream.answerers.plain import Scripted, ScriptedConfig
from embodied_mem.stream.answerers.stated import unfinished
from embodied_mem.stream.asker import Asker
from embodied_mem.stream.asking import ask, ask_in_time, make_asker, pair, session_config
from embodied_mem.stream.defaults import PAIRS, choose
from embodied_mem.stream.memory import make_stream_memory
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.sources import ArraySource, NetworkSource


def film(count=40):
    images = np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    return ArraySource(images, 0.5 * np.arange(count))


def config(**values):
    return SessionConfig(**{"memory": "full_history", "frame_side": 8, **values})


def said(*replies):
    return Asker(Scripted(ScriptedConfig(replies)))


def test_every_question_sees_what_came_before_its_second_and_no_more():
    source = film()
    with Session(source, config()) as session:
        replies = ask_in_time(session, said("a", "b", "c"), [("late", 12.0), ("early", 3.25), ("same", 12.0)])
        assert source.read <= 26  # what comes after the last question is not read
    assert [(r.question, r.at_s, r.text) for r in replies] == [
        ("late", 12.0, "b"),
        ("early", 3.0, "a"),
        ("same", 12.0, "c"),
    ]
    assert replies[1].evidence.times.max() == 3.0 and replies[0].evidence.times.max() == 12.0
    assert [f.t_s for f in replies[0].frames] == [0.0, 2.5, 5.0, 7.0, 9.5, 12.0]  # evenly, the ends among them


def test_em_ask_takes_names_and_answers_at_the_end(tmp_path):
    replies = em.ask(film(), ["when is the frame", "and?"], memory="last_k", answerer="rule", session=tmp_path)
    assert [r.at_s for r in replies] == [19.5, 19.5] and replies[0].text == "19.50 s to 19.50 s"
    # the folder goes on where it was: nothing is written again, an earlier second is answered from what is held
    again = ask(film(), "when is the frame", 10.0, memory="last_k", answerer="rule", session=tmp_path)[0]
    assert again.at_s == 10.0 and again.evidence.times.max() == 10.0
    with pytest.raises(UsageError, match="unknown answerer 'rul'"):
        ask(film(), "x", answerer="rul")


def test_options_reach_their_component():
    found = session_config("uniform", "grid", {"memory": {"slots": 3}, "encoder": {"rows": 1}})
    assert found.memory_config == {"slots": 3} and found.encoder_options == {"rows": 1}
    with pytest.raises(UsageError, match="memory, encoder or answerer"):
        session_config("uniform", "grid", {"model": {}})
    with pytest.raises(UsageError, match="budget >= 1"):
        make_asker("rule", budget=0)


def test_encoder_and_answerer_are_chosen_together(monkeypatch):
    assert choose() in PAIRS and choose(*choose()) == choose()
    assert choose("grid") == ("grid", "rule") and choose("cnn", "echo") == ("cnn", "echo")
    assert choose("cnn")[1] == "rule" and choose(None, "openai") == (choose()[0], "openai")
    monkeypatch.setattr("embodied_mem.stream.defaults.PAIRS", (("cnn", "nobody"), ("cnn", "echo"), ("grid", "rule")))
    assert choose() == ("cnn", "echo") and choose(None, "rule") == ("grid", "rule")


def test_an_encoder_that_reads_words_turns_the_question_into_a_query():
    def look(rgb):
        return np.eye(3, dtype=np.float32)[[int(rgb[0, 0, 0]) % 3]]

    look.embed_text = lambda text: np.array([0, text.count("one"), text.count("two")])
    with Session(film(), config(), encoder=look) as session:
        session.run()
        frames = session.ask("number two?", Asker(make_answerer("echo"), budget=2, shown=2)).frames
        assert [int(f.rgb[0, 0, 0]) % 3 for f in frames] == [2, 2]
        assert session.query("what?") is None and session.query("one") is not None


@pytest.mark.parametrize(
    "questions, at, reason", [([], None, "one question"), (["a"], [1, 2], "2 for 1"), (["a"], -1, ">= 0")]
)
def test_questions_and_times_that_do_not_fit_are_refused(questions, at, reason):
    with pytest.raises(UsageError, match=reason):
        pair(questions, at)


def test_a_live_source_has_no_end(monkeypatch):
    source = film()
    monkeypatch.setattr(type(source), "live", True)
    with Session(source, config()) as session, pytest.raises(UsageError, match="no end"):
        ask_in_time(session, said("x"), [("what", math.inf)])


class Capture:
    """A camera of a network: stamps of its frames in milliseconds, then the connection breaks."""

    def __init__(self, stamps):
        self.stamps, self.now = list(stamps), 0

    def isOpened(self):
        return bool(self.stamps)

    def grab(self):
        if not self.stamps:
            return False
        self.now = self.stamps.pop(0)
        return True

    def retrieve(self):
        return True, np.full((8, 8, 3), self.now % 256, np.uint8)

    def get(self, prop):
        return self.now

    def release(self):
        pass


def test_a_stream_that_stops_and_returns_is_one_memory():
    connections, clock, asked = iter([Capture([0, 500]), Capture([]), Capture([0, 500, 1000])]), [100.0], []

    def wait(seconds):
        # while the stream is away, the memory answers
        clock[0] += seconds
        asked.append(session.ask("when is the frame?", Asker(make_answerer("rule"))).text)

    source = NetworkSource(
        "rtsp://host/cam", open_capture=lambda url: next(connections, Capture([])), clock=lambda: clock[0], sleep=wait
    )
    with Session(source, config()) as session:
        assert session.run() == 4
        assert source.reconnects == 1 and asked[:2] == ["0.50 s to 0.50 s"] * 2
        times = [entry.t0 for entry in session.snapshot().entries]
    # pauses of 0.5 and 1 s; the first frame of the new connection sets its zero and is not given out
    assert times == pytest.approx([0.0, 0.5, 2.0, 2.5])


def test_a_stream_of_refused_frames_says_why():
    def broken(rgb):
        return np.full((1, 4), np.nan, np.float32)

    with Session(film(3), config(), encoder=broken) as session, pytest.raises(UsageError, match="finite tokens"):
        ask_in_time(session, said("x"), [("what", math.inf)])


def memory(times=range(10)):
    held = make_stream_memory("full_history")
    for t in times:
        held.write(np.eye(1, 12, t, dtype=np.float32), float(t), np.full((4, 4, 3), t, np.uint8), f"thing{t}")
    return held.snapshot()


def test_confidence_is_stated_or_none():
    for text, sure, rest in (("a cup\nCONFIDENCE: 0.25", 0.25, "a cup"), ("a cup", None, "a cup")):
        reply = said(text).ask(memory(), "what?")
        assert (reply.confidence, reply.text) == (sure, rest)

    class Sure(Scripted):
        def reply(self, request):
            return Answer("yes", logprobs=(math.log(0.8), math.log(0.2)))

    assert Sure.reply and Asker(Sure(ScriptedConfig())).ask(
        memory(), "so?", options=("yes", "no")
    ).confidence == pytest.approx(0.8)
    ruled = Asker(make_answerer("rule")).ask(memory(), "where is thing3 now")
    assert ruled.text == "thing3" and ruled.confidence == 0.5


def test_evidence_shown_is_what_the_answer_rests_on():
    ruled = Asker(make_answerer("rule"), shown=3).ask(memory(), "where is thing3?")
    assert [(s.t0, s.text) for s in ruled.spans] == [(3.0, "thing3")] and [f.t_s for f in ruled.frames] == [3.0]
    # without such a hint: what is most like the query
    query = np.eye(1, 12, 7, dtype=np.float32)[0]
    asked = Asker(make_answerer("echo"), shown=1).ask(memory(), "where?", query=query)
    assert [f.t_s for f in asked.frames] == [7.0] and asked.evidence.until_s == 9.0
    assert Asker(make_answerer("rule")).ask(memory(()), "where?", query=query).frames == ()


def test_an_answer_comes_piece_by_piece_without_its_confidence_line():
    pieces = [
        "on",
        "on the table",
        "on the table\nCONF",
        "on the table\nCONFIDENCE: 0.",
        "on the table\nCONFIDENCE: 0.9",
    ]

    class Slow(Scripted):
        def spoken(self, request, on_text):
            for piece in pieces:
                if on_text:
                    on_text(piece)
            return Answer(pieces[-1])

    heard = []
    reply = Asker(Slow(ScriptedConfig())).ask(memory(), "where?", on_text=heard.append)
    assert heard == ["on", "on the table", "on the table", "on the table", "on the table"]
    assert (reply.text, reply.confidence) == ("on the table", 0.9)
    assert unfinished("two lines\nof text") == "two lines\nof text"


def test_an_answerer_that_fails_is_one_line():
    with pytest.raises(AnswererError, match="script is over"):
        said("only one").ask(memory(), "a?") and said().ask(memory(), "b?")


def test_the_rule_says_yes_where_one_line_holds_every_word():
    rule = Asker(make_answerer("rule"))
    held = make_stream_memory("full_history")
    held.write(np.ones((1, 4)), 0.0, None, "a red mug on the table")
    for question, choice in (("the red mug is on the table", 0), ("the red lamp is on the table", 1), ("a cat", 1)):
        assert rule.ask(held.snapshot(), question, options=("yes", "no")).answer.choice == choice
