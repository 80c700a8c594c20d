"""Sessions: ingest that never waits, counters that add up, checkpoints that survive a kill."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.checkpoint import has_checkpoint, load_memory
from embodied_mem.stream.encode import GridEncoder, make_frame_encoder
from embodied_mem.stream.session import STAGES, Session, SessionConfig
from embodied_mem.stream.sources import ArraySource


def film(count=60, seed=0):
    draw = np.random.default_rng(seed)
    images = np.repeat(draw.integers(0, 256, (count // 10 + 1, 8, 8, 3), dtype=np.uint8), 10, axis=0)[:count]
    return ArraySource(images, 0.5 * np.arange(count))


def config(**values):
    return SessionConfig(**{"memory": "uniform", "memory_config": {"slots": 8}, "frame_side": 8, **values})


def held(session):
    return [(e.t0, e.tokens.tobytes(), e.rgb.tobytes()) for e in session.snapshot().entries]


def test_threads_and_a_plain_loop_give_the_same_memory():
    plain = Session(film(), config())
    assert plain.run() == 60
    with Session(film(), config()) as threaded:
        assert threaded.start().join(30)
        assert held(threaded) == held(plain)
        found = threaded.counters()
    assert (found.produced, found.written, found.dropped, found.waiting) == (60, 60, 0, 0)
    assert set(threaded.timings_ms()) == set(STAGES)
    assert threaded.timings_ms()["decode"] > 0 and threaded.timings_ms()["answer"] is None
    assert threaded.timings_ms()["encode"] > 0 and threaded.timings_ms()["checkpoint"] is None


def test_ingest_never_waits_for_an_answer():
    with Session(film(), config(memory="full_history", memory_config={})) as session:
        session.run(5)
        taken, answering, done = session.snapshot(), threading.Event(), threading.Event()

        def slow_answer():
            answering.set()
            done.wait(20)
            results.append(taken.read().tokens)

        results = []
        thread = threading.Thread(target=slow_answer)
        thread.start()
        answering.wait(5)
        assert session.run() == 55  # with the answer still being thought about
        done.set()
        thread.join()
    assert len(results[0]) == 5 * 4 and session.memory.version == 60


def test_a_live_source_drops_and_counts(monkeypatch):
    source = film(80)
    monkeypatch.setattr(type(source), "live", True)
    seen = []

    def slow(rgb):
        time.sleep(0.004)
        seen.append(rgb)
        return np.ones((1, 4), np.float32)

    with Session(source, config(queue=2), encoder=slow) as session:
        session.start().join(30)
        found = session.counters()
    assert found.produced == 80 == found.written + found.dropped and found.dropped > 0 and found.waiting == 0
    assert session.memory.until_s == 39.5 and np.array_equal(seen[-1], source.images[-1])


def test_counters_add_up_at_every_moment():
    def slow(rgb):
        time.sleep(0.001)
        return np.ones((1, 4), np.float32)

    with Session(film(120), config(queue=3, policy="drop_oldest"), encoder=slow) as session:
        session.start()
        for _ in range(40):
            c = session.counters()
            assert c.produced == c.written + c.refused + c.dropped + c.waiting
            time.sleep(0.001)


def test_a_frame_that_is_refused_does_not_end_the_stream():
    def moody(rgb):
        moody.calls += 1
        return np.full((1, 4), np.nan if moody.calls % 10 == 0 else 1.0, np.float32)

    moody.calls = 0
    session = Session(film(), config(), encoder=moody)
    assert session.run() == 54 and session.counters().refused == 6
    assert "frame 9 at 4.500 s: expected finite tokens" in session.reports[0]


def test_an_encoder_that_fails_is_told_to_whoever_joins():
    def broken(rgb):
        raise ZeroDivisionError("no weights")

    session = Session(film(), config(), encoder=broken).start()
    with pytest.raises(ZeroDivisionError, match="no weights"):
        session.join(30)
    session.close()


@pytest.mark.parametrize("memory", ["uniform", "flash_vstream", "movie_chat"])
def test_a_saved_session_goes_on_where_it_was(tmp_path, memory):
    options = {"memory": memory, "memory_config": {"slots": 8} if memory == "uniform" else {}}
    whole = Session(film(), config(**options))
    whole.run()
    saved = config(checkpoint=str(tmp_path), every=10, **options)
    with Session(film(), saved) as first:
        first.run(23)
    with Session(film(), saved) as second:
        assert second.memory.version == 23 and second.run() == 37
        assert held(second) == held(whole) if memory == "uniform" else len(second.snapshot().entries) > 0
        assert second.recall().tokens.equal(whole.recall().tokens)
    with pytest.raises(UsageError, match="holds memory"):
        Session(film(), config(memory="last_k", memory_config={}, checkpoint=str(tmp_path)))


def test_a_live_source_goes_on_by_the_wall_clock(tmp_path, monkeypatch):
    source = film()
    monkeypatch.setattr(type(source), "live", True)
    monkeypatch.setattr("embodied_mem.stream.session.time.time", lambda: 1000.0)
    with Session(source, config(checkpoint=str(tmp_path))) as first:
        first.run(11)
    monkeypatch.setattr("embodied_mem.stream.session.time.time", lambda: 1060.0)
    with Session(film(), config(checkpoint=str(tmp_path))) as second:
        second.run(3)
    assert second.memory.version == 14 and second.memory.until_s == 5.0 + 60.0 + 1.0


KILLED = """
import sys, numpy as np
from embodied_mem.stream.session import STAGES, Session, SessionConfig
from embodied_mem.stream.sources import ArraySource
images = np.arange(4000, dtype=np.uint32).astype(np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
source = ArraySource(images, 0.5 * np.arange(4000))
config = SessionConfig(memory="last_k", memory_config={"slots": 5}, checkpoint=sys.argv[1], every=7, frame_side=8)
Session(source, config).run()
"""


def test_after_a_kill_it_goes_on_from_the_last_checkpoint(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=os.getcwd())
    until = time.monotonic() + 120
    while not has_checkpoint(tmp_path) or load_memory(tmp_path)[1].version < 21:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = load_memory(tmp_path)[1].version
    assert at % 7 == 0 and at >= 21
    source = ArraySource(np.zeros((at + 3, 8, 8, 3), np.uint8), 0.5 * np.arange(at + 3))
    saved = SessionConfig(memory="last_k", memory_config={"slots": 5}, checkpoint=str(tmp_path), every=7, frame_side=8)
    with Session(source, saved) as session:
        assert session.run() == 3
        assert [e.number for e in session.snapshot().entries] == list(range(at - 2, at + 3))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_damaged_checkpoints_are_one_line(tmp_path):
    with Session(film(), config(checkpoint=str(tmp_path))) as session:
        session.run(4)
    state = next(tmp_path.glob("*.safetensors"))
    state.write_bytes(state.read_bytes()[:40])
    with pytest.raises(UsageError, match="damaged"):
        load_memory(tmp_path)
    state.unlink()
    with pytest.raises(UsageError, match="found nothing"):
        load_memory(tmp_path)
    with pytest.raises(UsageError, match="at least one frame"):
        Session(film(), config()).save(tmp_path / "x")


def test_many_sessions_in_one_process_do_not_mix():
    sessions = [Session(film(seed=seed), config(memory="last_k")).start() for seed in range(8)]
    try:
        assert all(session.join(30) for session in sessions)
        alone = [Session(film(seed=seed), config(memory="last_k")) for seed in range(8)]
        for session, other in zip(sessions, alone):
            other.run()
            assert held(session) == held(other)
    finally:
        for session in sessions:
            session.close()


def test_grid_tokens_keep_places_apart():
    image = np.zeros((10, 20, 3), np.uint8)
    image[:5, 10:] = (255, 0, 0)
    tokens = GridEncoder(2, 2)(image)
    assert tokens.shape == (4, 32) and tokens[1, 8] == 1 and np.count_nonzero(tokens[[0, 2, 3]]) == 1
    assert make_frame_encoder("grid", {"rows": 1})(image).shape == (2, 16)
    for options in ({"row": 1}, {"rows": 0}):
        with pytest.raises(UsageError):
            make_frame_encoder("grid", options)
    assert make_frame_encoder("cnn")(np.zeros((16, 16, 3), np.uint8)).shape[0] == 1


def test_a_session_runs_once_in_one_way():
    session = Session(film(), config()).start()
    for call in (session.start, session.run):
        with pytest.raises(UsageError, match="threads|already"):
            call()
    session.join(30)
    session.close()
    with pytest.raises(UsageError, match="policy"):
        SessionConfig(policy="newest")
