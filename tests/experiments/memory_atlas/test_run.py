"""Cells run once, failed ones are named, a killed atlas resumes; through the command line where that matters."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.experiments.memory_atlas import run as run_module
from embodied_mem.experiments.memory_atlas.plan import make_plan
from embodied_mem.experiments.memory_atlas.run import atlas
from embodied_mem.files import atomic_write_json

ROOT = Path(__file__).resolve().parents[3]
GRID = {"memories": ["gru", "none"], "probes": ["repeat_first"], "seeds": [0], "cpu_seconds": 2.0, "episodes": 16}


@pytest.fixture
def fake(monkeypatch, record):
    """Let cells write a record without training; returns the list of cells that ran and the set that fails."""
    ran, failing = [], set()

    def run_cells(cells, plan, out, jobs, done):
        for cell in cells:
            ran.append(cell.name)
            if cell.memory not in failing:
                atomic_write_json(cell.record_file(out), record(cell, 0.5))
                done(cell.name, 0.5)
        return [f"{name} fell over" for name in sorted(failing)]

    monkeypatch.setattr(run_module, "run_cells", run_cells)
    return ran, failing


def test_a_finished_cell_is_never_run_again(fake, tmp_path):
    ran, _ = fake
    first = atlas(**GRID, out=tmp_path / "a")
    assert ran == ["gru-repeat_first-seed0", "none-repeat_first-seed0"]
    again = atlas(out=tmp_path / "a", resume=True)
    assert len(ran) == 2 and again["metrics"] == first["metrics"]
    seen = []
    grown = atlas(
        **GRID | {"seeds": [0, 1]}, out=tmp_path / "a", resume=True, watch=lambda *words: seen.append(words[:2])
    )
    assert ran[2:] == ["gru-repeat_first-seed1", "none-repeat_first-seed1"]
    assert seen == [(2, 4), (3, 4), (4, 4)] and grown["seeds"] == [0, 1]


def test_failed_cells_are_named_and_left_for_later(fake, tmp_path):
    ran, failing = fake
    failing.add("gru")
    with pytest.raises(UsageError, match="1 of 2 cells failed.*gru fell over"):
        atlas(**GRID, out=tmp_path / "a")
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert list(result["atlas"]["memories"]) == ["none"]
    failing.clear()
    assert list(atlas(out=tmp_path / "a", resume=True)["atlas"]["memories"]) == ["gru", "none"]
    assert ran.count("none-repeat_first-seed0") == 1


def command(*words):
    line = [sys.executable, "-m", "embodied_mem.cli.app", "atlas", *map(str, words)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(line, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.full  # starts Ray three times
@pytest.mark.timeout(1800)
def test_kill_9_between_two_cells_then_resume(tmp_path):
    out = tmp_path / "atlas"
    cells = [cell.record_file(out) for cell in make_plan(None, **{**GRID, "cpu_seconds": 1.0}).cells]
    chosen = ["--memories", "gru,none", "--probes", "repeat_first", "--seeds", "0", "--episodes", "16"]
    process = command(*chosen, "--cpu-seconds", "1", "--jobs", "1", "--out", out)
    try:
        end = time.monotonic() + 700
        while not cells[0].is_file():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end, "no record"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    first = cells[0].read_bytes()
    process = command("--resume", "--out", out, "--jobs", "1", "--json")
    stdout, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stderr
    result = json.loads(stdout)
    assert result["atlas"]["cells"] == {"done": 2, "planned": 2} and cells[0].read_bytes() == first
    kept = json.loads(cells[1].read_text())
    assert kept["cpu_seconds"] >= 1.0 and kept["env_steps"] > 0 and len(kept["returns"]) == 16
    assert kept["state_bytes"] > 0 and kept["step_ms"] > 0 and kept["curve"]["score"]
    names = {path.name for path in out.iterdir()}
    assert {"atlas.json", "cells", "result.json", "result.md", "atlas.html"} <= names
    assert "work" not in names and not list(out.rglob("*.tmp"))
