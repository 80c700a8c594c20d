"""``play``: agents headless, videos, a person in a terminal, errors."""

import json
import os
import pty
import sys
import threading

import numpy as np
import pytest

from embodied_mem.cli.app import run
from embodied_mem.cli.playing.game import Game
from embodied_mem.cli.playing.keys import bindings, key_help
from embodied_mem.cli.playing.picture import HEIGHT, compose
from embodied_mem.cli.playing.terminal import half_blocks

HOUSE = ("--env", "houses=2")


def play(capsys, *arguments):
    code = run(["play", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if code == 0 else captured.err


def frames(path):
    import cv2

    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        more, frame = capture.read()
        if not more:
            return found
        found.append(frame)


def test_an_agent_plays_one_episode_and_is_recorded(capsys, tmp_path):
    video = tmp_path / "sub" / "out.mp4"
    code, result = play(capsys, "House-ObjectNav-v0", "--agent", "oracle", "--record", video, *HOUSE)
    assert code == 0 and result["video"] == str(video)
    (episode,) = result["episodes"]
    assert episode["ended"] and episode["info"]["success"] is True
    seen = frames(video)
    assert len(seen) >= episode["steps"] + 1
    assert seen[0].shape[0] == HEIGHT and seen[0].std() > 20
    assert os.listdir(video.parent) == ["out.mp4"]


def test_steps_go_on_over_episodes_in_any_environment(capsys, tmp_path):
    video = tmp_path / "cart.mp4"
    code, result = play(capsys, "CartPole-v1", "--agent", "random", "--steps", 60, "--record", video, "--seed", 3)
    assert code == 0 and sum(row["steps"] for row in result["episodes"]) == 60
    assert [row["episode"] for row in result["episodes"]] == list(range(len(result["episodes"])))
    again = play(capsys, "CartPole-v1", "--agent", "random", "--steps", 60, "--seed", 3)[1]
    assert again["episodes"] == result["episodes"] and again["video"] is None


def test_what_an_environment_draws_with_is_missing(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    code, line = play(capsys, "CartPole-v1", "--agent", "random", "--steps", 3, "--record", "never.mp4")
    assert code == 2 and "CartPole-v1" in line and "pip install" in line
    assert not os.path.exists("never.mp4")


def test_the_picture_holds_view_map_and_text():
    game = Game("House-MultiObjectNav-v0", {"level": 1, "houses": 2}, "oracle", None, 0)
    first = compose(game, targets=True)
    assert first.dtype == np.uint8 and first.shape[0] == HEIGHT and first.shape[1] % 2 == 0
    plain = compose(game)
    assert (first[:, HEIGHT:] != plain[:, HEIGHT:]).any(), "targets are marked on the map only when asked for"
    assert (first[:, :HEIGHT] == plain[:, :HEIGHT]).all()
    for _ in range(4):
        game.step()
    assert game.episode.steps == 4 and compose(game).shape == first.shape
    assert game.task.startswith("find the ")


def test_a_trained_agent_plays_with_its_own_sensors(capsys, tmp_path):
    from embodied_mem.agent import AgentConfig, MemoryAgent, save_agent
    from embodied_mem.envs.make import make_vec

    kept = {"level": 0, "houses": 2, "scan_width": 16}
    env = make_vec("House-ObjectNav-v0", 1, **kept)
    config = AgentConfig(memory="gru", memory_config={"out_dim": 16})
    module = MemoryAgent.build(config, env.single_observation_space, env.single_action_space)
    folder = save_agent(tmp_path / "agent", module, about={"env": "House-ObjectNav-v0", "env_config": kept})
    code, result = play(capsys, "House-ObjectNav-v0", "--checkpoint", folder, "--steps", 5)
    assert code == 0 and sum(row["steps"] for row in result["episodes"]) == 5


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("House-ObjectNav-v0",), "--agent NAME or --checkpoint DIR"),
        (("House-ObjectNaw-v0", "--agent", "random"), "House-ObjectNav-v0"),
        (("House-ObjectNav-v0", "--agent", "orakel"), "oracle"),
        (("House-ObjectNav-v0", "--agent", "random", "--level", 99), "expected level in"),
        (("House-ObjectNav-v0", "--agent", "random", "--record", "out.avi"), ".mp4"),
        (("House-ObjectNav-v0", "--agent", "random", "--record", "/proc/nowhere/out.mp4"), "cannot write"),
        (("House-ObjectNav-v0", "--agent", "random", "--checkpoint", "x"), "got both"),
        (("House-ObjectNav-v0", "--checkpoint", "nowhere"), "nowhere"),
        (("TMaze-v0", "--agent", "random", "--record", "out.mp4"), "renders no pictures"),
        (("House-ObjectNaw-v0",), "House-ObjectNav-v0"),
        (("TMaze-v0", "--agent", "random", "--env", "num_envs=4"), "no option of the environment"),
    ],
)
def test_bad_input_gives_one_line(capsys, arguments, message):
    code, said = play(capsys, *arguments)
    assert code == 2 and message in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["a.mp4", "new/dir/a.mp4"])
@pytest.mark.parametrize("env", ["House-ObjectNav-v0", "Nope-v0"])
def test_a_failed_recording_leaves_nothing_behind(capsys, tmp_path, env, name):
    code, _ = play(capsys, env, "--agent", "random", "--level", 99, "--record", tmp_path / name)
    assert code == 2 and os.listdir(tmp_path) == []


def test_an_agent_plays_where_there_are_no_pictures(capsys):
    code, result = play(capsys, "TMaze-v0", "--agent", "random", "--steps", 4)
    assert code == 0 and sum(row["steps"] for row in result["episodes"]) == 4


def test_keys():
    actions = ["MoveAhead", "RotateLeft", "RotateRight", "LookUp", "LookDown", "Done"]
    keys = bindings(actions)
    assert keys["up"] == keys["w"] == 0 and keys["enter"] == 5 and "o" not in keys
    assert "enter/space Done" in key_help(actions)
    assert set(bindings([str(n) for n in range(30)]).values()) == set(range(30))
    assert not {"q", "n"} & set(bindings([str(n) for n in range(30)]))


def test_half_blocks_show_two_pixels_per_character():
    image = np.array([[[255, 0, 0], [255, 0, 0]], [[0, 0, 255], [0, 0, 255]]], np.uint8)
    assert half_blocks(image) == "\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m\u2580\u2580\x1b[0m"


def test_a_person_plays_in_a_terminal(monkeypatch):
    """Three keys on a pseudo-terminal: two turns and quit; the picture and the result appear."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "30")
    master, slave = pty.openpty()
    said = bytearray()

    def person():
        sent = 0
        while True:
            try:
                said.extend(os.read(master, 65536))
            except OSError:
                return
            if sent < 3 and said.count(b"q quit") > sent:
                os.write(master, (b"d", b"\x1b[D", b"q")[sent])
                sent += 1

    thread = threading.Thread(target=person, daemon=True)
    thread.start()
    with os.fdopen(os.dup(slave), "r") as typed, os.fdopen(slave, "w") as shown:
        monkeypatch.setattr(sys, "stdin", typed)
        monkeypatch.setattr(sys, "stdout", shown)
        code = run(["play", "House-ObjectNav-v0", *HOUSE])
    thread.join(10)
    os.close(master)
    text = said.decode(errors="ignore")
    assert code == 0 and "\u2580" in text and "up/w MoveAhead" in text
    assert "episode 0: 2 steps" in text and "not finished" in text
