"""`KeyFramePolicy`: where to go next as a heat map over places, the rest of a key frame as bins, after SAM2Act.

    heat map   softmax over the S x S cells of the plane ``key_frames.plane``, made of the fused perceptual tokens
    rest       every other number of the action: softmax over bins, from the token at the place, the largest of each
               feature over all tokens, and the cognitive token

Loss: cross-entropy of the heat map plus the mean of those of the rest, which is told the demonstrated place. Acting
takes the most likely place (the mean over a cell and its neighbours), then the most likely bins, so it draws nothing.

The perceptual tokens are the cells of a square grid. Nothing ties a token to its place but the loss: there are no
cameras in between, and the source's re-rendered views, its zoomed-in second stage and its scales are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State
from embodied_mem.policies.vla import bins
from embodied_mem.policies.vla.base import TokenPolicy
from embodied_mem.policies.vla.config import VLAConfig
from embodied_mem.policies.vla.fusion import find_memory
from embodied_mem.policies.vla.heat_maps import HeatMapHead, side_of

if TYPE_CHECKING:
    from embodied_mem.policies.imitation.batches import Batch


class KeyFramePolicy(TokenPolicy):
    """Fused tokens to one key frame."""

    needs_heat_maps = True

    def __init__(self, config: VLAConfig, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> None:
        """Build the policy for single-env spaces.

        Raises:
            UsageError: as `TokenPolicy`; the tokens form no square, ``fusion`` is "prefix", or the plane is not of the
                actions.
        """
        super().__init__(config, observation_space, action_space)
        c, p, A = config.key_frames, config.perception, self.action_dim
        if config.fusion == "prefix":
            raise UsageError("expected fusion 'gate' or 'add' with 'key_frames', whose tokens are cells of a grid")
        if any(not 0 <= k < A for k in c.plane):
            raise UsageError(f"expected key_frames.plane within 0 to {A - 1}, got {c.plane}")
        self.side = side_of(self.perception.tokens)
        own = not getattr(self.memory.memory, "heat_maps", False)
        self._head = HeatMapHead(p.width, c.upsample) if own else None
        self.others = [k for k in range(A) if k not in c.plane]
        if self.others:
            outputs = len(self.others) * c.bins
            self.rest = nn.Sequential(
                nn.Linear(2 * p.width + p.cognitive, c.hidden), nn.GELU(), nn.Linear(c.hidden, outputs)
            )

    def memory_options(self) -> dict[str, object]:
        """Return the memory's options; one that writes heat maps has the cells of this one's."""
        options = super().memory_options()
        if getattr(find_memory(self.config.memory), "heat_maps", False):
            options["upsample"] = self.config.key_frames.upsample
        return options

    @property
    def cells(self) -> int:
        """Cells S along an edge of the heat map."""
        return self.side * self.config.key_frames.upsample

    def heat_map(self, perceptual: Tensor) -> Tensor:
        """Return the logits (n, S * S) of fused tokens (n, P, D_p); the first number of the plane is the row."""
        # a memory that writes the heat map has the head
        head: Any = self.memory.memory.head if self._head is None else self._head
        u = self.config.key_frames.upsample
        inside = head(perceptual).view(-1, self.side, self.side, u, u)
        return inside.transpose(2, 3).reshape(-1, self.cells**2)

    def details(self, perceptual: Tensor, cognitive: Tensor, place: Tensor) -> Tensor:
        """Return the logits (n, A - 2, bins) of everything else, at ``place`` (n, 2) in [-1, 1]."""
        cell = ((place + 1) / 2 * self.side).long().clamp(0, self.side - 1)
        token = (cell[:, 0] * self.side + cell[:, 1]).view(-1, 1, 1).expand(-1, 1, perceptual.shape[-1])
        there = perceptual.gather(1, token)[:, 0]
        read = torch.cat([there, perceptual.amax(1), cognitive], -1)
        return self.rest(read).unflatten(-1, (len(self.others), self.config.key_frames.bins))

    def loss(
        self, batch: Batch, state: State | None, generator: torch.Generator, part: tuple[int, int] | None = None
    ) -> tuple[Tensor, State]:
        """Return the cross-entropies; see `TokenPolicy.loss`."""
        perceptual, cognitive, state = self.sequence(batch.obs, state, batch.resets, batch.valid)
        kept = batch.valid.flatten()
        actions, perceptual, cognitive = (
            part.flatten(0, 1)[kept] for part in (self.actions(batch.chunks[:, :, 0]), perceptual, cognitive)
        )
        place = actions[:, list(self.config.key_frames.plane)]
        where = bins.cross_entropy(self.heat_map(perceptual).float(), bins.share_square(place, self.cells))
        loss = where.mean()
        if self.others:
            wanted = bins.share(actions[:, self.others], self.config.key_frames.bins)
            loss = loss + bins.cross_entropy(self.details(perceptual, cognitive, place).float(), wanted).mean()
        return self.with_own_losses(loss), state

    def plan(self, perceptual: Tensor, cognitive: Tensor, generator: torch.Generator) -> Tensor:
        """Return the environment's action (B, 1, A)."""
        place = bins.read_square(self.heat_map(perceptual).float(), self.cells)
        action = torch.empty(len(place), self.action_dim, device=place.device)
        action[:, list(self.config.key_frames.plane)] = place
        if self.others:
            action[:, self.others] = bins.read(self.details(perceptual, cognitive, place).float())
        return self.actions.restore(action).unsqueeze(1)
