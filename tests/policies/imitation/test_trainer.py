"""The loop: it learns to remember, resumes to the same weights, and writes an agent that evaluation takes."""

import json

import numpy as np
import pytest
import torch

from embodied_mem.agent import load_agent
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.experiments.training import train
from embodied_mem.policies.imitation.config import apply_imitation_overrides, imitation_config
from embodied_mem.policies.imitation.demonstrations import record
from embodied_mem.policies.imitation.run import train_imitation
from embodied_mem.policies.imitation.trainer import ImitationSeed


def config(small, **changes):
    return apply_imitation_overrides(imitation_config(small), changes)


def weights(run):
    return {**run.policy.state_dict(), **{f"average/{key}": value for key, value in run.average.state_dict().items()}}


@pytest.mark.parametrize("mode", ["episode", "stream"])
def test_a_resumed_run_ends_with_the_same_weights(small, told_later, tmp_path, mode):
    settings = config(small, **{"batch.mode": mode, "batch.window": 5})
    shown = record(told_later, {}, settings.train.demos)
    whole = ImitationSeed(settings, "x", 0, tmp_path / "whole", shown)
    while not whole.done:
        whole.iterate()
    part = ImitationSeed(settings, "x", 0, tmp_path / "part", shown)
    part.iterate()
    part.save()
    part.iterate()  # lost: it is killed before it saves
    resumed = ImitationSeed(settings, "x", 0, tmp_path / "part", shown, resume=True)
    assert resumed.update == 3
    while not resumed.done:
        resumed.iterate()
    for key, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[key]), key
    rows = [json.loads(line) for line in (tmp_path / "part" / "metrics.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4]
    assert [row["loss"] for row in rows] == [row["loss"] for row in whole.rows]


@pytest.mark.full
@pytest.mark.parametrize(
    ("memory", "options", "solves"),
    [
        ("perceptual_cognitive_bank", {}, True),
        # Segments of two steps: the cue can only come through the tokens in front of the segment.
        ("rmt", {"agent.fusion": "prefix", "agent.memory_config.segment": 2, "agent.memory_config.width": 32}, True),
        (
            "memo_summary",
            {"agent.fusion": "prefix", "agent.memory_config.segment": 2, "agent.memory_config.width": 32},
            True,
        ),
        ("dt_mem", {"agent.policy": "decision", "agent.memory_config.slots": 8}, True),
        ("none", {}, False),
        # the expert tells the cue at every step, so the action before is a memory of its own
        ("none", {"agent.policy": "decision"}, True),
        ("none", {"agent.policy": "decision", "agent.decision.sees_action": False}, False),
        ("dt_mem", {"agent.policy": "decision", "agent.decision.sees_action": False}, True),
    ],
)
def test_only_a_memory_solves_what_must_be_remembered(small, told_later, tmp_path, memory, options, solves):
    changes = {"agent.memory": memory, "updates": 250, "rollouts": 48, "lr": 3e-3, "agent.expert.guidance": 1.0}
    settings = config(small, **changes, **options)
    result = train_imitation(settings, "told-later", tmp_path / "run")
    rate = result["metrics"]["success"]["mean"]
    assert rate > 0.9 if solves else rate < 0.75


def test_the_checkpoint_evaluates_beside_its_controls(small, told_later, tmp_path):
    for memory, name in (("lstm", "run"), ("none", "run-none")):
        train_imitation(config(small, **{"agent.memory": memory}), "told-later", tmp_path / name)
    suite = Suite("mine", "told later", (Task(told_later, "probe"),), episodes=12, num_envs=8)
    controls = ["none", "wiped:2", "shuffled"]
    result = evaluate(tmp_path / "run", suite, controls=controls, device="cpu")
    assert set(result["controls"]) == set(controls)
    assert all(result["controls"][name]["success"]["n"] == 12 for name in controls)
    alone = evaluate(tmp_path / "run-none", suite, controls=["wiped:2"], device="cpu")
    assert alone["controls"]["wiped:2"] is None and "keeps nothing" in alone["notes"][0]


def test_a_loaded_agent_acts_as_the_trained_one(small, told_later, tmp_path):
    settings = config(small)
    run = ImitationSeed(settings, "x", 0, tmp_path, record(told_later, {}, settings.train.demos))
    run.iterate()
    run.finish()
    agent = load_agent(tmp_path)
    for key, value in run.average.state_dict().items():
        assert torch.equal(agent.module.state_dict()[key], value)
    path = tmp_path / "agent" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(UsageError, match="corrupted"):
        load_agent(tmp_path)


def test_the_average_follows_the_weights(small, told_later, tmp_path):
    settings = config(small, ema=0.0)
    run = ImitationSeed(settings, "x", 0, tmp_path, record(told_later, {}, settings.train.demos))
    run.iterate()
    pairs = zip(run.policy.parameters(), run.average.parameters())
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in pairs)
    run.close()


def test_a_preset_file_trains_and_resumes(small, told_later, tmp_path):
    text = {"description": "tells a cue later", "algorithm": "imitation", "env": told_later, **nested(small)}
    path = tmp_path / "told.yaml"
    path.write_text(json.dumps(text))
    with pytest.raises(UsageError, match="--tune"):
        train(str(path), out=tmp_path / "run", tune={"lr": [1e-3]})
    first = train(str(path), out=tmp_path / "run", updates=6)
    assert first["metrics"]["success"]["n"] == 1
    again = train(None, out=tmp_path / "run", resume=True, seeds=[0, 1])
    assert again["seeds"] == [0, 1] and len(list((tmp_path / "run").glob("demonstrations-*.npz"))) == 1
    with pytest.raises(UsageError, match="other settings"):
        train(str(path), out=tmp_path / "run", resume=True, **{"agent.memory": "lstm"})


def test_actions_left_of_a_plan_are_played_out(small, told_later, tmp_path):
    """Two actions per plan: a row plans anew at every second step of its episode, and at once where one begins."""
    from embodied_mem.policies.imitation.trainer import build_policy
    from embodied_mem.policies.vla.agent import VLAAgent

    agent = VLAAgent(build_policy(config(small, **{"agent.expert.chunk": 4, "agent.expert.execute": 2})))
    rows, plans = 3, []
    agent.module.plan = lambda seen, thought, draws: plans.append(len(thought)) or torch.full((len(thought), 4, 2), 0.1)
    obs = {"vector": np.zeros((rows, 3), np.float32), "instruction": np.zeros((rows, 16), np.uint8)}
    state = agent.initial_state(rows, seed=0)
    for t in range(5):
        actions, state, _ = agent.act(obs, state, np.array([t == 0, t in (0, 1), t in (0, 4)]))
        assert actions.shape == (rows, 2) and actions.dtype == np.float32
    assert plans == [3, 1, 2, 1, 2]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lrr": 1}, "did you mean 'lr'"),
        ({"memory": "lstm"}, "did you mean 'agent.memory'"),
        ({"seed": 1}, "--seeds"),
        ({"updates": 0}, "expected updates >= 1"),
        ({"batch.mode": "rows"}, "batch.mode"),
        ({"agent.memory": "lstmm"}, "did you mean 'lstm'"),
    ],
)
def test_wrong_keys_and_values_are_explained(small, changes, message):
    with pytest.raises(UsageError, match=message):
        config(small, **changes)


def test_another_memory_drops_the_options_it_does_not_have(small):
    assert config(small, **{"agent.memory": "lstm"}).train.agent.memory_config == {}


def nested(flat):
    """The same keys as a preset writes them."""
    from embodied_mem.config import merge_dotted

    return merge_dotted({}, {key: value for key, value in flat.items() if key != "env"})
