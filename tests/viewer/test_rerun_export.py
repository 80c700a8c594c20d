"""The rerun recording: written where rerun-sdk is there, a clear word where it is not."""

import builtins
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.viewer import rerun_export
from embodied_mem.viewer.rerun_export import write_recording


def test_a_recording_holds_every_traced_episode(run_folder, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (extra: viewer)")
    path = write_recording(run_folder, tmp_path / "a" / "episodes.rrd")
    command = [sys.executable, "-m", "rerun", "rrd", "stats", str(path)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for part in (
        "map/boxes",
        "map/walls",
        "agent/camera",
        "agent/heading",
        "memory/places",
        "way",
        "reward",
        "attention",
    ):
        assert f"House_X_v0/agent/episode_0/{part}:" in listed, part
    assert "TMaze_v0_passive_50/oracle/episode_0/reward:" in listed


def test_without_rerun_the_remedy_is_named(run_folder, monkeypatch):
    real = builtins.__import__

    def absent(name, *arguments, **options):
        if name == "rerun":
            raise ModuleNotFoundError("No module named 'rerun'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UsageError, match=r"pip install 'embodied-mem\[viewer\]'"):
        write_recording(run_folder)


def test_without_traces_there_is_nothing_to_record(run_folder):
    with pytest.raises(UsageError, match="no traced episode"):
        write_recording(run_folder / "train")


def test_a_recording_that_fails_leaves_the_old_one(run_folder, tmp_path, monkeypatch):
    class Recording:
        def __init__(self, *arguments, **options):
            pass

        def save(self, path):
            Path(path).write_text("half")

    def fail(*arguments):
        raise RuntimeError("broken trace")

    monkeypatch.setattr(rerun_export, "_rerun", lambda: SimpleNamespace(RecordingStream=Recording))
    monkeypatch.setattr(rerun_export, "_log_episode", fail)
    target = tmp_path / "out" / "episodes.rrd"
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(RuntimeError):
        write_recording(run_folder, target)
    assert target.read_text() == "old" and list(target.parent.iterdir()) == [target]
