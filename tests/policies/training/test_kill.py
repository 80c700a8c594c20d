"""kill -9 of the trainer, then --resume."""

import json
import os
import signal
import subprocess
import sys
import time


def start(*words, cwd):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "embodied_mem.cli.app", "train", *map(str, words)]
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def test_kill_9_loses_at_most_one_interval(tiny, tmp_path, rows):
    out = tmp_path / "run"
    folder = out / "seed0"
    process = start(tiny, "stop.iterations=100000", "checkpoint.iterations=3", "--out", out, cwd=tmp_path)
    try:
        wait_for(lambda: len(list((folder / "checkpoints").glob("iter_*"))) == 2, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    # The tail a writer killed inside its write leaves behind.
    with open(folder / "metrics.jsonl", "a") as stream:
        stream.write('{"iteration": 9999, "env_st')
    complete = [path for path in (folder / "checkpoints").glob("iter_*")]
    assert complete and all((path / "manifest.json").is_file() for path in complete)
    saved = max(json.loads((path / "loop.json").read_text())["iteration"] for path in complete)
    written = len((folder / "metrics.jsonl").read_text().splitlines()) - 1
    assert written - saved <= 3
    goal = saved + 5
    process = start("--resume", "--out", out, f"stop.iterations={goal}", "--json", cwd=tmp_path)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert json.loads(stdout)["name"] == "tiny"
    assert [row["iteration"] for row in rows(folder)] == list(range(1, goal + 1))
    steps = [row["env_steps"] for row in rows(folder)]
    assert all(a < b for a, b in zip(steps, steps[1:]))
    assert not list(out.rglob("*.tmp"))
