"""Gated associative memory: a causal convolution over the recent past beside attention over a learned bank.

    h = LN(x),   z = x + sig(g_l) * conv(h) + sig(g_g) * softmax(h B^T) B,   y = z + W2 gelu(W1 LN(z))

The bank B is a parameter: it holds what training put there, nothing of the episode. All that is kept of an episode is
what the convolution reaches, its last ``taps - 1`` tokens; taps that cross a reset count as zero. The paper stacks such
blocks with 3 taps; alone, as a memory, the reach is the number of taps, and the default is larger.

Limits: no memory beyond ``taps`` steps. Where in_dim and out_dim differ, x is projected first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.short_conv import short_conv, short_conv_step
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["GatedAssociativeMemory", "GatedAssociativeMemoryConfig"]


@dataclass(frozen=True)
class GatedAssociativeMemoryConfig(MemoryConfig):
    """Convolution, bank and feed-forward part."""

    taps: int = 16
    """Tokens the convolution reaches, the present one included; the paper has 3."""
    slots: int = 512
    """Rows of the bank."""
    expansion: int = 4
    """Hidden units of the feed-forward part, in multiples of out_dim."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "expansion")
        if self.taps < 2:
            raise UsageError(f"expected taps >= 2, with one tap nothing is remembered, got {self.taps}")


@register(
    "memory",
    "gated_associative_memory",
    family="parametric",
    source="Acharya 2025, Gated associative memory",
    variants=({"taps": 9, "slots": 5, "expansion": 2},),
)
class GatedAssociativeMemory(MemoryModule):
    """One block under the memory contract."""

    Config = GatedAssociativeMemoryConfig
    properties = frozenset({"compilable"})
    parallel = "attend"

    def __init__(self, config: GatedAssociativeMemoryConfig) -> None:
        super().__init__(config)
        self.config: GatedAssociativeMemoryConfig = config
        D = config.out_dim
        same = config.in_dim == D
        self.enter = nn.Identity() if same else nn.Linear(config.in_dim, D, bias=False)
        self.norm, self.norm_out = nn.LayerNorm(D), nn.LayerNorm(D)
        # decaying, so that earlier tokens can be told from later ones
        age = torch.arange(config.taps, dtype=torch.float32).unsqueeze(1)
        self.taps = nn.Parameter(torch.exp2(-age / torch.linspace(1, config.taps, D)))
        self.bank = nn.Parameter(torch.randn(config.slots, D) * D**-0.5)
        self.local_gate, self.bank_gate = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.zeros(D))
        hidden = config.expansion * D
        self.feed = nn.Sequential(nn.Linear(D, hidden), nn.GELU(), nn.Linear(hidden, D))

    def state_spec(self) -> dict[str, StateSpec]:
        """Return what the next ``taps - 1`` outputs of the convolution have received."""
        return {"conv": StateSpec((self.config.taps - 1, self.out_dim))}

    def macs_per_token(self, t: int | None = None) -> int:
        """Projection, convolution, scores and read of the bank, feed-forward part."""
        c, D = self.config, self.out_dim
        enter = 0 if self.in_dim == D else self.in_dim * D
        return enter + D * (c.taps + 2 * c.slots + 2 * c.expansion * D)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        conv, opens = state["conv"], opened_rows(reset)
        if opens is not None:
            conv = replace_rows(conv, opens, 0.0, donate=donate and not torch.is_grad_enabled())
        x = self.enter(inputs.x)
        h = self.norm(x)
        local, conv = short_conv_step(h, conv, self.taps)
        return self._block(x, h, local), {"conv": conv}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Advance all tokens at once; see `MemoryModule.sequence`."""
        if resets is None:
            resets = torch.zeros(inputs.x.shape[:2], dtype=torch.bool, device=inputs.x.device)
        x = self.enter(inputs.x)
        h = self.norm(x)
        local, conv = short_conv(h, state["conv"], self.taps, resets, valid)
        return self._block(x, h, local), {"conv": conv}

    def _block(self, x: Tensor, h: Tensor, local: Tensor) -> Tensor:
        """x, its norm h and its convolution (..., out_dim) -> (..., out_dim)."""
        known = F.softmax(h @ self.bank.t(), -1) @ self.bank
        z = x + self.local_gate.sigmoid() * local + self.bank_gate.sigmoid() * known
        y: Tensor = z + self.feed(self.norm_out(z))
        return y
