"""``eval`` and ``view`` end to end on the probes: JSON on stdout, folders, exit codes and one-line errors."""

import errno
import json
import signal
import subprocess
import sys
import time

import pytest
from gymnasium import spaces

from embodied_mem.agent import AgentConfig, MemoryAgent, save_agent
from embodied_mem.cli.app import run
from embodied_mem.files import read_json, read_jsonl

IGNORED = ("seconds", "env_steps", "out", "notes")


def bundle(folder, memory, seed=0, variant="passive"):
    import torch

    torch.manual_seed(seed)
    space = spaces.Box(-1.0, 1.0, (2,))
    module = MemoryAgent.build(AgentConfig(memory=memory, memory_config={"out_dim": 16}), space, spaces.Discrete(4))
    about = {"env": "embodied_mem/TMaze-v0", "env_config": {"variant": variant, "length": 20, "min_length": 5}}
    return save_agent(folder, module, about=about)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two seeds of a run and the same without memory beside it."""
    root = tmp_path_factory.mktemp("trained")
    for seed in (0, 1):
        bundle(root / "maze" / f"seed{seed}" / "agent", "gru", seed)
    bundle(root / "maze-none" / "seed0" / "agent", "none")
    return root


def evaluate(capsys, *arguments):
    code = run(["eval", *map(str, arguments), "--json"])
    out = capsys.readouterr()
    assert code == 0, out.err
    return json.loads(out.out)


def test_oracle_and_random_through_the_command_line(capsys, tmp_path):
    best = evaluate(capsys, "probes", "--agent", "oracle", "--episodes", 20, "--controls", "--out", tmp_path / "oracle")
    assert best["metrics"]["success"]["mean"] == 1.0 and len(best["tasks"]) == 10
    assert best["controls"]["oracle"]["success"]["mean"] == 1.0 and best["controls"]["none"] is None
    options = ("--episodes", 40, "--task", "RepeatFirst-v0", "--seeds", "0,3", "--out", tmp_path / "random")
    random = evaluate(capsys, "probes", "--agent", "random", *options)
    assert random["metrics"]["success"]["mean"] == 0.0 and random["metrics"]["success"]["n"] == 240
    assert random["seeds"] == [0, 3] and random["metrics"]["return"]["high"] < -0.4
    assert run(["view", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"].endswith("report.html")


def test_checkpoints_with_every_control(capsys, trained, tmp_path):
    out = tmp_path / "out"
    result = evaluate(capsys, "probes", "--checkpoint", trained / "maze", "--controls", "--episodes", 16, "--out", out)
    assert [agent["label"] for agent in result["config"]["agents"]] == ["maze/seed0", "maze/seed1"]
    assert set(result["tasks"]) == {"embodied_mem/TMaze-v0:passive-50", "embodied_mem/TMaze-v0:passive-1000"}
    assert all(result["controls"][name] is not None for name in ("none", "wiped:2", "shuffled", "oracle"))
    assert result["metrics"]["success"]["interval"] == "bootstrap95_mean_checkpoints"
    assert result["metrics"]["success"]["n"] == 64 and result["controls"]["none"]["success"]["n"] == 32
    assert {row["checkpoint"] for row in read_jsonl(out / "episodes.jsonl")} == {0, 1}
    assert run(["view", str(out)]) == 0
    capsys.readouterr()
    assert str(tmp_path) in refused(capsys, "view", out, "--out", tmp_path)
    assert str(out / "result.json") in refused(capsys, "view", out, "--out", out / "result.json" / "page.html")


def test_an_agent_without_memory_has_nothing_to_wipe(capsys, trained, tmp_path):
    options = ("--task", "passive-50", "--control", "wiped:4", "--control", "none", "--episodes", 8, "--out", tmp_path)
    result = evaluate(
        capsys, "probes", "--checkpoint", trained / "maze-none", "--none", trained / "maze-none", *options
    )
    assert result["controls"]["wiped:4"] is None and "keeps nothing" in " ".join(result["notes"])
    assert result["controls"]["none"]["success_drop"]["mean"] == 0.0


def test_a_run_killed_for_good_resumes_to_the_same_result(tmp_path):
    command = [sys.executable, "-m", "embodied_mem.cli.app", "eval", "probes", "--agent", "random", "--task", "hard"]
    command += ["--episodes", "400", "--traces", "0", "--out"]
    records = tmp_path / "cut" / "episodes.jsonl"
    process = subprocess.Popen([*command, str(tmp_path / "cut")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and (not records.exists() or records.stat().st_size < 20_000):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cut = len(read_jsonl(records))
    assert 0 < cut < 800
    for name, options in (("cut", ["--resume"]), ("whole", [])):
        subprocess.run([*command, str(tmp_path / name), *options], check=True, capture_output=True)
    assert records.read_bytes() == (tmp_path / "whole" / "episodes.jsonl").read_bytes()
    first, second = (read_json(tmp_path / name / "result.json") for name in ("cut", "whole"))
    assert {key: first[key] for key in first if key not in IGNORED} == {
        key: second[key] for key in second if key not in IGNORED
    }


def refused(capsys, *arguments, begun=False):
    code = run([str(argument) for argument in arguments])
    out = capsys.readouterr()
    assert code == 2 and out.out == "", (code, out)
    lines = out.err.strip().splitlines()
    # Once work has begun, the progress bar stands above the error.
    assert len(lines) == 1 + begun and lines[-1].startswith("error: ") and "Traceback" not in out.err
    return lines[-1]


def test_bad_input_gives_one_line_and_code_two(capsys, trained, tmp_path):
    out = tmp_path / "out"
    assert "did you mean 'probes'" in refused(capsys, "eval", "probs", "--agent", "oracle")
    assert "did you mean 'oracle'" in refused(capsys, "eval", "probes", "--agent", "orcle", "--out", out)
    assert "either --agent NAME or --checkpoint" in refused(capsys, "eval", "probes")
    assert "is no folder" in refused(capsys, "eval", "probes", "--checkpoint", tmp_path / "nowhere", "--out", out)
    lonely = bundle(tmp_path / "lonely" / "run", "gru")
    line = refused(capsys, "eval", "probes", "--checkpoint", lonely, "--controls", "--out", out)
    assert "--none DIR" in line
    line = refused(
        capsys, "eval", "probes", "--checkpoint", lonely, "--control", "none", "--none", lonely, "--out", out
    )
    assert "expected an agent trained with memory 'none'" in line
    assert "does not fit" in refused(capsys, "eval", "probes", "--checkpoint", lonely, "--task", "easy", "--out", out)
    assert "GPUs" in refused(capsys, "eval", "probes", "--agent", "oracle", "--device", "cuda:99", "--out", out)
    assert "whole numbers" in refused(capsys, "eval", "probes", "--agent", "oracle", "--seeds", "a,b")
    assert "expected --out DIR" in refused(capsys, "eval", "probes", "--agent", "oracle", "--resume")
    assert "found none" in refused(capsys, "view", tmp_path / "nowhere")
    assert not out.exists()


def test_a_corrupted_checkpoint_is_named(capsys, tmp_path):
    folder = bundle(tmp_path / "broken", "gru")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7] + b"garbage")
    assert "corrupted" in refused(capsys, "eval", "probes", "--checkpoint", folder, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_default_folders_do_not_collide(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("probes", "--agent", "oracle", "--task", "passive-50", "--episodes", 2)
    folders = [evaluate(capsys, *options)["out"] for _ in range(2)]
    assert folders == ["runs/eval/probes-oracle", "runs/eval/probes-oracle-2"]


def test_the_table_names_every_condition(capsys, tmp_path):
    options = ["--agent", "oracle", "--task", "passive-50", "--episodes", "4", "--controls", "--out", str(tmp_path)]
    assert run(["eval", "probes", *options]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("agent", "wiped:2", "shuffled", "oracle", "null", "1.00"))


def test_a_full_disk_is_one_line_and_can_be_resumed(capsys, tmp_path, monkeypatch):
    from embodied_mem.evaluation import records

    real, written = records.append_jsonl, []

    def full(path, row):
        written.append(row)
        if len(written) > 5:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, row)

    options = ("probes", "--agent", "random", "--task", "passive-50", "--episodes", "12", "--out", tmp_path / "out")
    monkeypatch.setattr(records, "append_jsonl", full)
    assert "No space left" in refused(capsys, "eval", *options, begun=True)
    assert not (tmp_path / "out" / "result.json").exists()
    monkeypatch.setattr(records, "append_jsonl", real)
    resumed = evaluate(capsys, *options, "--resume")
    assert resumed["metrics"]["success"]["n"] == 12 and len(read_jsonl(tmp_path / "out" / "episodes.jsonl")) == 12
