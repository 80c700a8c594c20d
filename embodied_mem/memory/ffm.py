"""Fast and forgetful memory: traces of every feature at several decays and frequencies, fixed by the weights.

    [v, thru, g_in, g_out] = W_pre x,   S = where(reset, 0, Gamma * S') + (v * sig(g_in)) 1^T
    Gamma[j, k] = exp(a_j + i w_k),     y = layernorm(W_mix [Re S, Im S]) * sig(g_out) + thru * (1 - sig(g_out))

``a_j < 0`` holds by construction. The traces start so that 1 % of a feature is left after 1 to 1024 steps, and the
frequencies with periods of 1 to 1024 steps. The form of the authors multiplies by exp(-a t) and sums, which needs
float64, at most 1024 steps, and no reset inside a row; here the sequence is one `linear_scan`, of any length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.diagonal import complex_product
from embodied_mem.memory.scan import linear_scan
from embodied_mem.registry import register

__all__ = ["FFM", "FFMConfig"]

_LEFT = 0.01


@dataclass(frozen=True)
class FFMConfig(MemoryConfig):
    """Config of `FFM`."""

    traces: int = 32
    """Features held, each with a decay of its own."""
    contexts: int = 4
    """Frequencies at which every feature is held."""
    longest: int = 1024
    """Steps after which 1 % of the slowest trace is left, and the longest period, at the start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.traces, self.contexts, self.longest) < 1:
            raise UsageError(
                f"expected traces, contexts and longest >= 1, got {self.traces}, {self.contexts} and {self.longest}"
            )


@register(
    "memory",
    "ffm",
    family="gated",
    source="Morad et al. 2023, Reinforcement learning with fast and forgetful memory",
    variants=({"traces": 5, "contexts": 3, "longest": 20},),
)
class FFM(MemoryModule):
    """Decaying, turning traces with a gated read-out."""

    Config = FFMConfig
    properties = frozenset({"compilable"})
    parallel = "scan"

    def __init__(self, config: FFMConfig) -> None:
        super().__init__(config)
        m, c, d = config.traces, config.contexts, config.out_dim
        self.traces, self.contexts = m, c
        self.sizes = (m, d, m, d)
        self.pre = nn.Linear(config.in_dim, sum(self.sizes))
        self.mix = nn.Linear(2 * m * c, d)
        # logarithms of -a, so that every trace decays
        self.decay_log = nn.Parameter(torch.log(-math.log(_LEFT) / torch.linspace(1, config.longest, m)))
        self.frequency = nn.Parameter(2 * math.pi / torch.linspace(1, config.longest, c))

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the traces (m, c), real and imaginary part on the last axis."""
        return {"s": StateSpec((self.traces, self.contexts, 2))}

    def macs_per_token(self, t: int | None = None) -> int:
        """Both maps and the turn of every trace."""
        return self.pre.weight.numel() + self.mix.weight.numel() + 4 * self.traces * self.contexts

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        new, thru, gate = self._written(inputs.x)
        s = state["s"]
        if reset is not None:
            # before the product: its gradient would carry a NaN of the old episode to Gamma
            s = s.masked_fill(reset.view(-1, 1, 1, 1), 0)
        s = complex_product(self._gamma(), s) + new
        return self._read_out(s, thru, gate), {"s": s}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Scan the traces over all tokens; see `MemoryModule.sequence`."""
        new, thru, gate = self._written(inputs.x)
        gamma = self._gamma()
        keep = gamma.expand_as(new)
        if valid is not None:
            real = valid.view(*valid.shape, 1, 1, 1)
            keep, new = torch.where(real, keep, gamma.new_tensor([1.0, 0.0])), torch.where(real, new, 0)
        s = linear_scan(keep, new, resets, state["s"], paired=True)
        # a copy: a view would keep the whole sequence alive in every stored state
        return self._read_out(s, thru, gate), {"s": s[:, -1].clone()}

    def _gamma(self) -> Tensor:
        """Return the change of every trace in a step, (m, c, 2)."""
        size = torch.exp(-self.decay_log.exp()).view(-1, 1, 1)
        return size * torch.stack([self.frequency.cos(), self.frequency.sin()], -1)

    def _written(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (..., in_dim) -> what enters every trace (..., m, c, 2), what passes by (..., out_dim), output gate."""
        v, thru, g_in, g_out = self.pre(x).split_with_sizes(self.sizes, -1)
        real = (v * g_in.sigmoid()).unsqueeze(-1).expand(*v.shape, self.contexts)
        return torch.stack([real, torch.zeros_like(real)], -1), thru, g_out.sigmoid()

    def _read_out(self, s: Tensor, thru: Tensor, gate: Tensor) -> Tensor:
        """Traces (..., m, c, 2) -> (..., out_dim)."""
        z = F.layer_norm(self.mix(s.flatten(-3)), (self.out_dim,))
        return torch.lerp(thru, z, gate)
