"""`VLAPolicy`: a diffusion transformer over action chunks on the trunk. `make_policy` builds the configured policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gymnasium
import torch
from torch import Tensor

from embodied_mem.memory.contract import State
from embodied_mem.policies.vla.base import TokenPolicy
from embodied_mem.policies.vla.config import VLAConfig
from embodied_mem.policies.vla.decision import DecisionPolicy
from embodied_mem.policies.vla.expert import ActionExpert
from embodied_mem.policies.vla.key_frames import KeyFramePolicy

if TYPE_CHECKING:
    from embodied_mem.policies.imitation.batches import Batch


class VLAPolicy(TokenPolicy):
    """Fused tokens to chunks of actions by taking noise away."""

    def __init__(self, config: VLAConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        """Build the policy for single-env spaces.

        Raises:
            UsageError: as `TokenPolicy`.
        """
        super().__init__(config, observation_space, action_space)
        self.expert = ActionExpert(config.expert, self.action_dim, config.perception.width, config.perception.cognitive)
        self.chunk, self.execute = config.expert.chunk, config.expert.execute

    def loss(self, batch: Batch, state: State | None, generator: torch.Generator) -> tuple[Tensor, State]:
        """Return the diffusion loss; see `TokenPolicy.loss`."""
        perceptual, cognitive, state = self.sequence(batch.obs, state, batch.resets, batch.valid)
        # Padded frames are left out rather than weighted: the expert is the larger part of the cost.
        kept = batch.valid.flatten()
        actions, weight, perceptual, cognitive = (
            part.flatten(0, 1)[kept] for part in (self.actions(batch.chunks), batch.weight, perceptual, cognitive)
        )
        return self.with_own_losses(self.expert.loss(actions, weight, perceptual, cognitive, generator)), state

    def plan(self, perceptual: Tensor, cognitive: Tensor, generator: torch.Generator) -> Tensor:
        """Return the environment's actions (B, K, A), from noise drawn with ``generator``."""
        shape = (len(cognitive), self.chunk, self.action_dim)
        noise = torch.empty(shape, device=self.device).normal_(generator=generator)
        return self.actions.restore(self.expert.sample(perceptual, cognitive, noise))


POLICIES: dict[str, type[TokenPolicy]] = {
    "diffusion": VLAPolicy,
    "key_frames": KeyFramePolicy,
    "decision": DecisionPolicy,
}
"""Value of ``agent.policy`` to its class."""


def make_policy(config: VLAConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> TokenPolicy:
    """Return the policy that ``config.policy`` names, for single-env spaces.

    Raises:
        UsageError: its parts do not fit together or not the spaces.
    """
    return POLICIES[config.policy](config, observation_space, action_space)
