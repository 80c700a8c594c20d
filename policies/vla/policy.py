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

    def counted(self, batch: Batch) -> Tensor:
        """Return the number () of actions that count, over all chunks."""
        return batch.weight.sum()

    def loss(
        self, batch: Batch, state: State | None, generator: torch.Generator, part: tuple[int, int] | None = None
    ) -> tuple[Tensor, State]:
        """Return the diffusion loss; see `TokenPolicy.loss`."""
        perceptual, cognitive, state = self.sequence(batch.obs, state, batch.resets, batch.valid)
        # Padded frames are left out rather than weighted: the expert is the larger part of the cost.
        kept = batch.valid.flatten()
        actions, weight, perceptual, cognitive = (
            item.flatten(0, 1)[kept] for item in (self.actions(batch.chunks), batch.weight, perceptual, cognitive)
        )
        loss = self.expert.loss(actions, weight, perceptual, cognitive, generator, part)
        return self.with_own_losses(loss), state

    def plan(self, perceptual: Tensor, cognitive: Tensor, generator: torch.Generator) -> Tensor:
        """Return the environment's actions (B, K, A), from noise drawn with ``generator`` or from none."""
        noise = self.no_noise(len(cognitive))
        if self.config.expert.start == "drawn":
            noise = noise.normal_(generator=generator)
        return self.plan_from(perceptual, cognitive, noise)

    def plan_from(self, perceptual: Tensor, cognitive: Tensor, noise: Tensor) -> Tensor:
        """Return the environment's actions (B, K, A) that ``noise`` (B, K, A) becomes."""
        return self.actions.restore(self.expert.sample(perceptual, cognitive, noise))

    def first_action(self, perceptual: Tensor, cognitive: Tensor, through: int | None = None) -> Tensor:
        """Return the first action (n, A) of plans made from no noise, in [-1, 1]; see `ActionExpert.sample`."""
        return self.expert.sample(perceptual, cognitive, self.no_noise(len(cognitive)), through)[:, 0]

    def no_noise(self, n: int) -> Tensor:
        """Return zeros (n, K, A)."""
        return torch.zeros(n, self.chunk, self.action_dim, device=self.device)


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
