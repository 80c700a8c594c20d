import pytest
import torch

from embodied_mem.agent import AgentConfig
from embodied_mem.perception.encoder import EncoderConfig
from embodied_mem.policies.rllib.config import TrainConfig, build
from embodied_mem.policies.rllib.impala import mask_weight, standardized
from embodied_mem.policies.training.cpu_time import CpuMeter


def test_standardized_advantages_count_real_steps_only():
    mask = torch.tensor([[True, True, False], [True, True, True]])
    advantages = torch.tensor([[1.0, 2.0, 900.0], [3.0, 4.0, 5.0]])
    found = standardized(advantages, mask_weight(mask))[mask]
    assert found.mean().abs() < 1e-6 and (found.square().mean() - 1.0).abs() < 1e-6


@pytest.mark.full
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("algorithm", "memory"),
    [("ppo", "gru"), ("ppo", "lstm"), ("ppo", "gated_delta"), ("ppo", "episodic"), ("appo", "gru")],
)
def test_repeat_previous_is_learned_within_the_budget(local_ray, algorithm, memory, seed):
    config = TrainConfig(
        algorithm=algorithm,
        agent=AgentConfig(encoder=EncoderConfig(out_dim=64), memory=memory),
        num_envs=128,
        fragment=32,
        gamma=0.0,
        lr=3e-3,
        seed=seed,
    )
    algo = build(config).build_algo()
    meter, score = CpuMeter(), -1.0
    # NaN until the first episode ends
    while not score >= 0.95 and meter.seconds() < 30.0:
        score = algo.train()["env_runners"].get("episode_return_mean", -1.0)
    algo.stop()
    assert score >= 0.95
