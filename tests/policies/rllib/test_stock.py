import numpy as np
import pytest
import torch

from embodied_mem.agent import AgentConfig
from embodied_mem.policies.rllib.config import TrainConfig, build

STOCK = {
    "runner": "stock",
    "num_envs": 4,
    "fragment": 31,
    "minibatch": 124,
    "gamma": 0.9,
    "epochs": 1,
    "agent": AgentConfig(memory="gru"),
}


@pytest.mark.usefixtures("local_ray")
class TestStock:
    def test_both_runners_give_the_same_logits(self):
        stock = build(TrainConfig(**STOCK)).build_algo()
        packed = build(
            TrainConfig(**(STOCK | {"runner": "batched", "fragment": 32, "row": 16, "minibatch": 128}))
        ).build_algo()
        packed.env_runner.module.set_state(stock.env_runner.module.get_state())
        for _ in range(3):
            episodes = stock.env_runner.sample()
        stock.env_runner.sample(num_episodes=4)
        episodes = [e for e in stock.env_runner.sample(num_episodes=4) if e.t_started == 0]
        assert len(episodes) >= 4
        agent = packed.env_runner.module.agent
        for episode in episodes:
            acted = episode.get_extra_model_outputs("action_dist_inputs")
            obs = torch.from_numpy(np.stack(episode.get_observations())[None, : len(acted)].astype(np.float32))
            if obs.dim() == 2:
                obs = torch.nn.functional.one_hot(obs.long()).float()
            state, found = agent.initial_state(1), []
            with torch.no_grad():
                for t in range(obs.shape[1]):
                    reset = torch.tensor([t == 0])
                    logits, _, state = packed.env_runner.module.rollout_step({"vector": obs[:, t]}, state, reset)
                    found.append(logits[0].numpy())
            assert np.abs(np.stack(found) - acted).max() <= 1e-5
        stock.stop()
        packed.stop()

    def test_the_stock_learner_sees_the_acting_logits(self):
        algo = build(TrainConfig(**STOCK)).build_algo()
        learner = algo.learner_group._learner
        original, seen = learner.compute_loss_for_module, []

        def spy(*, module_id, config, batch, fwd_out):
            mask = batch["loss_mask"]
            error = (fwd_out["action_dist_inputs"] - batch["action_dist_inputs"])[mask].abs().max()
            seen.append(float(error.detach()))
            return original(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)

        learner.compute_loss_for_module = spy
        for _ in range(3):
            seen.clear()
            result = algo.train()
            assert seen[0] <= 1e-5
        assert np.isfinite(result["learners"]["default_policy"]["policy_loss"])
        algo.stop()
