"""`VLAPolicy`: perception, memory and action expert as one module; nothing is kept between calls.

obs, instruction -> perceptual tokens (P, D_p), cognitive token (D_c) -> memory -> fused tokens -> action chunk
"""

from __future__ import annotations

from collections.abc import Mapping

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State
from embodied_mem.policies.vla.config import VLAConfig
from embodied_mem.policies.vla.expert import ActionExpert
from embodied_mem.policies.vla.fusion import TokenMemory
from embodied_mem.policies.vla.normalise import ActionNormaliser
from embodied_mem.policies.vla.tokens import make_perception
from embodied_mem.spaces import as_dict_space


class VLAPolicy(nn.Module):
    """Observation to action chunks, with a memory in between."""

    bundle_kind = "vla"

    def __init__(self, config: VLAConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        """Build the policy for single-env spaces.

        Raises:
            UsageError: actions are no vector of numbers, or perception or memory lack what they read.
        """
        super().__init__()
        if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
            raise UsageError(f"expected actions as a vector of numbers (A,), got {action_space}")
        space = as_dict_space(observation_space)
        self.config, self.observation_space, self.action_space = config, observation_space, action_space
        p, A = config.perception, int(action_space.shape[0])
        if any(not 0 <= k < A for k in config.expert.binary):
            raise UsageError(f"expected expert.binary within 0 to {A - 1}, got {config.expert.binary}")
        self.perception = make_perception(p, space)
        self.memory = TokenMemory(
            config.memory,
            config.memory_config,
            tokens=self.perception.tokens,
            width=p.width,
            cognitive=p.cognitive,
            fusion=config.fusion,
        )
        missing = [key for key in self.memory.needs if key not in space.spaces]
        if missing:
            raise UsageError(f"memory {config.memory!r} needs the observation entries {missing}, got {list(space)}")
        self.keys = [key for key in space.spaces if key in (*self.perception.reads, "instruction", *self.memory.needs)]
        self.expert = ActionExpert(config.expert, A, p.width, p.cognitive)
        self.actions = ActionNormaliser(A, config.expert.binary)

    @property
    def device(self) -> torch.device:
        """Where the policy lies."""
        return self.expert.null.device

    def fit(self, states: np.ndarray, actions: np.ndarray) -> None:
        """Take the ranges of state (M, S) and actions (M, A) from demonstrations."""
        self.perception.fit(states)
        self.actions.fit(actions)

    def initial_state(self, n: int) -> State:
        """Return the memory's state of ``n`` fresh episodes, leaves (n, ...)."""
        return self.memory.initial_state(n, self.device)

    def step(self, obs: Mapping[str, Tensor], state: State, reset: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """Read one frame per row into the memory.

        Args:
            obs: named tensors (B, ...).
            state: of the memory.
            reset: (B,) bool, True where the frame opens an episode.

        Returns:
            Fused perceptual tokens (B, P, D_p) and cognitive token (B, D_c), new state.
        """
        perceptual, cognitive = self.perception(obs)
        return self.memory.step(perceptual, cognitive, state, reset, obs)

    def sequence(
        self, obs: Mapping[str, Tensor], state: State | None, resets: Tensor | None, valid: Tensor | None
    ) -> tuple[Tensor, Tensor, State]:
        """Read whole rows: as `step` with a time axis (B, T, ...); ``valid`` (B, T) bool is False on right padding."""
        rows, steps = next(iter(obs.values())).shape[:2]
        perceptual, cognitive = self.perception({key: value.flatten(0, 1) for key, value in obs.items()})
        wide = [part.unflatten(0, (rows, steps)) for part in (perceptual, cognitive)]
        return self.memory.sequence(wide[0], wide[1], state, resets, valid, obs)

    def loss(
        self,
        obs: Mapping[str, Tensor],
        chunks: Tensor,
        weight: Tensor,
        state: State | None,
        resets: Tensor | None,
        valid: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, State]:
        """Return the diffusion loss (), with the memory's own losses, of rows of frames, and the state after them.

        Args:
            obs: named tensors (B, T, ...).
            chunks: (B, T, K, A) float32, the actions from each frame on.
            weight: (B, T, K) float32, 0 where an action does not count.
            state: of the memory before the rows; None for fresh.
            resets: (B, T) bool.
            valid: (B, T) bool, False on right padding.
            generator: of all draws.
        """
        perceptual, cognitive, state = self.sequence(obs, state, resets, valid)
        # Padded frames are left out rather than weighted: the expert is the larger part of the cost.
        kept = valid.flatten()
        actions, weight, perceptual, cognitive = (
            part.flatten(0, 1)[kept] for part in (self.actions(chunks), weight, perceptual, cognitive)
        )
        loss = self.expert.loss(actions, weight, perceptual, cognitive, generator)
        extra = self.memory.memory.aux_losses()
        return loss + sum(extra.values()) if extra else loss, state

    def plan(self, perceptual: Tensor, cognitive: Tensor, noise: Tensor) -> Tensor:
        """Return the environment's actions (B, K, A) from fused tokens and ``noise`` (B, K, A)."""
        return self.actions.restore(self.expert.sample(perceptual, cognitive, noise))
