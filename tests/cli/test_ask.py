"""``embodied-mem ask``: questions at their second, a prompt over a running stream, sessions that go on."""

import functools
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from embodied_mem.cli import app
from embodied_mem.cli.asking.prompt import Prompt, converse
from embodied_mem.cli.output import stdout
from embodied_mem.stream.asking import make_asker
from embodied_mem.stream.checkpoint import has_checkpoint, load_memory
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.sources import ArraySource


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures, a second apart."""
    place = tmp_path / "frames"
    place.mkdir()
    for number in range(20):
        cv2.imwrite(str(place / f"{number}.png"), np.full((16, 24, 3), 12 * number, np.uint8))
    return place


def ask(*words):
    return app.run(["ask", *map(str, words)])


def test_answers_at_their_seconds_with_evidence_on_disk(folder, tmp_path, capsys):
    words = (folder, "-q", "which frame is it?", "--at", 4, "-q", "and the frame?", "--at", 12.5, "--answerer", "rule")
    assert ask(*words, "--memory", "full_history", "--out", tmp_path / "out", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    first, second = result["answers"]
    assert (first["at_s"], first["answer"], first["confidence"]) == (4.0, "frame at 4.00 s", 1.0)
    assert second["at_s"] == 12.0 and second["evidence"] == [{"t0": 12.0, "t1": 12.0, "text": "frame at 12.00 s"}]
    saved = cv2.imread(first["frames"][0]["file"])
    assert first["frames"][0]["t_s"] == 4.0 and abs(int(saved.mean()) - 48) <= 2
    assert result["frames"]["written"] == 13 and json.loads((tmp_path / "out" / "answers.json").read_text()) == result


def test_answers_for_people(folder, tmp_path, capsys):
    assert ask(folder, "-q", "what frame?", "--answerer", "rule", "--out", tmp_path / "out", "--frames", 2) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Q (at 19.00 s)  what frame?\nA  ") and "confidence 1.00" in out
    assert "19.00 s" in out.split("evidence")[1] and out.count(".jpg") == 1 and "evidence in" in err


@pytest.mark.parametrize(
    "words, reason",
    [
        ([], "a source"),
        (["x.mp4", "--camera", "0"], "both"),
        (["--camera", "-1"], ">= 0"),
        (["FOLDER", "--at", "3"], "a question"),
        (["FOLDER", "-q", "a", "--at", "1", "--at", "2"], "2 for 1"),
        (["FOLDER", "-q", "a", "--memory", "uniforn"], "did you mean 'uniform'"),
        (["FOLDER", "-q", "a", "--set", "slots=3"], "memory.KEY"),
        (["FOLDER", "-q", "a", "--set", "memory.slot=3", "--memory", "uniform"], "slots"),
        (["FOLDER", "-q", "a", "--answerer", "nobody"], "unknown answerer"),
        (["nowhere.mp4", "-q", "a"], "found nothing"),
    ],
)
def test_usage_errors_are_one_line(folder, words, reason, capfd):
    assert ask(*[str(folder) if word == "FOLDER" else word for word in words]) == 2
    err = capfd.readouterr().err.splitlines()[-1]
    assert err.startswith("error: ") and reason in err


@pytest.mark.parametrize("content, reason", [(b"", "0 bytes"), (os.urandom(4096), "expected a video")])
def test_a_file_of_garbage_or_of_nothing_is_one_line(tmp_path, content, reason, capfd):
    (tmp_path / "x.mp4").write_bytes(content)
    assert ask(tmp_path / "x.mp4", "-q", "what?") == 2
    assert reason in capfd.readouterr().err and not (tmp_path / "runs").exists()


def test_a_session_goes_on_in_its_folder(folder, tmp_path, capsys):
    session = tmp_path / "session"
    words = (folder, "--answerer", "rule", "--memory", "full_history", "--session", session, "--out", tmp_path / "o")
    assert ask(*words, "-q", "frame?", "--at", 5, "--json") == 0
    assert has_checkpoint(session) and load_memory(session)[1].version == 6
    capsys.readouterr()
    assert ask(*words, "-q", "frame?", "--at", 2, "-q", "frame?", "--at", 9, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [a["answer"] for a in result["answers"]] == ["frame at 2.00 s", "frame at 9.00 s"]
    assert result["frames"]["written"] == 4  # seconds 6 to 9


@pytest.mark.full
def test_after_a_kill_the_command_goes_on_from_the_last_checkpoint(tmp_path, capsys):
    place, session = tmp_path / "frames", tmp_path / "session"
    place.mkdir()
    for number in range(4000):
        cv2.imwrite(str(place / f"{number}.jpg"), np.full((64, 64, 3), number % 255, np.uint8))
    words = ["ask", str(place), "--answerer", "rule", "-q", "frame?", "--session", str(session), "--out", str(tmp_path)]
    process = subprocess.Popen([sys.executable, "-m", "embodied_mem.cli.app", *words], cwd=os.getcwd())
    until = time.monotonic() + 120
    while not has_checkpoint(session):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at = load_memory(session)[1].version
    assert 0 < at < 4000 and at % 500 == 0
    assert app.run([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["frames"]["written"] == 4000 - at and result["until_s"] == 3999.0


class Awaited(ArraySource):
    """Its last frame comes when ``over`` is set."""

    def __init__(self, over, *args):
        super().__init__(*args)
        self.over = over

    def _grab(self):
        if self._index == len(self.times) - 1:
            self.over.wait(20)
        return super()._grab()


class Typed(io.StringIO):
    """Sets ``over`` when ``/quit`` is read."""

    def __init__(self, over, text):
        super().__init__(text)
        self.over = over

    def readline(self, size=-1):
        line = super().readline(size)
        if line == "/quit\n":
            self.over.set()
        return line


def stream(slots=1000, kind=ArraySource):
    images = np.zeros((200, 8, 8, 3), np.uint8)
    config = SessionConfig(memory="last_k", memory_config={"slots": slots}, frame_side=8)
    return Session(kind(images, 0.5 * np.arange(200)), config)


def test_a_prompt_answers_while_the_stream_runs(tmp_path, capsys):
    lines = (
        "\nwhat frame? @ 3\nwhat frame?\nx @1\n/status\n/save\n/nosuch\ntell me when the frame is\n/quit\nnever read\n"
    )
    over = threading.Event()
    with stream(kind=functools.partial(Awaited, over)) as session:
        answers = converse(session, make_asker("rule"), tmp_path, stdin=Typed(over, lines))
        assert session.join(20) and session.counters().written == 200
    assert [a["question"] for a in answers[:3]] == ["what frame?", "what frame?", "x"]
    out = capsys.readouterr().out
    assert "frames remembered up to" in out and "--session DIR" in out and "will tell when: the frame is" in out
    assert "tell me when SOMETHING" in out and "never read" not in out
    assert all(os.path.exists(frame["file"]) for answer in answers for frame in answer["frames"])


def test_a_prompt_tells_of_what_was_to_be_told(tmp_path, capsys):
    with stream() as session:
        prompt = Prompt(session, make_asker("rule"), tmp_path, stdout)
        assert prompt.take("tell me when a frame at 99 comes") and prompt.take("tell me when the frame at 99")
        session.start()
        assert session.join(20)
        until = time.monotonic() + 20
        while not prompt.answers:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert prompt.take("   ".strip()) and not prompt.take("/quit")
        prompt.close()
    out = capsys.readouterr().out
    assert "! the frame at 99: yes, at 99.50 s" in out and "! a frame at 99 comes" not in out


def test_json_of_a_prompt_is_one_value(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("what frame?\n"))
    assert ask(folder, "--answerer", "rule", "--out", tmp_path / "o", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["answers"]) == 1 and result["command"] == "ask" and result["answerer"] == "rule"
