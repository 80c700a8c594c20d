"""``embodied-mem serve`` and ``serve-env`` as processes: they say where they listen, and stop cleanly when told."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest

from embodied_mem.cli import app

pytest.importorskip("websockets")


@contextlib.contextmanager
def process(*words):
    command = [sys.executable, "-m", "embodied_mem.cli.app", *words, "--port", "0", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        text = ""
        while not text.rstrip().endswith("}"):
            line = running.stdout.readline()
            assert line, running.stderr.read()
            text += line
        yield running, json.loads(text)["address"]
    finally:
        running.kill()
        running.wait()
        running.stdout.close()
        running.stderr.close()


def test_an_agent_is_served_evaluated_and_stopped(tmp_path, capsys):
    with process("serve", "--agent", "random", "--env", "TMaze-v0", "--rows", "4") as (running, address):
        words = [
            "eval",
            "probes",
            "--task",
            "embodied_mem/TMaze-v0:passive-50",
            "--agent",
            f"remote:{address}",
            "--episodes",
            "4",
        ]
        code = app.run([*words, "--num-envs", "4", "--out", str(tmp_path / "run"), "--json"])
        assert code == 0, capsys.readouterr().err
        assert json.loads(capsys.readouterr().out)["episodes"] > 0
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
        assert "Traceback" not in running.stderr.read()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["serve"], "expected a folder of a trained agent, or --agent NAME with --env ID"),
        (["serve", "--agent", "random"], "expected a folder"),
        (["serve", "nowhere"], "expected a trained agent"),
        (["serve", "--agent", "oracle", "--env", "TMaze-v0"], "hidden state"),
        (["serve", "--agent", "random", "--env", "TMaze-v0", "--host", "0.0.0.0"], "EMBODIED_MEM_TOKEN"),
        (["serve", "--agent", "random", "--env", "TMaze-v0", "--rows", "0"], "rows >= 1"),
        (["serve", "--agent", "random", "--env", "TMaze-v0", "--port", "70000"], "port"),
        (["serve", "--agent", "random", "--env", "TMaze-v0", "--idle", "0"], "idle_s > 0"),
    ],
)
def test_bad_input_is_one_line(words, error, capfd, monkeypatch):
    monkeypatch.delenv("EMBODIED_MEM_TOKEN", raising=False)
    assert app.run(words) == 2
    printed = capfd.readouterr().err
    assert error in printed and printed.count("\n") == 1
