"""`TokenPolicy`: the trunk of all policies here, perception and memory; a subclass turns fused tokens into actions.

obs, instruction -> perceptual tokens (P, D_p), cognitive token (D_c) -> memory -> fused tokens -> actions

Nothing is kept between calls: the state is passed in and returned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State
from embodied_mem.policies.vla.config import VLAConfig
from embodied_mem.policies.vla.fusion import TokenMemory
from embodied_mem.policies.vla.normalise import ActionNormaliser
from embodied_mem.policies.vla.tokens import make_perception
from embodied_mem.spaces import as_dict_space

if TYPE_CHECKING:
    from embodied_mem.policies.imitation.batches import Batch


class TokenPolicy(nn.Module, ABC):
    """Perception and memory; a subclass writes `loss` and `plan`, and says how many actions a plan has."""

    bundle_kind = "vla"
    chunk: int = 1
    """Actions K of a plan."""
    execute: int = 1
    """Actions of a plan that are played before the next one is made."""
    needs_heat_maps: ClassVar[bool] = False
    """Has a heat map for memories that write one (``heat_maps``)."""

    def __init__(self, config: VLAConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        """Build perception and memory for single-env spaces.

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
            self.memory_options(),
            tokens=self.perception.tokens,
            width=p.width,
            cognitive=p.cognitive,
            fusion=config.fusion,
        )
        if getattr(self.memory.memory, "heat_maps", False) and not self.needs_heat_maps:
            raise UsageError(
                f"memory {config.memory!r} writes heat maps, which the policy {config.policy!r} does not make; "
                "expected policy 'key_frames'"
            )
        missing = [key for key in self.memory.needs if key not in space.spaces]
        if missing:
            raise UsageError(f"memory {config.memory!r} needs the observation entries {missing}, got {list(space)}")
        self.keys = [key for key in space.spaces if key in (*self.perception.reads, "instruction", *self.memory.needs)]
        self.actions = ActionNormaliser(A, config.expert.binary)

    def memory_options(self) -> dict[str, object]:
        """Return the options of the memory's config."""
        return dict(self.config.memory_config)

    @property
    def action_dim(self) -> int:
        """Numbers A of an action."""
        return len(self.actions.low)

    @property
    def device(self) -> torch.device:
        """Where the policy lies."""
        return self.actions.low.device

    def fit(self, states: np.ndarray, actions: np.ndarray, returns: np.ndarray) -> None:
        """Take the ranges of state (M, S), actions (M, A) and returns to go (M,) from demonstrations."""
        self.perception.fit(states)
        self.actions.fit(actions)

    def initial_state(self, n: int) -> State:
        """Return the state of ``n`` fresh episodes, leaves (n, ...)."""
        return self.memory.initial_state(n, self.device)

    def step(self, obs: Mapping[str, Tensor], state: State, reset: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """Read one frame per row into the memory.

        Args:
            obs: named tensors (B, ...).
            state: of `initial_state` or the last call.
            reset: (B,) bool, True where the frame opens an episode.

        Returns:
            Fused perceptual tokens (B, P, D_p) and cognitive token (B, D_c), new state.
        """
        perceptual, cognitive = self.perception(obs)
        return self.memory.step(perceptual, cognitive, state, reset, obs)

    def played(self, state: State, actions: Tensor) -> State:
        """Return the state after the environment's ``actions`` (B, A) were chosen; most policies do not look."""
        return state

    def tokens(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return perceptual tokens (B, T, P, D_p) and cognitive tokens (B, T, D_c) of ``obs`` (B, T, ...)."""
        rows, steps = next(iter(obs.values())).shape[:2]
        perceptual, cognitive = self.perception({key: value.flatten(0, 1) for key, value in obs.items()})
        return perceptual.unflatten(0, (rows, steps)), cognitive.unflatten(0, (rows, steps))

    def sequence(
        self, obs: Mapping[str, Tensor], state: State | None, resets: Tensor | None, valid: Tensor | None
    ) -> tuple[Tensor, Tensor, State]:
        """Read whole rows: as `step` with a time axis (B, T, ...); ``valid`` (B, T) bool is False on right padding."""
        return self.memory.sequence(*self.tokens(obs), state, resets, valid, obs)

    def counted(self, batch: Batch) -> Tensor:
        """Return the number () of things whose mean the loss of a batch is: frames."""
        return batch.valid.sum()

    @abstractmethod
    def loss(
        self, batch: Batch, state: State | None, generator: torch.Generator, part: tuple[int, int] | None = None
    ) -> tuple[Tensor, State]:
        """Return the loss (), with the memory's own losses, of rows of frames, and the state after them.

        Args:
            batch: frames (B, T, ...), the actions from each on, and what was done before.
            state: before the rows; None for fresh.
            generator: of all draws.
            part: where the rows are some of a larger batch: how many frames stand before theirs, how many there are in
                all. The draws are then those that the larger batch would give them.
        """

    @abstractmethod
    def plan(self, perceptual: Tensor, cognitive: Tensor, generator: torch.Generator) -> Tensor:
        """Return the environment's actions (B, K, A) from fused tokens (B, P, D_p) and (B, D_c)."""

    def with_own_losses(self, loss: Tensor) -> Tensor:
        """Return ``loss`` () with the memory's own."""
        extra = self.memory.memory.aux_losses()
        return loss + sum(extra.values()) if extra else loss
