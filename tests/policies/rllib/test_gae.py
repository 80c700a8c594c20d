import numpy as np
import pytest
import torch

from embodied_mem.policies.rllib.gae import gae
from embodied_mem.policies.rllib.vtrace import vtrace


def rollout(rng, steps, envs):
    """A NEXT_STEP rollout: a dummy step with reward 0 follows every end."""
    rewards = rng.normal(size=(steps, envs)).astype(np.float32)
    values = rng.normal(size=(steps + 1, envs)).astype(np.float32)
    ends = rng.random((steps, envs)) < 0.2
    for t in range(1, steps):
        ends[t] &= ~ends[t - 1]
        rewards[t][ends[t - 1]] = 0.0
    terminated = ends & (rng.random((steps, envs)) < 0.5)
    real = np.vstack([np.ones((1, envs), bool), ~ends[:-1]])
    return rewards, values, terminated, ends, real


def reference(rewards, values, terminated, done, gamma, lam):
    """Advantages of one env from the definition: sums of discounted deltas up to the episode's end."""
    steps = len(rewards)
    out = np.zeros(steps)
    for t in range(steps):
        weight = 1.0
        for k in range(t, steps):
            bootstrap = 0.0 if terminated[k] else gamma * values[k + 1]
            out[t] += weight * (rewards[k] + bootstrap - values[k])
            if done[k]:
                break
            weight *= gamma * lam
    return out


@pytest.mark.parametrize("lam", [0.0, 0.9, 1.0])
def test_equals_the_definition_env_by_env(lam):
    rewards, values, terminated, done, real = rollout(np.random.default_rng(0), 40, 7)
    found = gae(rewards, values, terminated, done, 0.97, lam)
    for env in range(7):
        wanted = reference(rewards[:, env], values[:, env], terminated[:, env], done[:, env], 0.97, lam)
        np.testing.assert_allclose(found[:, env][real[:, env]], wanted[real[:, env]], rtol=1e-4, atol=1e-5)


def test_truncation_bootstraps_and_termination_does_not():
    rewards = np.array([[1.0, 1.0], [0.0, 0.0]], np.float32)
    values = np.array([[0.0, 0.0], [5.0, 5.0], [9.0, 9.0]], np.float32)
    done = np.array([[True, True], [False, False]])
    terminated = np.array([[True, False], [False, False]])
    found = gae(rewards, values, terminated, done, 0.5, 0.9)
    assert found[0].tolist() == [1.0, 1.0 + 0.5 * 5.0]


def test_wrong_number_of_values_is_refused():
    with pytest.raises(ValueError, match="T \\+ 1"):
        gae(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((4, 2), bool), np.zeros((4, 2), bool), 0.9, 0.9)


def test_vtrace_on_policy_is_gae_with_lambda_one():
    rewards, values, terminated, done, real = rollout(np.random.default_rng(1), 30, 5)
    rows = [torch.from_numpy(np.ascontiguousarray(a.T)) for a in (rewards, values, terminated, done)]
    targets, advantages = vtrace(torch.zeros(5, 30), rows[1], rows[0], rows[2], rows[3], 0.9)
    wanted = gae(rewards, values, terminated, done, 0.9, 1.0).T
    np.testing.assert_allclose((targets - rows[1][:, :-1]).numpy()[real.T], wanted[real.T], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(advantages.numpy()[real.T], wanted[real.T], rtol=1e-4, atol=1e-5)


def vtrace_reference(log_rhos, values, rewards, terminated, done, gamma, clip_rho, clip_pg):
    """Equation 1 of the paper as a double sum over one row."""
    steps = len(rewards)
    discount = gamma * (1.0 - terminated)
    rho, c = np.minimum(np.exp(log_rhos), clip_rho), np.minimum(np.exp(log_rhos), 1.0)
    vs = np.array(values, np.float64)
    for s in range(steps):
        weight = 1.0
        for t in range(s, steps):
            vs[s] += weight * rho[t] * (rewards[t] + discount[t] * values[t + 1] - values[t])
            if done[t]:
                break
            weight *= discount[t] * c[t]
    ahead = np.where(done, values[1:], vs[1:])
    return vs[:-1], np.minimum(np.exp(log_rhos), clip_pg) * (rewards + discount * ahead - values[:-1])


def test_vtrace_equals_the_paper_off_policy():
    rng = np.random.default_rng(2)
    rewards, values, terminated, done, real = rollout(rng, 25, 4)
    log_rhos = rng.normal(scale=0.7, size=(4, 25)).astype(np.float32)
    rows = [torch.from_numpy(np.ascontiguousarray(a.T)) for a in (rewards, values, terminated, done)]
    found = vtrace(torch.from_numpy(log_rhos), rows[1], rows[0], rows[2], rows[3], 0.95, 1.0, 0.8)
    for row in range(4):
        wanted = vtrace_reference(
            log_rhos[row], values[:, row], rewards[:, row], terminated[:, row], done[:, row], 0.95, 1.0, 0.8
        )
        for mine, theirs in zip(found, wanted, strict=True):
            np.testing.assert_allclose(mine[row].numpy()[real[:, row]], theirs[real[:, row]], rtol=1e-4, atol=1e-4)
