"""Lattice: slots that are rewritten only at right angles to themselves, so that a write never repeats what they hold.

    k_t, q_t = softmax weights over m slots;    v^ = sum_i k_ti s_i / |s_i|,   e = v^ - v_t
    s_i <- a_t s_i - b_t (k_ti / |s_i|) (I - s_i s_i^T / |s_i|^2) e,           o = sum_i q_ti s_i / |s_i|

The update is the exact gradient of |e|^2 / 2 through the normalisation: it turns slots and never shortens them. a_t, a
gate per head, is what forgets: the direction of a slot stays, but a shorter one turns faster, down to a length of 0.5.
Lengths end at 10. Directions, and the lengths in the denominators, are those of the last boundary (`inner_learner`),
which makes slots linear in what was written since; ``chunk=1`` is the recurrence above. Slots start as learned unit
vectors.

This is a reconstruction from the stated principle (Karami et al. 2025), not checked against published numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory import inner_loop
from embodied_mem.memory.contract import State
from embodied_mem.memory.fast_weights import Token, half_life_spread, softplus_inverse, split_heads, unit
from embodied_mem.memory.inner_learner import InnerLearner, InnerLearnerConfig
from embodied_mem.registry import register

__all__ = ["Lattice", "LatticeConfig"]

_SHORTEST, _LONGEST = 0.5, 10.0


@dataclass(frozen=True)
class LatticeConfig(InnerLearnerConfig):
    """Config of `Lattice`; ``key_dim`` is the number of slots m of a head."""

    key_dim: int = 16
    """Slots of a head."""
    rate: float = 0.5
    """Initial write strength b, which is at most 1."""
    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)
        if self.memory != "matrix":
            raise UsageError(f"expected memory = matrix, got {self.memory!r}")
        if not 0 < self.rate < 1:
            raise UsageError(f"expected 0 < rate < 1, got {self.rate}")


@register(
    "memory",
    "lattice",
    family="test-time",
    source="Karami et al. 2025, Lattice: Learning to efficiently compress the memory (reconstruction)",
    variants=({"heads": 1, "key_dim": 5, "value_dim": 4, "chunk": 1, "conv": 1},),
)
class Lattice(InnerLearner):
    """Slots with orthogonal writes (reconstruction)."""

    Config = LatticeConfig
    random_start = True

    def __init__(self, config: LatticeConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        rate = math.log(config.rate / (1 - config.rate))
        bias = torch.cat([torch.full((H,), rate), softplus_inverse(math.log(2) / half_life)])
        super().__init__(config, H * (2 * K + V), H * V, bias)
        self.config: LatticeConfig = config

    def draw_starts(self) -> list[Tensor]:
        """Random directions."""
        return [unit(start) for start in super().draw_starts()]

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Weights over slots, unit values, and the two gates."""
        q, k, v = split_heads(pre, self.config)
        rate, forget = gates.unflatten(-1, (2, self.config.heads)).unbind(-2)
        return Token(q.softmax(-1), k.softmax(-1), unit(F.silu(v)), -F.softplus(forget), rate.sigmoid())

    def gradient(self, prediction: Tensor, k: Tensor, v: Tensor, extra: Tensor) -> Tensor:
        """Of half the squared error, at the decoded value."""
        return prediction - v

    def effective(self, weights: list[Tensor], rights: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the directions of the slots."""
        return [unit(S) for S in weights], rights

    def _read(self, q: Tensor, kappa: Tensor, now: State, lefts: list[Tensor], rights: list[Tensor]) -> Tensor:
        """Directions of the boundary, and what was written since without its part along them."""
        direction, square = unit(now["W0"]), now["W0"].square().sum(-1).unsqueeze(-2)
        weight, slots = q / square, kappa[..., 1:]
        along = slots @ (lefts[0] * (rights[0] @ direction.transpose(-1, -2)))
        o = inner_loop.read(weight, slots_only(kappa), [now["W0"]], None, lefts, rights, self.config.activation)
        return o + (kappa[..., :1] * q - weight * along) @ direction

    def _form(self, coef: State, now: State, lefts: list[Tensor], rights: list[Tensor]) -> State:
        """Turn the slots, then bound their lengths."""
        S = now["W0"]
        length = torch.linalg.vector_norm(S, dim=-1, keepdim=True)
        written = inner_loop.combine(slots_only(coef["kappa"]), None, [S], None, lefts, rights)[0][0] / length
        direction = S / length
        written = written - direction * (direction * written).sum(-1, keepdim=True)
        # orthogonal to what is kept, so no sum is shorter than that
        turned = direction * (coef["kappa"][..., :1, None] * length).clamp_min(_SHORTEST) + written
        length = torch.linalg.vector_norm(turned, dim=-1, keepdim=True)
        return {"W0": turned * (length.clamp(max=_LONGEST) / length)}


def slots_only(kappa: Tensor) -> Tensor:
    """Coefficients (..., 1 + C) without that of the boundary."""
    return F.pad(kappa[..., 1:], (1, 0))
