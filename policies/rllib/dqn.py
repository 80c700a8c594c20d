"""Recurrent DQN with burn-in (Kapturowski et al. 2019, without prioritisation) on RLlib's episode replay buffer.

Rows of S steps are replayed from the state that was recorded with them; the first ``burn_in`` steps of a row warm the
memory up and carry no loss. Limits: Discrete actions, the stock runner, one env per runner (several runners are fine).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium import spaces
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.dqn.dqn_learner import QF_NEXT_PREDS, QF_PREDS, QF_TARGET_NEXT_PREDS
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import QNetAPI
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.common import configure
from embodied_mem.policies.rllib.config import TrainConfig
from embodied_mem.policies.rllib.module import MemoryTargetRLModule

FINAL_EPSILON = 0.05


def build(config: TrainConfig) -> DQNConfig:
    """Return the RLlib config of a recurrent DQN run.

    Raises:
        UsageError: more than one env per runner, a burn-in as long as the row, or another runner than stock.
    """
    if config.num_envs != 1:
        raise UsageError(f"dqn: expected num_envs=1 (one env per runner), got {config.num_envs}; raise num_env_runners")
    if not config.burn_in < config.row_length:
        raise UsageError(f"dqn: expected burn_in < row {config.row_length}, got {config.burn_in}")
    rllib = DQNConfig()
    configure(rllib, config, MemoryQModule, epsilon_steps=config.epsilon_steps)
    return (
        rllib.env_runners(rollout_fragment_length=config.fragment)
        .training(
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": config.replay_capacity},
            train_batch_size_per_learner=config.minibatch,
            num_steps_sampled_before_learning_starts=2 * config.minibatch,
            target_network_update_freq=config.target_update_steps,
            burn_in_len=config.burn_in,
            double_q=True,
            dueling=False,
            n_step=1,
            num_atoms=1,
        )
        .reporting(min_sample_timesteps_per_iteration=config.fragment)
    )


class MemoryQModule(MemoryTargetRLModule, QNetAPI):
    """The agent's action head read as action values, with epsilon-greedy exploration."""

    def setup(self) -> None:
        """Build the agent.

        Raises:
            UsageError: the action space is not Discrete.
        """
        if not isinstance(self.action_space, spaces.Discrete):
            raise UsageError(f"dqn: expected a Discrete action space, got {self.action_space}")
        super().setup()

    def compute_q_values(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return action values (B, T, n) float32 and the state after the rows."""
        values, _, _, state = self._sequence(self.agent, batch)
        return {QF_PREDS: values, Columns.STATE_OUT: state}

    def forward_target(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the target agent's action values (B, T, n) float32."""
        with torch.no_grad():
            return {QF_PREDS: self._sequence(self.target_agent, batch)[0]}  # type: ignore[arg-type]

    def _forward_inference(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        with torch.no_grad():
            found = self.compute_q_values(batch)
        return {Columns.ACTIONS: found[QF_PREDS].argmax(-1), Columns.STATE_OUT: found[Columns.STATE_OUT]}

    def _forward_exploration(self, batch: Mapping[str, Any], t: int = 0, **kwargs: Any) -> dict[str, Any]:
        outputs = self._forward_inference(batch)
        greedy = outputs[Columns.ACTIONS]
        epsilon = max(FINAL_EPSILON, 1.0 - (1.0 - FINAL_EPSILON) * t / self.model_config["epsilon_steps"])
        explores = torch.rand(greedy.shape) < epsilon
        drawn = torch.randint(int(self.action_space.n), greedy.shape)  # type: ignore[attr-defined]
        outputs[Columns.ACTIONS] = torch.where(explores, drawn, greedy)
        return outputs

    def _forward_train(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        following = {Columns.OBS: batch[Columns.NEXT_OBS], Columns.STATE_IN: batch[Columns.NEXT_STATE_IN]}
        with torch.no_grad():
            ahead: Tensor = self.compute_q_values(following)[QF_PREDS]
        return {
            QF_PREDS: self.compute_q_values(batch)[QF_PREDS],
            QF_NEXT_PREDS: ahead,
            QF_TARGET_NEXT_PREDS: self.forward_target(following)[QF_PREDS],
        }
