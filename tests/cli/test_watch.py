"""``embodied-mem watch``: what it opens, where it listens, what it refuses."""

import json

import cv2
import numpy as np
import pytest

from embodied_mem.cli import app
from embodied_mem.stream.web import server

pytest.importorskip("fastapi")


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "frames"
    place.mkdir()
    for number in range(5):
        cv2.imwrite(str(place / f"{number}.png"), np.full((16, 24, 3), 12 * number, np.uint8))
    return place


@pytest.fixture
def served(monkeypatch):
    """Runs the command up to the moment where it would serve."""
    seen = {}

    def fake(rooms, *, host, port, token, ready):
        seen.update(rooms=rooms, host=host, port=port, token=token, names=[room.name for room in rooms.all()])
        for room in rooms.all():
            assert room.session.join(20)
        seen["written"] = [room.session.memory.version for room in rooms.all()]
        ready(f"http://{host}:{port}/", server.choose_token(host, token))

    monkeypatch.setattr(server, "serve", fake)
    return seen


def watch(*words):
    return app.run(["watch", *map(str, words)])


def test_every_source_is_a_session_and_loopback_is_the_default(folder, served, capfd):
    assert watch(folder, folder, "--speed", 0, "--answerer", "rule", "--memory", "uniform", "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert served["host"] == "127.0.0.1" and served["token"] is None and served["written"] == [5, 5]
    assert said["url"] == "http://127.0.0.1:8765/" and said["token"] is None and len(said["sessions"]) == 2
    assert served["rooms"].all() == []  # all are closed in the end


def test_elsewhere_it_makes_a_token(served, capfd, monkeypatch):
    monkeypatch.delenv("EMBODIED_MEM_TOKEN", raising=False)
    assert watch("--host", "0.0.0.0", "--answerer", "rule") == 0
    err = capfd.readouterr().err
    assert "http://0.0.0.0:8765/?token=" in err and len(err.split("token=")[1].split()[0]) >= 32
    monkeypatch.setenv("EMBODIED_MEM_TOKEN", "a-secret-of-my-own")
    assert watch("--host", "0.0.0.0", "--answerer", "rule", "--json") == 0
    assert json.loads(capfd.readouterr().out)["token"] == "a-secret-of-my-own"


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--token", "short", "--host", "0.0.0.0"], "at least 16"),
        (["nowhere.mp4"], "found nothing"),
        (["--speed", "-1"], "speed >= 0"),
        (["a", "b", "--max-sessions", "1"], "at most 1 sources"),
        (["--answerer", "nobody"], "unknown answerer"),
        (["--set", "slots=1"], "memory.KEY"),
    ],
)
def test_usage_errors_are_one_line(served, words, reason, capfd):
    assert watch(*words) == 2
    assert reason in capfd.readouterr().err.splitlines()[-1]


def test_files_of_nothing_and_of_garbage_are_one_line(served, tmp_path, capfd):
    for content in (b"", bytes(range(256)) * 30):
        (tmp_path / "x.mp4").write_bytes(content)
        assert watch(tmp_path / "x.mp4") == 2
        assert "expected a video" in capfd.readouterr().err
