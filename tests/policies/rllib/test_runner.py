import numpy as np
import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.config import TrainConfig, build
from embodied_mem.policies.rllib.packed import RowBatch
from embodied_mem.policies.rllib.runner import BatchedRunner
from embodied_mem.policies.rllib.runner_metrics import EPISODE_SUCCESS_MEAN

COUNTER, FLAKY = "EmbodiedMemTest/Counter-v0", "EmbodiedMemTest/Flaky-v0"


def make(**options):
    options = {"env": COUNTER, "num_envs": 5, "fragment": 24, "row": 8, "minibatch": 40, "keep_logits": True} | options
    return BatchedRunner(config=build(TrainConfig(**options)))


def by_env(column, envs, row=8):
    """Rows (N T / S, S, ...) back to (N, T, ...)."""
    return column.reshape(envs, -1, *column.shape[2:])


def test_rows_follow_the_envs_over_fragments():
    runner = make()
    parts = [runner.sample()[0].columns for _ in range(4)]
    obs = np.concatenate([by_env(part["obs"]["vector"], 5) for part in parts], axis=1)
    resets = np.concatenate([by_env(part["resets"], 5) for part in parts], axis=1)
    mask = np.concatenate([by_env(part["loss_mask"], 5) for part in parts], axis=1)
    episode, step = obs[..., 0], obs[..., 1]
    assert resets[:, 0].all()
    assert (resets == (step == 0)).all(), "a reset is exactly the first observation of an episode"
    final = np.zeros_like(mask)
    final[:, :-1] = episode[:, 1:] != episode[:, :-1]
    assert (mask[:, :-1] == ~final[:, :-1]).all(), "the masked steps are exactly those on final observations"
    same = ~final[:, :-1]
    assert (np.diff(step, axis=1)[same] == 1).all(), "no step is lost at a row or fragment boundary"


def test_learner_forward_equals_acting_for_rows_with_resets_inside():
    runner = make(agent=TrainConfig().agent)
    runner.sample()
    columns = RowBatch.from_packed("p", runner.sample()[0], torch.device("cpu")).columns
    assert int(columns["resets"][:, 1:].sum()) > 10
    with torch.no_grad():
        out = runner.module._forward_train(columns)
    assert (out["action_dist_inputs"] - columns["action_dist_inputs"]).abs().max() <= 1e-5
    zeroed = columns | {"state_in": {key: value * 0 - 1.0 for key, value in columns["state_in"].items()}}
    with torch.no_grad():
        other = runner.module._forward_train(zeroed)
    assert (other["action_dist_inputs"] - columns["action_dist_inputs"]).abs().max() > 1e-4


@pytest.mark.parametrize("memory", ["none", "gru"])
def test_value_targets_use_the_values_of_the_rows(memory):
    agent = type(TrainConfig().agent)(memory=memory)
    runner = make(agent=agent, gamma=0.9, gae_lambda=0.0)
    columns = RowBatch.from_packed("p", runner.sample()[0], torch.device("cpu")).columns
    with torch.no_grad():
        values = runner.module._forward_train(columns)["vf_preds"].numpy()
    steps = columns["obs"]["vector"][..., 1].numpy()
    actions = columns["actions"].numpy()
    rewards = steps + 1.0 + 10.0 * actions
    values, rewards, mask = (by_env(a, 5) for a in (values, rewards, columns["loss_mask"].numpy()))
    targets = by_env(columns["value_targets"].numpy(), 5)
    inside = mask[:, :-1] & mask[:, 1:]
    np.testing.assert_allclose(
        targets[:, :-1][inside], (rewards[:, :-1] + 0.9 * values[:, 1:])[inside], rtol=1e-4, atol=1e-4
    )
    ended = mask[:, :-1] & ~mask[:, 1:]
    truncated = rewards[:, :-1] + 0.9 * values[:, 1:]
    error = np.minimum(abs(targets[:, :-1] - truncated), abs(targets[:, :-1] - rewards[:, :-1]))
    assert (error[ended] < 1e-3).all() and ended.sum() > 5


def test_vtrace_rows_carry_the_next_rows_first_observation():
    runner = make(algorithm="appo", minibatch=40)
    columns = runner.sample()[0].columns
    obs = columns["obs"]["vector"].reshape(5, 3, 9, 2)
    assert (obs[:, :-1, -1] == obs[:, 1:, 0]).all()
    assert columns["resets"].shape == (15, 9) and columns["loss_mask"].shape == (15, 8)
    assert "advantages" not in columns


def test_same_seed_same_rows_and_another_seed_other_rows():
    first, again, other = (make(seed=seed).sample()[0].columns for seed in (3, 3, 4))
    assert (first["obs"]["vector"] == again["obs"]["vector"]).all() and (first["actions"] == again["actions"]).all()
    assert (first["advantages"] == again["advantages"]).all()
    assert (first["actions"] != other["actions"]).any()


def test_metrics_report_finished_episodes():
    runner = make(fragment=48)
    steps = runner.sample()[0].env_steps()
    metrics = runner.get_metrics()
    assert metrics["num_env_steps_sampled"].peek() == steps < 5 * 48
    assert 2 <= metrics["episode_len_mean"].peek() <= 9
    assert 0 < metrics[EPISODE_SUCCESS_MEAN].peek() < 1
    assert metrics["num_episodes"].peek() > 5


def test_evaluation_counts_the_first_episodes_of_every_env():
    runner = make(num_envs=4)
    (done,) = runner.sample(num_episodes=10, explore=False)
    metrics = runner.get_metrics()
    assert metrics["num_episodes"].peek() == 10
    assert metrics["num_env_steps_sampled"].peek() == done.env_steps()
    (some,) = runner.sample(num_timesteps=30)
    assert 30 <= some.env_steps() < 34


def test_a_failing_environment_is_made_anew():
    runner = make(env=FLAKY, num_envs=2, restart_failed_envs=True)
    for _ in range(3):
        assert runner.sample()[0].env_steps() > 0
    assert runner.get_metrics()["num_env_step_failures"].peek() >= 1


def test_a_failing_environment_stops_the_run_when_told_so():
    runner = make(env=FLAKY, num_envs=2, restart_failed_envs=False)
    with pytest.raises(RuntimeError, match="simulator died"):
        for _ in range(5):
            runner.sample()


def test_runner_state_restores_the_draws():
    runner, other = make(), make(seed=9)
    runner.sample()
    state = runner.get_state()
    other.set_state(state)
    assert torch.equal(runner._sampler.get_state(), other._sampler.get_state())
    state["rng"]["worker_index"] = 2
    third = make(seed=10)
    before = third._sampler.get_state()
    third.set_state(state)
    assert torch.equal(before, third._sampler.get_state()), "another runner's generator is left out"


def test_random_actions_are_refused():
    with pytest.raises(UsageError, match="runner: stock"):
        make().sample(random_actions=True)
