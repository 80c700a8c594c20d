"""PPO goes on where imitation ended: the same policy, through RLlib, and back to a bundle that acts alone."""

import json

import numpy as np
import pytest
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from embodied_mem.agent import load_agent
from embodied_mem.config import to_dict
from embodied_mem.errors import UsageError
from embodied_mem.experiments.presets_loader import load_preset
from embodied_mem.experiments.training import train
from embodied_mem.policies.imitation.config import apply_imitation_overrides, imitation_config
from embodied_mem.policies.imitation.demonstrations import DemonstrationConfig, record
from embodied_mem.policies.imitation.run import train_imitation
from embodied_mem.policies.rllib.config import build
from embodied_mem.policies.rllib.packed import RowBatch
from embodied_mem.policies.rllib.runner import BatchedRunner
from embodied_mem.policies.rllib.sync import copy_weights
from embodied_mem.private_ray import start_private_ray
from embodied_mem.spaces import encode_text

ACTING = {"start": "zero", "guidance": 1.0}
PPO = {
    "description": "goes on from imitation",
    "algorithm": "vla_ppo",
    "actor": {"std": 0.1, "hidden": 16},
    "num_envs": 8,
    "fragment": 16,
    "row": 16,
    "minibatch": 64,
    "epochs": 2,
    "lr": 1e-3,
    "stop": {"iterations": 1},
    "log": {"tensorboard": False},
}


@pytest.fixture(scope="module")
def local_ray():
    import ray

    start_private_ray(num_cpus=2)
    yield ray
    ray.shutdown()


def imitated(small, out, **changes):
    """A run of imitation and the preset values of PPO on it."""
    keys = {"agent.expert.schedule.predict": "sample", "agent.expert.schedule.steps": 2, "lr": 3e-3, **changes}
    settings = apply_imitation_overrides(imitation_config(small), keys)
    result = train_imitation(settings, "first", out)
    agent = to_dict(settings.train.agent)
    agent["expert"] |= ACTING
    return result, {**PPO, "env": settings.train.env, "agent": agent, "init": str(out)}


def written(values, folder):
    path = folder / "second.yaml"
    path.write_text(json.dumps(values))
    return str(path)


def test_ppo_starts_as_the_imitated_policy(small, told_later, tmp_path):
    """Its runner samples with the policy of the bundle, and the learner sees at first what acted, memories included."""
    _, values = imitated(small, tmp_path / "first", updates=100, rollouts=0)
    values |= {"keep_logits": True}
    first = load_agent(tmp_path / "first")
    runner = BatchedRunner(config=build(load_preset(written(values, tmp_path)).config.train))
    actor = runner.module.agent
    for key, value in first.module.state_dict().items():
        assert torch.equal(actor.policy.state_dict()[key], value), key
    shown = record(told_later, {}, DemonstrationConfig(16, noise=0.0))
    away = []
    for item in shown:
        held, state = first.initial_state(1, seed=0), actor.initial_state(1)
        for t in range(len(item)):
            seen = {"vector": item.state[t : t + 1], "instruction": encode_text(item.instruction, 16)[None]}
            reset = np.array([t == 0])
            played, held, _ = first.act(seen, held, reset)
            with torch.no_grad():
                tensors = {key: torch.from_numpy(value) for key, value in seen.items()}
                inputs, _, state = actor.step(tensors, state, torch.from_numpy(reset))
            away.append(np.abs(actor.to_env(inputs[:, :2]) - played).max())
    # actions are 0.5 either way: the noise that imitation plans from moves them by little
    assert np.mean(away) < 0.1
    runner.sample()
    columns = RowBatch.from_packed("p", runner.sample()[0], torch.device("cpu")).columns
    assert columns["resets"][:, 1:].any() and columns["actions"].shape == (8, 16, 2)
    out = runner.module._forward_train(columns)
    assert (out["action_dist_inputs"] - columns["action_dist_inputs"]).abs().max() <= 1e-5
    spread = (columns["actions"] - columns["action_dist_inputs"][..., :2]).std()
    assert 0.08 < spread < 0.12


def iterations(config, count):
    """PPO by its runner and its learner, without an Algorithm around them: yields mean success after every update."""
    rllib = build(config)
    runner = BatchedRunner(config=rllib)
    learner = rllib.build_learner(spaces=runner.get_spaces())
    steps = 0
    for _ in range(count):
        batches = runner.sample()
        steps += batches[0].env_steps()
        learner.update(
            training_data=TrainingData(batch=batches[0]),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: steps},
            num_epochs=rllib.num_epochs,
        )
        copy_weights(learner.module[DEFAULT_MODULE_ID], runner.module)
        _, recent = runner._episodes.drain()
        yield runner, float(np.mean(recent["success"])) if len(recent["success"]) else None


@pytest.mark.parametrize("memory", ["perceptual_cognitive_bank", "lstm"])
def test_one_iteration_changes_every_part_but_the_ranges(small, told_later, tmp_path, memory):
    _, values = imitated(small, tmp_path / "first", rollouts=0, **{"agent.memory": memory})
    before = load_agent(tmp_path / "first").module.state_dict()
    for runner, _ in iterations(load_preset(written(values, tmp_path)).config.train, 1):
        after = runner.module.trained.state_dict()
        heads = runner.module.agent.head.state_dict()
    for part in ("perception", "memory", "expert"):
        assert any(not torch.equal(after[key], value) for key, value in before.items() if key.startswith(part)), part
    assert all(torch.isfinite(value).all() for value in after.values() if value.is_floating_point())
    assert torch.equal(after["actions.low"], before["actions.low"]) and heads["layers.2.weight"].any()


@pytest.mark.full
def test_a_run_changes_the_whole_policy_and_exports_one_that_acts_without_ray(small, told_later, tmp_path, local_ray):
    _, values = imitated(small, tmp_path / "first", rollouts=0, **{"agent.memory": "lstm"})
    result = train(written(values, tmp_path), out=tmp_path / "second")
    assert result["metrics"]["env_steps"]["mean"] > 0
    agent = load_agent(tmp_path / "second")
    before, after = load_agent(tmp_path / "first").module.state_dict(), agent.module.state_dict()
    for part in ("perception", "memory", "expert"):
        assert any(not torch.equal(after[key], value) for key, value in before.items() if key.startswith(part)), part
    assert torch.equal(after["actions.low"], before["actions.low"])
    assert agent.module.config.memory == "lstm" and agent.module.config.expert.start == "zero"
    seen = {"vector": np.ones((2, 3), np.float32), "instruction": np.zeros((2, 16), np.uint8)}
    played = [agent.act(seen, agent.initial_state(2, seed=seed), np.ones(2, bool))[0] for seed in range(2)]
    assert np.array_equal(*played)


def test_settings_that_do_not_fit_are_refused(small, told_later, tmp_path):
    _, values = imitated(small, tmp_path / "first", updates=3, rollouts=0)
    with pytest.raises(UsageError, match="trained with other settings"):
        train(written(values, tmp_path), out=tmp_path / "third", **{"agent.expert.schedule.train_steps": 30})
    with pytest.raises(UsageError, match="acting 'mode'"):
        train(written(values, tmp_path), out=tmp_path / "third", acting="sample")
    with pytest.raises(UsageError, match="runner 'batched'"):
        train(written(values, tmp_path), out=tmp_path / "third", runner="stock")


@pytest.mark.full
def test_ppo_improves_what_imitation_began(small, told_later, tmp_path):
    """What imitation has only begun (chance is 0.5), the memory included, is learned by reward."""
    first, values = imitated(small, tmp_path / "first", updates=12, rollouts=200)
    values |= {"num_envs": 32, "fragment": 32, "row": 32, "minibatch": 256}
    rates = [rate for _, rate in iterations(load_preset(written(values, tmp_path)).config.train, 30)]
    begun = first["metrics"]["success"]["mean"]
    assert begun < 0.8 and rates[-1] > 0.95
