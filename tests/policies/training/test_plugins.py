"""A package outside the tree adds a memory, an environment and a preset by entry point, usable by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

FIXTURE = Path(__file__).resolve().parents[2] / "fixtures" / "plugin"


def command(*words, cwd):
    paths = os.pathsep.join([str(FIXTURE), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    words = [sys.executable, "-m", "embodied_mem.cli.app", *map(str, words)]
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=150)


def test_a_plugin_is_listed_and_trains_with_runner_processes(tmp_path):
    listed = command("list", "presets", "--json", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "echo" in {item["name"] for item in json.loads(listed.stdout)}
    out = tmp_path / "run"
    trained = command("train", "echo", "num_env_runners=1", "--out", out, "--json", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["metrics"]["length_mean"]["mean"] == 10.0
    stored = json.loads((out / "seed0" / "agent" / "agent.json").read_text())
    assert stored["config"]["memory"] == "last_input"
