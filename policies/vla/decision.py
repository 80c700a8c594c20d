"""`DecisionPolicy`: actions given the return that is wanted, a decision transformer with a memory, after DT-Mem.

A frame is one token of the memory's input: what is seen, the return to go and the action before,

    c' = c + W_r share(R_t) + W_a a_{t-1};   (x~, c~) = memory(x, c');   h = W [x~, c~];  h <- h + MLP(LN h), again and
    again with the same weights;   action, reward: bins from h (the reward's also from a_t);   return: bins from c

Loss: the sum of the cross-entropies of action, reward and return. Acting asks for ``decision.target`` in every frame
and takes the most likely bins. Rewards are not told to an acting policy, so the return to go stays what it was: right
where the reward comes at the end.

The memory carries from call to call and no frame reads a later one, which the published module does not guarantee. It
is one memory before the layers, where the source has one in the place of every attention, and a frame is one token
instead of four.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State
from embodied_mem.policies.vla import bins
from embodied_mem.policies.vla.base import TokenPolicy
from embodied_mem.policies.vla.config import VLAConfig

if TYPE_CHECKING:
    from embodied_mem.policies.imitation.batches import Batch

PREVIOUS = "previous_action"
"""Entry of the state: the action before, (A,) in [-1, 1]; 0 where an episode begins."""


class DecisionPolicy(TokenPolicy):
    """Fused tokens, a return and the action before to one action."""

    def __init__(self, config: VLAConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        """Build the policy for single-env spaces.

        Raises:
            UsageError: as `TokenPolicy`.
        """
        super().__init__(config, observation_space, action_space)
        c, p, A = config.decision, config.perception, self.action_dim
        H, K = c.hidden, c.bins
        self.wish = nn.Linear(K, p.cognitive)
        self.did = nn.Linear(A, p.cognitive) if c.sees_action else None
        self.join = nn.Linear(self.memory.perceptual * p.width + p.cognitive, H)
        self.layer = nn.Sequential(nn.LayerNorm(H), nn.Linear(H, 4 * H), nn.GELU(), nn.Linear(4 * H, H))
        self.norm = nn.LayerNorm(H)
        self.act, self.earn, self.hope = nn.Linear(H, A * K), nn.Linear(H + A, K), nn.Linear(p.cognitive, K)
        self.returns: Tensor
        self.register_buffer("returns", torch.tensor([0.0, 1.0]))

    def fit(self, states: np.ndarray, actions: np.ndarray, returns: np.ndarray) -> None:
        """Take ranges from demonstrations: of returns (M,) with 0, which a reward mostly is."""
        super().fit(states, actions, returns)
        low, high = min(0.0, float(returns.min())), max(0.0, float(returns.max()))
        if low < high:
            self.returns.copy_(torch.tensor([low, high]))

    def adapt(self) -> list[nn.Parameter]:
        """Freeze everything but the memory's low-rank weights, and return these for the optimiser of a new task.

        Raises:
            UsageError: the memory has none (``memory=dt_mem``, ``memory_config.lora_rank`` >= 1).
        """
        form = getattr(self.memory.memory, "adapt", None)
        if form is None:
            raise UsageError(f"expected memory 'dt_mem' to adapt by low-rank weights, got {self.config.memory!r}")
        trained = form()
        chosen = set(trained)
        for parameter in self.parameters():
            parameter.requires_grad_(parameter in chosen)
        return trained

    def initial_state(self, n: int) -> State:
        """Return the memory's state of ``n`` fresh episodes and the action before, (n, A) zeros."""
        return {**super().initial_state(n), PREVIOUS: torch.zeros(n, self.action_dim, device=self.device)}

    def step(self, obs: Mapping[str, Tensor], state: State, reset: Tensor | None) -> tuple[Tensor, Tensor, State]:
        """Read one frame per row, with the target as return to go; see `TokenPolicy.step`."""
        perceptual, cognitive = self.perception(obs)
        previous = state[PREVIOUS]
        if reset is not None:
            previous = torch.where(reset.unsqueeze(1), 0.0, previous)
        target = self.config.decision.target
        wanted = self.returns[1] if target is None else torch.as_tensor(target, device=self.device)
        told = self._told(cognitive, wanted.expand(len(cognitive)), previous)
        held = {key: value for key, value in state.items() if key != PREVIOUS}
        fused, thought, held = self.memory.step(perceptual, told, held, reset, obs)
        return fused, thought, {**held, PREVIOUS: previous}

    def played(self, state: State, actions: Tensor) -> State:
        """Keep the ``actions`` (B, A)."""
        return {**state, PREVIOUS: self.actions(actions)}

    def frames(self, batch: Batch, state: State | None) -> tuple[Tensor, Tensor, Tensor, State]:
        """Read rows of demonstrated frames.

        Returns:
            h (B, T, H); what is seen (B, T, D_c), before memory and return; actions (B, T, A) in [-1, 1]; the new
            state.
        """
        perceptual, cognitive = self.tokens(batch.obs)
        actions = self.actions(batch.chunks[:, :, 0])
        previous = torch.where(batch.time.unsqueeze(-1) == 0, 0.0, self.actions(batch.previous))
        told = self._told(cognitive, batch.returns, previous)
        held = None if state is None else {key: value for key, value in state.items() if key != PREVIOUS}
        fused, thought, held = self.memory.sequence(perceptual, told, held, batch.resets, batch.valid, batch.obs)
        return self._think(fused, thought), cognitive, actions, {**held, PREVIOUS: actions[:, -1]}

    def loss(
        self, batch: Batch, state: State | None, generator: torch.Generator, part: tuple[int, int] | None = None
    ) -> tuple[Tensor, State]:
        """Return the cross-entropies of action, reward and return; see `TokenPolicy.loss`."""
        h, seen, actions, state = self.frames(batch, state)
        K, kept = self.config.decision.bins, batch.valid
        h, seen, actions, rewards, returns = (part[kept] for part in (h, seen, actions, batch.rewards, batch.returns))
        act = bins.cross_entropy(self._choice(h).float(), bins.share(actions, K)).mean(-1)
        earn = bins.cross_entropy(self.earn(torch.cat([h, actions], -1)).float(), self._share(rewards))
        hope = bins.cross_entropy(self.hope(seen).float(), self._share(returns))
        return self.with_own_losses((act + earn + hope).mean()), state

    def plan(self, perceptual: Tensor, cognitive: Tensor, generator: torch.Generator) -> Tensor:
        """Return the environment's action (B, 1, A)."""
        return self.actions.restore(bins.read(self._choice(self._think(perceptual, cognitive)).float())).unsqueeze(1)

    def _told(self, cognitive: Tensor, returns: Tensor, previous: Tensor) -> Tensor:
        told = cognitive + self.wish(self._share(returns))
        return told if self.did is None else told + self.did(previous)

    def _think(self, perceptual: Tensor, cognitive: Tensor) -> Tensor:
        h = self.join(torch.cat([perceptual.flatten(-2), cognitive], -1))
        for _ in range(self.config.decision.layers):
            h = h + self.layer(h)
        return self.norm(h)

    def _choice(self, h: Tensor) -> Tensor:
        return self.act(h).unflatten(-1, (self.action_dim, self.config.decision.bins))

    def _share(self, values: Tensor) -> Tensor:
        """Returns or rewards (...) to (..., bins) over the range of the demonstrations."""
        low, high = self.returns
        return bins.share((2 * (values - low) / (high - low) - 1).clamp(-1.0, 1.0), self.config.decision.bins)
