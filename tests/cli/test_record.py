"""``record``: a suite or an environment becomes data sets that are read again; errors are one line."""

import importlib.util
import json

import numpy as np
import pytest

from embodied_mem.cli.app import run
from embodied_mem.demonstrations import open_dataset
from embodied_mem.evaluation import Task
from embodied_mem.experiments.recording import folder_name

pytest.importorskip("pyarrow", reason="needs pyarrow (datasets)")


def record(capsys, *arguments):
    code = run(["record", *map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out) if code == 0 else captured.err


def test_an_environment_becomes_a_data_set(capsys, tmp_path):
    out = tmp_path / "set"
    code, told = record(
        capsys, "TMaze-v0", "--agent", "oracle", "--episodes", 5, "--out", out, "--env", "length=4", "--seed", 3
    )
    assert code == 0 and told["command"] == "record"
    (row,) = told["tasks"]
    assert (row["episodes"], row["failed"], row["env"], row["steps"]) == (5, 0, "TMaze-v0", 25)
    reader = open_dataset(out)
    assert len(reader) == 5 and {episode.seed for episode in reader} == {3}
    assert all(episode.actions.dtype == np.int64 and episode.state.shape == (5, 2) for episode in reader)


def test_a_random_agents_failures_are_counted(capsys, tmp_path):
    common = ("TMaze-v0", "--agent", "random", "--env", "length=2", "--env", "slack=20", "--per-file", 4)
    code, told = record(capsys, *common, "--episodes", 4, "--failures", "keep", "--out", tmp_path / "kept")
    assert code == 0 and told["tasks"][0]["played"] == 4 and told["tasks"][0]["dropped"] == 0
    kept = [episode.success for episode in open_dataset(tmp_path / "kept")]
    assert told["tasks"][0]["failed"] == kept.count(False)


def test_a_suite_becomes_one_data_set_per_task(capsys, tmp_path):
    tasks = ("--task", "RepeatFirst-v0:easy", "--task", "RepeatPrevious-v0:easy")
    code, told = record(capsys, "popgym", *tasks, "--agent", "oracle", "--episodes", 2, "--out", tmp_path)
    assert code == 0 and [row["episodes"] for row in told["tasks"]] == [2, 2]
    folders = {"RepeatFirst-easy-v0", "RepeatPrevious-easy-v0"}
    assert {path.name for path in tmp_path.iterdir()} == folders
    assert all(len(open_dataset(tmp_path / name)) == 2 for name in folders)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("Nowhere-v0",), "unknown environment 'Nowhere-v0'"),
        (("TMaze-v0", "--agent", "oracl"), "did you mean 'oracle'"),
        (("TMaze-v0", "--agent", "oracle", "--format", "zarr"), "unknown format 'zarr'"),
        (("TMaze-v0", "--agent", "oracle", "--task", "easy"), "--task and --split are for suites"),
        (("TMaze-v0",), "no expert is known for 'TMaze-v0'"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(arguments, words, capsys, tmp_path):
    code, said = record(capsys, *arguments, "--episodes", 1, "--out", tmp_path / "set")
    assert code == 2 and words in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "set").exists()


def test_folders_are_named_like_minari_ids():
    assert folder_name(Task("embodied_mem/MetaWorld-v0", "probe", variant="reach-v3")) == "MetaWorld-reach-v3-v0"
    assert folder_name(Task("a.b:Odd", "probe", variant="x/y")) == "Odd-x-y-v0"


@pytest.mark.full
def test_tabletop_demonstrations_with_pictures(capsys, tmp_path):
    # MuJoCo is not imported here: that must happen after the choice of OpenGL.
    if importlib.util.find_spec("mujoco") is None:
        pytest.skip("needs mujoco (envs-mujoco)")
    pytest.importorskip("av", reason="needs av (datasets)")
    arguments = ("--task", "Tabletop-RememberColor3-v0", "--env", "sensors=[rgb,vector,instruction]", "--episodes", 3)
    code, told = record(capsys, "tabletop-memory", *arguments, "--out", tmp_path / "set")
    if code == 2 and "cannot draw" in told:
        pytest.skip("no OpenGL here")
    assert code == 0 and told["tasks"][0]["failed"] == 0
    episode = open_dataset(tmp_path / "set")[0]
    assert episode.images["rgb"].shape[1:] == (64, 64, 3) and "colour" in episode.instruction.lower()
