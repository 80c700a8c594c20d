"""Training end to end through the command line, with budgets of a second."""

import dataclasses
import errno
import json
import os
import signal

import numpy as np
import pytest
import torch

from embodied_mem.agent import load_agent
from embodied_mem.envs.make import make_vec
from embodied_mem.experiments.presets_loader import load_preset
from embodied_mem.experiments.training import train
from embodied_mem.policies.training import seed_run
from embodied_mem.policies.training.seed_run import SeedRun

pytestmark = pytest.mark.usefixtures("local_ray")


def test_a_run_writes_its_folder_and_prints_one_json_value(cli, tiny, tmp_path, rows, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    code, stdout, _ = cli("train", tiny, "log.tensorboard=true", "--out", "run", "--seeds", "0,3", "--json")
    assert code == 0
    result = json.loads(stdout)
    assert result == json.loads((out / "result.json").read_text())
    assert (result["command"], result["name"], result["seeds"]) == ("train", "tiny", [0, 3])
    assert result["metrics"]["return_mean"]["n"] == 2 and result["env_steps"] > 0
    for seed in (0, 3):
        folder = out / f"seed{seed}"
        assert [row["iteration"] for row in rows(folder)] == [1, 2, 3, 4, 5, 6]
        assert {"env_steps", "episodes", "return_mean", "success_mean", "length_mean", "seconds", "cpu_seconds"} <= set(
            rows(folder)[-1]
        )
        assert (
            list((folder / "tb").glob("events*")) and json.loads((folder / "config.json").read_text())["seed"] == seed
        )
        names = sorted(path.name for path in (folder / "checkpoints").iterdir())
        assert names == ["iter_000004", "iter_000006"]
    steps = [row["env_steps"] for row in rows(out / "seed0")]
    assert steps == sorted(set(steps))


def test_the_exported_agent_acts_without_ray_as_the_learner_does(tiny, tmp_path):
    config = load_preset(tiny).config
    run = SeedRun(config, "tiny", 0, tmp_path)
    try:
        while not run.done:
            run.iterate()
        run.finish()
        learned = {key: value.clone() for key, value in run.agent.state_dict().items()}
    finally:
        run.close()
    agent = load_agent(tmp_path)
    assert all(torch.equal(value, agent.module.state_dict()[key]) for key, value in learned.items())
    env = make_vec("RepeatPrevious-v0", 3, difficulty="easy")
    obs, _ = env.reset(seed=0)
    actions, _, _ = agent.act(obs, agent.initial_state(3), np.ones(3, bool))
    env.step(actions)


def test_same_seed_same_metrics(tiny, tmp_path, rows, without_times):
    for name in ("a", "b"):
        train(tiny, out=tmp_path / name, seeds=[5])
    assert without_times(rows(tmp_path / "a" / "seed5")) == without_times(rows(tmp_path / "b" / "seed5"))
    train(tiny, out=tmp_path / "c", seeds=[6])
    assert without_times(rows(tmp_path / "a" / "seed5")) != without_times(rows(tmp_path / "c" / "seed6"))


def learner_state(run):
    """Weights, optimiser, counters and generators of learner and runner as one comparable structure."""
    state = run.algorithm.get_state()
    learner = state["learner_group"]["learner"]
    runner = state["env_runner"]
    return {
        "weights": learner["rl_module"],
        "optimizer": learner["optimizer"],
        "order": learner["minibatch_order"],
        "rng": runner["rng"],
        "steps": run.rows[-1]["env_steps"],
        "episodes": run.rows[-1]["episodes"],
        "iteration": run.iteration,
        "algorithm_iteration": state["training_iteration"],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],
    }


def assert_same(a, b, where=""):
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b)):
            assert_same(*pair, f"{where}/{index}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b), where
    else:
        assert a == b, where


def test_resume_restores_weights_optimiser_generators_and_counters(tiny, tmp_path, rows, without_times):
    config = load_preset(tiny).config
    decaying = dataclasses.replace(config.train, lr_final=config.train.lr / 10, anneal_steps=10_000_000)
    config = dataclasses.replace(config, train=decaying)
    run = SeedRun(config, "tiny", 1, tmp_path / "x")
    try:
        for _ in range(4):
            run.iterate()
        saved = learner_state(run)
        run.iterate()
    finally:
        run.close()
    assert len(rows(tmp_path / "x")) == 5
    torch.manual_seed(99)
    np.random.seed(99)
    after = []
    for _ in range(2):
        run = SeedRun(config, "tiny", 1, tmp_path / "x", resume=True)
        try:
            assert_same(saved, learner_state(run))
            assert len(rows(tmp_path / "x")) == 4
            after.append(without_times([run.iterate()]))
        finally:
            run.close()
    assert after[0] == after[1] and after[0][0]["iteration"] == 5
    assert after[0][0]["env_steps"] > saved["steps"]


def test_finished_runs_are_not_run_again_and_longer_ones_go_on(cli, tiny, tmp_path, rows):
    out = tmp_path / "run"
    assert cli("train", tiny, "--out", out)[0] == 0
    stamp = (out / "seed0" / "metrics.jsonl").stat().st_mtime_ns
    assert cli("train", "--resume", "--out", out)[0] == 0
    assert (out / "seed0" / "metrics.jsonl").stat().st_mtime_ns == stamp
    assert cli("train", "--resume", "--out", out, "stop.iterations=8")[0] == 0
    assert [row["iteration"] for row in rows(out / "seed0")] == list(range(1, 9))
    code, _, err = cli("train", tiny, "--resume", "--out", out, "lr=0.5")
    assert code == 2 and "train.lr" in err
    code, _, err = cli("train", tiny, "--out", out)
    assert code == 2 and "--resume" in err


def test_any_gymnasium_id(cli, tiny, tmp_path):
    code, stdout, _ = cli("train", tiny, "env=CartPole-v1", "stop.iterations=2", "--out", tmp_path / "c", "--json")
    assert code == 0 and json.loads(stdout)["metrics"]["length_mean"]["mean"] > 5


def test_interrupt_writes_a_checkpoint_that_goes_on(cli, tiny, tmp_path, rows, monkeypatch):
    out = tmp_path / "run"
    iterate = SeedRun.iterate

    def interrupting(self):
        row = iterate(self)
        if row["iteration"] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return row

    monkeypatch.setattr(SeedRun, "iterate", interrupting)
    assert cli("train", tiny, "--out", out)[0] == 130
    assert (out / "seed0" / "checkpoints" / "iter_000003").is_dir()
    monkeypatch.undo()
    assert cli("train", "--resume", "--out", out)[0] == 0
    assert [row["iteration"] for row in rows(out / "seed0")] == list(range(1, 7))


def test_a_resumed_run_trains_the_seeds_it_had_not_begun(cli, tiny, tmp_path, monkeypatch):
    out = tmp_path / "run"
    iterate = SeedRun.iterate

    def interrupting(self):
        row = iterate(self)
        if row["iteration"] == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return row

    monkeypatch.setattr(SeedRun, "iterate", interrupting)
    assert cli("train", tiny, "--seeds", "4,2", "--out", out)[0] == 130
    assert not (out / "seed2").exists()
    monkeypatch.undo()
    code, stdout, _ = cli("train", "--resume", "--out", out, "--json")
    assert code == 0 and json.loads(stdout)["seeds"] == [4, 2]
    code, stdout, _ = cli("train", tiny, "--resume", "--seeds", "5", "--out", out, "--json")
    assert code == 0 and json.loads(stdout)["seeds"] == [4, 2, 5]
    assert json.loads((out / "result.json").read_text())["metrics"]["env_steps"]["n"] == 3


@pytest.mark.parametrize("words", [["TINY", "--resume"], ["--resume"], ["TINY"], ["TINY", "--tune", "lr=0.1"]])
def test_a_folder_with_other_files_is_left_alone(cli, tiny, tmp_path, words):
    (tmp_path / "notes.txt").write_text("mine")
    words = [tiny if word == "TINY" else word for word in words]
    code, stdout, err = cli("train", *words, "--out", tmp_path)
    assert code == 2 and stdout == "" and str(tmp_path) in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("target", ["save_checkpoint", "append_row", "save_agent"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(cli, tiny, tmp_path, monkeypatch, target):
    out = tmp_path / "run"

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device", str(out))

    monkeypatch.setattr(seed_run, target, full)
    code, stdout, err = cli("train", tiny, "--out", out)
    assert code == 2 and stdout == ""
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "No space left on device" in lines[0] and "Traceback" not in err
    assert not list(tmp_path.rglob("*.tmp")) and not (out / "result.json").exists()
    if target == "append_row":
        assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["repeat-previus"], "did you mean 'repeat-previous'"),
        (["absent.yaml"], "cannot read the preset"),
        (["TINY", "agent.memory=gruu"], "did you mean 'gru'"),
        (["TINY", "env=TMaz-v0"], "unknown environment"),
        (["TINY", "env_config.dificulty=easy"], "did you mean 'difficulty'"),
        (["TINY", "lrr=1"], "did you mean 'lr'"),
        (["TINY", "agent.encoder.encoders.vector=mpl"], "did you mean 'mlp'"),
        (["TINY", "algorithm=pppo"], "did you mean 'ppo'"),
        (["TINY", "fragment=15", "row=4"], "multiple of row"),
        (["TINY", "lr"], "expected key=value"),
        (["TINY", "--seeds", "a"], "expected seeds"),
        (["TINY", "--seeds", "1,1"], "distinct seeds"),
        (["TINY", "--seeds", "1,1", "--tune", "lr=0.1,0.2"], "distinct seeds"),
        (["TINY", "--tune", "seed=0,1"], "--seeds 0,1,2"),
        (["TINY", "lr=-1"], "expected lr > 0"),
        (["TINY", "out=1"], "give it as --out"),
        (["TINY", "memory=gru"], "did you mean 'agent.memory'"),
        (["TINY", "env_config.num_envs=3"], "'num_envs' is no option"),
        (["TINY", "num_envs=1"], "expected minibatch <= 16"),
        (["TINY", "--device", "tpu"], "device"),
        (["TINY", "--tune", "lr"], "expected --tune"),
        (["TINY", "--tune", "lrr=1,2"], "did you mean 'lr'"),
        (["--resume"], "give --out"),
        (["--resume", "--out", "OUT"], "nothing to resume"),
        ([], "expected a preset"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(cli, tiny, tmp_path, words, message):
    out = tmp_path / "out"
    words = [tiny if word == "TINY" else str(out) if word == "OUT" else word for word in words]
    extra = [] if "--out" in words or words == ["--resume"] else ["--out", out]
    code, stdout, err = cli("train", *words, *extra)
    assert code == 2 and stdout == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err, err
    assert not out.exists()


def test_a_corrupted_checkpoint_is_named(cli, tiny, tmp_path):
    out = tmp_path / "run"
    assert cli("train", tiny, "--out", out)[0] == 0
    state = next((out / "seed0" / "checkpoints" / "iter_000006").rglob("module_state.pkl"))
    state.write_bytes(state.read_bytes()[:-3])
    code, _, err = cli("train", "--resume", "--out", out, "stop.iterations=8")
    assert code == 2 and "corrupted" in err and "Traceback" not in err


def test_wandb_runs_offline(tiny, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(tiny, out=tmp_path / "w", **{"log.wandb": True, "stop.iterations": 2})
    assert list((tmp_path / "w" / "seed0" / "wandb").glob("offline-run-*"))
