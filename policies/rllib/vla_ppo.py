"""PPO of a diffusion policy with any memory: `VLAActor` as RLModule, on the batched runner and the packed learner.

Cost model, with N environments, S steps per row and k denoising steps: acting is perception, one memory step and k
passes of the expert over a chunk, for N rows at once; an update runs the same over all steps of a minibatch, the memory
as one sequence, and backward through the last ``actor.through`` of the k passes. Guidance other than 1 doubles the
expert's part. Beside PPO with a recurrent head the expert is what is dear, so k is 2 in the preset, not 10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.algorithms.ppo import PPOConfig
from torch import Tensor

from embodied_mem.agent import Bundled
from embodied_mem.config import from_dict, to_dict
from embodied_mem.policies.rllib import ppo
from embodied_mem.policies.rllib.module import MemoryRLModule
from embodied_mem.policies.rllib.vla_config import VLATrainConfig
from embodied_mem.policies.vla.actor import make_actor
from embodied_mem.policies.vla.config import ActorConfig, VLAConfig


def build(config: VLATrainConfig) -> PPOConfig:
    """Return the RLlib config of a run."""
    return ppo.build(config, VLARLModule, actor=to_dict(config.actor))


class VLARLModule(MemoryRLModule):
    """`VLAActor` with RLlib's forward methods; ``model_config`` holds ``actor`` beside the keys of the base class."""

    def make_agent(self) -> Any:
        """Return the policy with its heads."""
        found = self.model_config
        agent, actor = from_dict(VLAConfig, found["agent"]), from_dict(ActorConfig, found["actor"])
        return make_actor(agent, actor, self.observation_space, self.action_space, found.get("init"))

    @property
    def trained(self) -> Bundled:
        """The policy without its heads: what imitation exports too."""
        return self.agent.policy

    def to_env(self, actions: Tensor) -> np.ndarray:
        """Return the environment's actions (B, A) for normalised ones (B, A)."""
        return self.agent.to_env(actions)
