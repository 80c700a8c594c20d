"""Recording: what is kept, which failures are dropped, and that a kill at any moment costs nothing but time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.demonstrations import open_dataset
from embodied_mem.demonstrations.journal import CONFIG, GROUPS, Journal, sha256
from embodied_mem.demonstrations.recorder import Recording
from embodied_mem.errors import UsageError

from .conftest import ENV, Pointer

pytest.importorskip("pyarrow", reason="needs pyarrow (datasets)")


def content(folder):
    """Return path -> sha256 of every file of a data set."""
    return {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".hdf5"
    }


def test_only_successes_are_kept_and_failures_are_counted(recorded):
    out, summary = recorded(fails=0.3)
    assert summary["episodes"] == 7 and summary["failed"] == summary["dropped"] > 0
    assert summary["played"] == 7 + summary["dropped"]
    reader = open_dataset(out)
    assert len(reader) == 7 and all(episode.success for episode in reader)
    assert summary["steps"] == reader.lengths.sum()
    assert all(episode.extras["goal"][0, 0] <= 0.3 for episode in reader)


def test_failures_can_be_kept(recorded):
    out, summary = recorded(fails=0.0, failures="keep")
    played = list(open_dataset(out))
    assert summary["dropped"] == 0 and summary["played"] == 7 and [item.number for item in played] == list(range(7))
    assert [item.success for item in played] == [bool(item.extras["goal"][0, 0] <= 0.0) for item in played]


def test_an_agent_that_cannot_do_it_is_given_up(recorded):
    with pytest.raises(UsageError, match=r"succeeded in 0 of \d+ episodes.*--failures keep"):
        recorded(fails=-1.0, env_options={"pictures": False})


def test_an_environment_that_does_not_tell_is_refused_and_leaves_nothing(recorded, tmp_path):
    with pytest.raises(UsageError, match="does not say which episodes succeeded"):
        recorded(env_options={"tells": False})
    assert not (tmp_path / "set-v0").exists()


def test_rows_and_refills_change_nothing_and_the_agent_is_told_of_every_reset(recorded):
    few, _ = recorded("few-v0", num_envs=2, env_options={"pictures": False})
    many, _ = recorded("many-v0", env_options={"pictures": False})
    assert content(few) == content(many)
    for episode in open_dataset(few):
        assert np.allclose(episode.actions[:, 1] * 100, np.arange(1, len(episode) + 1), atol=1e-4)


@pytest.mark.parametrize("fmt", ["lerobot", "minari"])
def test_an_interrupted_recording_goes_on_to_the_same_bytes(fmt, recorded):
    pytest.importorskip("minari" if fmt == "minari" else "av")
    whole, _ = recorded("whole-v0", fails=0.3, format=fmt)

    class Breaks(Pointer):
        left = 9

        def act(self, *args):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt
            return super().act(*args)

    with pytest.raises(KeyboardInterrupt):
        recorded("cut-v0", agent=Breaks(0.3), format=fmt)
    cut = whole.parent / "cut-v0"
    kept = len(Journal.read(cut).groups)
    assert 0 < kept < len(Journal.read(whole).groups)
    # What a writer leaves that was killed between its files and the journal, and in the midst of a line.
    for name in (
        "data/chunk-000/file-007.parquet",
        "staged/group-000099.npz",
        "data/chunk-000/.file-008.parquet.x.tmp",
    ):
        (cut / name).parent.mkdir(parents=True, exist_ok=True)
        (cut / name).write_bytes(b"half")
    with open(cut / GROUPS, "ab") as stream:
        stream.write(b'{"files": {"data')
    recorded("cut-v0", fails=0.3, format=fmt, resume=True)
    left, right = content(cut), content(whole)
    if fmt == "minari":
        # Stray files outside the writer's own folder stay; the HDF5 file holds times, its episodes are compared.
        for one, other in zip(open_dataset(cut), open_dataset(whole), strict=True):
            assert np.array_equal(one.actions, other.actions) and np.array_equal(one.images["rgb"], other.images["rgb"])
            assert (one.number, one.instruction) == (other.number, other.instruction)
        assert not (cut / "staged").exists()
    else:
        (cut / "staged" / "group-000099.npz").unlink()
        del left["staged/group-000099.npz"]
        assert left == right
    again = recorded("cut-v0", fails=0.3, format=fmt, resume=True)[1]
    assert again["episodes"] == 7


def test_a_kill_while_the_minari_file_is_put_in_place_costs_nothing(recorded, monkeypatch):
    pytest.importorskip("minari", reason="needs minari (datasets)")
    sealing = Journal.seal

    def killed(self, derived, complete=False):
        raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "seal", killed)
    with pytest.raises(KeyboardInterrupt):
        recorded(format="minari")
    monkeypatch.setattr(Journal, "seal", sealing)
    out, summary = recorded(format="minari", resume=True)
    assert len(open_dataset(out)) == 7 == summary["episodes"] and not (out / "staged").exists()


def test_another_recording_is_not_mixed_in(recorded, tmp_path):
    recorded(env_options={"pictures": False})
    with pytest.raises(UsageError, match="holds a recording already; pass --resume"):
        recorded(env_options={"pictures": False})
    with pytest.raises(UsageError, match="it was started with seed = 4, now 5"):
        recorded(env_options={"pictures": False}, seed=5, resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        recorded("other")


def test_a_damaged_and_a_missing_file_are_named(recorded):
    out, _ = recorded()
    video = sorted(out.glob("videos/*/*/*.mp4"))[1]
    data = bytearray(video.read_bytes())
    data[len(data) // 2] ^= 1
    video.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=f"{video.name} is not what was written"):
        open_dataset(out)
    table = sorted(out.glob("data/*/*.parquet"))[0]
    table.unlink()
    lines = open_dataset(out, verify=False).verify()
    assert len(lines) == 2 and any(str(table) in line and "missing" in line for line in lines)
    with pytest.raises(UsageError, match=table.name):
        open_dataset(out, verify=False)[0]
    with pytest.raises(UsageError, match="found none"):
        open_dataset(out.parent)


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"format": "hdf"}, "unknown format 'hdf'"),
        ({"failures": "drp"}, "did you mean 'drop'"),
        ({"episodes": 0}, "episodes >= 1"),
        ({"crf": 52}, r"crf in \[0, 51\]"),
        ({"env_options": {"colour": 1}}, "no option 'colour'"),
        ({"num_envs": 0}, "num_envs"),
    ],
)
def test_bad_settings_are_refused(settings, match, recorded):
    with pytest.raises(UsageError, match=match):
        recorded(**settings)


def test_pictures_that_no_format_keeps_are_refused():
    from gymnasium import spaces

    from embodied_mem.demonstrations.take import kinds_of

    depth = spaces.Dict({"vector": spaces.Box(-1, 1, (2,)), "depth": spaces.Box(0, 9, (4, 4), np.float32)})
    with pytest.raises(UsageError, match="'depth'.*choose the sensors"):
        kinds_of(depth, spaces.Discrete(2))


def test_discrete_actions_are_kept_as_choices(recorded):
    class Chooser(Pointer):
        def act(self, obs, state, reset, privileged=None):
            return np.arange(len(reset)) % 5, state, {}

    settings = {"agent": Chooser(), "failures": "keep", "env_options": {"scalar": True, "pictures": False}}
    out, _ = recorded(**settings)
    episode = open_dataset(out)[1]
    assert episode.actions.dtype == np.int64 and episode.actions.shape[1] == 1 and (episode.actions == 1).all()


SCRIPT = """
import sys
import importlib.util
spec = importlib.util.spec_from_file_location("parts", sys.argv[1])
parts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)
import gymnasium
gymnasium.register(parts.ENV, None, vector_entry_point=parts.Pointing)
recording = parts.Recording(parts.ENV, "pointer", int(sys.argv[3]), per_file=2, seed=4)
parts.record(recording, lambda env: parts.Pointer(0.3), sys.argv[2], resume=True)
"""


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_kill_9_at_any_moment_and_resume_gives_the_same_data_set(tmp_path):
    parts = Path(__file__).with_name("conftest.py")

    def start(folder):
        return subprocess.Popen([sys.executable, "-c", SCRIPT, str(parts), str(tmp_path / folder), "24"])

    assert start("whole").wait() == 0
    kills, waited = 0, 0.3
    while True:
        process = start("cut")
        journal = tmp_path / "cut" / CONFIG
        while process.poll() is None and not journal.is_file():
            time.sleep(0.01)
        time.sleep(waited)
        waited *= 1.5
        if process.poll() is not None:
            break
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.returncode == 0 and kills >= 1
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_the_config_says_how_to_play_an_episode_again(recorded):
    out, _ = recorded(env_options={"pictures": False})
    config = json.loads((out / CONFIG).read_text())
    assert config["env"] == ENV and config["env_options"] == {"pictures": False} and config["agent"] == "pointer"
    episode = open_dataset(out)[2]
    assert (episode.seed, episode.number, episode.env) == (4, 2, ENV)
    assert set(config) == {*Recording.__dataclass_fields__}
