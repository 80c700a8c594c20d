"""What a run writes and counts, without Ray."""

import errno
import json
import math
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.policies.training import records
from embodied_mem.policies.training.checkpoints import (
    generator_states,
    list_checkpoints,
    open_checkpoint,
    save_checkpoint,
    set_generator_states,
)
from embodied_mem.policies.training.cpu_time import CpuMeter
from embodied_mem.policies.training.interrupts import Interrupts
from embodied_mem.policies.training.rows import metrics_row


def write(folder, text):
    folder.mkdir()
    (folder / "state").write_text(text)


def test_checkpoints_are_complete_and_the_newest_are_kept(tmp_path):
    for iteration in (1, 2, 3):
        save_checkpoint(tmp_path, iteration, {"iteration": iteration}, lambda f: write(f, "x"), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["iter_000002", "iter_000003"]
    loop, rllib = open_checkpoint(list_checkpoints(tmp_path)[-1])
    assert loop["iteration"] == 3 and (rllib / "state").read_text() == "x"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "rllib" / "state").write_text("y"), "state is not what was written"),
        (lambda p: (p / "rllib" / "state").unlink(), "state is missing"),
        (lambda p: (p / "loop.json").unlink(), "loop.json is missing"),
        (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda p: (p / "loop.json").write_text("{}"), "loop.json is not what was written"),
    ],
)
def test_damaged_checkpoints_are_explained(tmp_path, damage, message):
    path = save_checkpoint(tmp_path, 1, {"iteration": 1}, lambda f: write(f, "x"), keep=2)
    damage(path)
    with pytest.raises(UsageError, match=message):
        open_checkpoint(path)


def test_a_failing_checkpoint_leaves_the_old_one_alone(tmp_path):
    save_checkpoint(tmp_path, 1, {}, lambda f: write(f, "x"), keep=1)

    def full(folder):
        write(folder, "half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path, 2, {}, full, keep=1)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["iter_000001"]


def test_generators_round_trip_through_json():
    def draw():
        return random.random(), np.random.rand(3).tolist(), np.random.standard_normal(), torch.rand(3).tolist()

    np.random.standard_normal()
    states = json.loads(json.dumps(generator_states()))
    first = draw()
    draw()
    set_generator_states(states)
    assert draw() == first


def test_rows_after_the_checkpoint_are_cut(tmp_path):
    for iteration in range(1, 6):
        records.append_row(tmp_path, {"iteration": iteration, "x": 0.1})
    with open(tmp_path / "metrics.jsonl", "a") as stream:
        stream.write('{"iteration": 6, "x"')
    assert [row["iteration"] for row in records.cut_rows(tmp_path, 3)] == [1, 2, 3]
    records.append_row(tmp_path, {"iteration": 4})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2, 3, 4]
    with pytest.raises(UsageError, match="does not hold"):
        records.cut_rows(tmp_path, 9)


def test_a_full_disk_leaves_no_half_row(tmp_path, monkeypatch):
    records.append_row(tmp_path, {"iteration": 1})
    before = (tmp_path / "metrics.jsonl").read_bytes()

    def full(path, row):
        with open(path, "ab") as stream:
            stream.write(b'{"iter')
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(records, "append_jsonl", full)
    with pytest.raises(OSError, match="No space"):
        records.append_row(tmp_path, {"iteration": 2})
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_rows_hold_numbers_or_null():
    result = {
        "env_runners": {"num_env_steps_sampled_lifetime": np.float64(7), "episode_return_mean": math.nan},
        "learners": {"default_policy": {"vf_loss": np.float64(0.5), "num_steps": 3, "nested": {"a": 1}}},
    }
    row = metrics_row(result, iteration=2, seconds=1.0, cpu_seconds=0.5)
    assert row["env_steps"] == 7 and row["return_mean"] is None and row["vf_loss"] == 0.5
    assert "num_steps" not in row and "nested" not in row
    json.dumps(row, allow_nan=False)


def test_cpu_seconds_grow_with_work_and_not_with_sleep():
    meter = CpuMeter()
    time.sleep(0.2)
    idle = meter.seconds()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    assert idle < 0.15 and meter.seconds() - idle >= 0.15


def test_cpu_seconds_of_workers_are_counted_and_kept_after_their_end():
    code = "import time\nwhile time.process_time() < 0.4: pass\nprint('x', flush=True); time.sleep(30)"
    meter = CpuMeter()
    worker = subprocess.Popen(["ray::worker", "-c", code], executable=sys.executable, stdout=subprocess.PIPE)
    try:
        worker.stdout.readline()
        used = meter.seconds()
        assert used >= 0.35
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()
    assert meter.seconds() >= used


def test_the_first_interrupt_is_noted_and_the_second_stops():
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is before
