"""Runs: causality, a video that is shut while a question is open, memory-only scores, baselines, polls, recuts."""

import math

import cv2
import numpy as np
import pytest

from embodied_mem.stream.answerers.base import Answer, Answerer, Capabilities, ImagePart
from embodied_mem.stream.answerers.plain import NoConfig
from embodied_mem.stream.qa.baselines import collect, extent
from embodied_mem.stream.qa.benchmark import Benchmark, make_benchmark
from embodied_mem.stream.qa.guard import GuardedSource, RawVideoRead
from embodied_mem.stream.qa.judges import make_judge
from embodied_mem.stream.qa.run import Asker, RunConfig, recall_scores, run_baseline, run_memory
from embodied_mem.stream.qa.sample import Sample
from embodied_mem.stream.sources import ArraySource, FolderSource

FACTS = 20


class Toy(Benchmark):
    def load(self, path):
        raise AssertionError("the tests make their own samples")


class Looker(Answerer):
    """Says the grey of the frame of the second it is asked about, from the key frames it is given alone."""

    Config = NoConfig
    capabilities = Capabilities(images=True, max_images=10**6)

    def __init__(self):
        super().__init__(NoConfig())
        self.seen = []

    def reply(self, request):
        frames = [part for part in request.context if isinstance(part, ImagePart)]
        self.seen.append([part.t for part in frames])
        wanted = float(request.question.split()[0])
        levels = [part.rgb.mean() for part in frames if part.t == wanted]
        return Answer(f"{levels[0]:.0f}" if levels else "unknown")


def level(second):
    return 10 * second + 5


@pytest.fixture
def video(tmp_path):
    """A folder of one grey image per second, told apart by their grey."""
    folder = tmp_path / "clip"
    folder.mkdir()
    for second in range(FACTS):
        cv2.imwrite(str(folder / f"{second:03d}.png"), np.full((12, 16, 3), level(second), np.uint8))
    return folder


def ask(second, at=None, **more):
    return Sample("clip", f"q{second}-{at}", f"{second} s?", "count", level(second), ask_time_s=at, **more)


def rows(videos, looker=None, benchmark=None, config=None, **options):
    asker = Asker(benchmark or Toy(), looker or Looker(), make_judge(), config or settings(**options))
    return list(run_memory(videos, asker))


def settings(memory="full_history", budget=None, **more):
    return RunConfig(memory=memory, budget=budget, **more)


def score(found):
    return sum(row["score"] for row in found) / len(found)


def test_scores_follow_what_the_memory_still_holds(video):
    samples = [ask(second) for second in range(FACTS)]
    assert score(rows([(video, samples)])) == 1
    assert score(rows([(video, samples)], memory="last_k", memory_config={"slots": 10})) == 10 / FACTS
    nothing = rows([(video, samples)], memory="none")
    assert score(nothing) == 0 and all(row["unparsed"] for row in nothing)
    assert all(row["mem_bytes"] == 0 and row["images"] == 0 and row["frames_seen"] == FACTS for row in nothing)


def test_a_question_before_its_fact_knows_nothing(video):
    early, late = ask(9, at=8.9), ask(9, at=9.0)
    found = {row["t_ask"]: row for row in rows([(video, [late, early])])}
    assert found[8.9]["score"] == 0 and found[9.0]["score"] == 1
    assert (found[8.9]["frames_seen"], found[9.0]["frames_seen"]) == (9, 10)


def test_no_frame_later_than_the_question_is_decoded(video, monkeypatch):
    decoded = []
    plain = FolderSource._retrieve
    monkeypatch.setattr(FolderSource, "_retrieve", lambda self: decoded.append(self._index - 1) or plain(self))
    limits = []

    class Spy(Looker):
        def reply(self, request):
            limits.append((float(request.question.split()[0]), max(decoded)))
            return super().reply(request)

    rows([(video, [ask(second, at=second + 0.5) for second in (3, 7, 11)])], Spy())
    assert limits == [(3, 3), (7, 7), (11, 11)]
    assert max(decoded) == 11, "what comes after the last question is not read at all"


@pytest.mark.parametrize("swallow", [False, True])
def test_a_read_of_the_video_while_a_question_is_open_ends_the_run(video, monkeypatch, swallow):
    sources = []
    plain = FolderSource.__init__
    monkeypatch.setattr(
        FolderSource, "__init__", lambda self, *args, **more: (sources.append(self), plain(self, *args, **more))[0]
    )

    class Cheat(Looker):
        def reply(self, request):
            try:
                next(iter(sources[-1]))
            except RawVideoRead:
                if not swallow:
                    raise
            return super().reply(request)

    with pytest.raises(RawVideoRead, match="while a question was open"):
        rows([(video, [ask(3, at=3)])], Cheat())


def test_the_guard_goes_on_where_it_stopped_and_samples():
    images = np.zeros((10, 4, 4, 3), np.uint8)
    guard = GuardedSource(ArraySource(images, np.arange(10) / 2), fps=1)
    assert [frame.t_s for frame in guard.until(1.2)] == [0, 1]
    assert guard.latest_s == 1
    assert [frame.t_s for frame in guard.until(1.9)] == []
    assert [(frame.t_s, frame.index) for frame in guard.until(math.inf)] == [(2, 4), (3, 6), (4, 8)]
    assert [event.kind for event in guard.events] == ["end"]


def test_modes(video):
    config = settings("none", mode="stream", frames=3)
    looker = Looker()
    (row,) = rows([(video, [ask(5, at=5)])], looker, config=config)
    assert looker.seen == [[3, 4, 5]] and row["score"] == 1
    assert score(rows([(video, [ask(9, at=2)])], mode="full")) == 1, "offline: the whole video"
    assert score(rows([(video, [ask(9, at=2)])])) == 0


def test_an_answerer_without_eyes_gets_no_frames(video):
    class Blind(Looker):
        capabilities = Capabilities()

    looker = Blind()
    (row,) = rows([(video, [ask(3)])], looker)
    assert looker.seen == [[]] and row["images"] == 0 and row["mem_bytes"] > 0


def test_baselines_see_no_later_frame(video):
    early, late = ask(5, at=5.5), ask(19)
    known = ask(12, at=15, evidence=((11, 13),))
    assert extent(video) == (0, FACTS - 1)

    def times(baseline, samples, **more):
        found = collect(video, samples, baseline, **{"frames": 4, "fps": 1, "side": 8, **more})
        return {qid: [frame.t_s for frame in frames] for (qid, _), frames in found.items()}

    assert times("blind", [early, late]) == {early.qid: [], late.qid: []}
    assert times("last_frame", [early, late]) == {early.qid: [5], late.qid: [19]}
    assert times("uniform", [early, late]) == {early.qid: [0, 1, 3, 5], late.qid: [0, 6, 12, 19]}
    assert times("oracle", [early, known], frames=3) == {known.qid: [11, 12, 13]}
    assert times("uniform", [early], start_s=4) == {early.qid: [4, 5]}
    looker = Looker()
    asker = Asker(Toy(), looker, make_judge(), settings(frames=3))
    found = list(run_baseline((video, [early, known]), "oracle", asker))
    assert [row["qid"] for row in found] == [known.qid] and found[0]["score"] == 1 and found[0]["hit"] == 1


@pytest.mark.parametrize("said_at, score", [(3, 0), (5, 1), (7, 1), (9, 1), (10, 0), (None, 0)])
def test_unprompted_answers_must_come_in_time(video, said_at, score):
    class Watcher(Looker):
        def reply(self, request):
            self.seen.append(request.question)
            latest = max((part.t for part in request.context if isinstance(part, ImagePart)), default=0)
            if "Is it time" in request.question:
                return Answer("yes" if said_at is not None and latest >= said_at else "not yet: no")
            return Answer("go now")

    sample = Sample("clip", "p", "Say go.", "proactive", "go", ask_time_s=2, expect_time_s=7)
    watcher = Watcher()
    (row,) = rows([(video, [sample])], watcher, make_benchmark("streamingbench"))
    assert row["score"] == score and row["said_s"] == said_at
    polls = 9 if said_at is None else said_at - 2
    assert sum("Is it time" in question for question in watcher.seen) == polls
    assert not any('"go"' in question for question in watcher.seen), "the poll must not tell the output"


def test_videos_of_one_stream_share_a_memory_and_questions_come_after_their_evidence(video, tmp_path):
    second = tmp_path / "wide"
    second.mkdir()
    for number in range(4):
        cv2.imwrite(str(second / f"{number}.png"), np.full((8, 40, 3), 200 + number, np.uint8))
    looker = Looker()
    clip = [ask(3, evidence=((2, 3),)), ask(19)]
    # the second video begins one second after the last frame of the first
    wide = Sample("wide", "w", f"{FACTS + 2} s?", "count", 202, evidence=((2, 2),))
    found = rows([(video, clip), (second, [wide])], looker)
    assert [row["score"] for row in found] == [1, 1, 1]
    assert [row["t_ask"] for row in found] == [3, None, 2]
    assert [len(times) for times in looker.seen] == [4, FACTS, FACTS + 3]
    assert [row.get("hit") for row in found] == [1, None, 1]
    assert all(row["frames_dropped"] == 0 for row in found)


def test_recall_is_compared_with_the_evidence(video):
    found = rows([(video, [ask(5, at=8, evidence=((4, 6),))])], memory="last_k", memory_config={"slots": 1})
    assert (found[0]["hit"], found[0]["overlap"]) == (0, 0)

    class Spans:
        def __init__(self, times):
            self.times, self.frames = np.array(times, float).reshape(-1, 2), ()

    assert recall_scores(Spans([(0, 4), (2, 6)]), [(4, 8)]) == {"hit": 1, "overlap": 0.25}
    assert recall_scores(Spans([]), [(4, 8)]) == {"hit": 0, "overlap": 0}
    assert recall_scores(Spans([(4, 4)]), [(4, 4)]) == {"hit": 1, "overlap": None}
