"""What LRU and S5 share: blocks around a diagonal complex linear recurrence, run as a scan with resets.

    block:  y = x + glu(gelu(ssm(layernorm(x)))),   glu(h) = (W h) * sig(V h)
    ssm:    s_t = where(reset, s_init, lam * s_{t-1}) + B u_t,   out_t = Re(C s_t) + D u_t

``lam`` is complex and constant, so the sequence is one `linear_scan`. Complex numbers lie as pairs (real, imaginary)
in states and parameters: many compilers and exporters have no complex tensors. Give ``lam`` no weight decay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.scan import linear_scan

__all__ = ["DiagonalConfig", "DiagonalMemory", "DiagonalSSM", "complex_product"]


@dataclass(frozen=True)
class DiagonalConfig(MemoryConfig):
    """Config of the diagonal recurrences."""

    width: int | None = None
    """Width of the blocks; None for out_dim. Another width adds an output projection."""
    states: int = 128
    """Complex states of a layer."""
    layers: int = 2
    """Blocks, each reading the one below."""
    learned_init: bool = False
    """Learn the state an episode starts from, instead of zeros."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1 or self.states < 1 or (self.width is not None and self.width < 1):
            raise UsageError(
                "expected layers, states and width >= 1, "
                f"got layers={self.layers}, states={self.states}, width={self.width}"
            )


class DiagonalSSM(nn.Module, ABC):
    """One recurrence; ``C`` and ``D`` are its read-out, `discretise` gives the rest."""

    def __init__(self, C: Tensor, D: Tensor) -> None:
        super().__init__()
        self.C, self.D = nn.Parameter(C), nn.Parameter(D)

    @abstractmethod
    def discretise(self) -> tuple[Tensor, Tensor]:
        """Return lam (P, 2) and the input matrix B (width, P, 2) of one step."""


class DiagonalMemory(MemoryModule):
    """Base of LRU and S5; ``ssms`` hold what differs."""

    Config = DiagonalConfig
    properties = frozenset({"compilable"})
    parallel = "scan"

    def __init__(self, config: DiagonalConfig) -> None:
        super().__init__(config)
        self.layers, self.states, self.width = config.layers, config.states, config.width or config.out_dim
        self.encoder = nn.Linear(config.in_dim, self.width)
        self.norms = nn.ModuleList([nn.LayerNorm(self.width) for _ in range(config.layers)])
        self.ssms = nn.ModuleList([self.make_ssm(config, self.width) for _ in range(config.layers)])
        self.mixes = nn.ModuleList([nn.Linear(self.width, 2 * self.width) for _ in range(config.layers)])
        self.readout = None if self.width == config.out_dim else nn.Linear(self.width, config.out_dim)
        self.start = nn.Parameter(torch.zeros(config.layers, config.states, 2)) if config.learned_init else None

    @abstractmethod
    def make_ssm(self, config: DiagonalConfig, width: int) -> DiagonalSSM:
        """Return the recurrence of one layer."""

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the state of every layer, real and imaginary parts on the last axis."""
        return {"s": StateSpec((self.layers, self.states, 2))}

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the state of an episode's start, (n, layers, states, 2)."""
        if self.start is None:
            return super().fresh(key, spec, n, device, dtype)
        return self.start.to(device, dtype).expand(n, *spec.shape).contiguous()

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance every layer by one token."""
        x, after = self.encoder(inputs.x), []
        for layer, s in enumerate(state["s"].unbind(1)):
            u = self.norms[layer](x)
            lam, B = self._ssm(layer).discretise()
            if reset is not None:
                # before the product: its gradient would carry a NaN of the old episode to lam
                s = s.masked_fill(reset.view(-1, 1, 1), 0)
            s = complex_product(lam, s) + (u @ B.flatten(1)).view_as(s)
            if reset is not None and self.start is not None:
                s = torch.where(reset.view(-1, 1, 1), self.start[layer] + s, s)
            after.append(s)
            x = self._mix(x, u, s, layer)
        return (x if self.readout is None else self.readout(x)), {"s": torch.stack(after, 1)}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Scan every layer over all tokens."""
        x, after = self.encoder(inputs.x), []
        n, T = inputs.x.shape[:2]
        for layer, s in enumerate(state["s"].unbind(1)):
            u = self.norms[layer](x)
            lam, B = self._ssm(layer).discretise()
            new = (u @ B.flatten(1)).view(n, T, self.states, 2)
            keep = lam.expand_as(new)
            if resets is not None and self.start is not None:
                new = torch.where(resets.view(n, T, 1, 1), self.start[layer] + new, new)
            if valid is not None:
                real = valid.view(n, T, 1, 1)
                keep = torch.where(real, keep, lam.new_tensor([1.0, 0.0]))
                new = torch.where(real, new, 0)
            scanned = linear_scan(keep, new, resets, s, paired=True)
            after.append(scanned[:, -1])
            x = self._mix(x, u, scanned, layer)
        return (x if self.readout is None else self.readout(x)), {"s": torch.stack(after, 1)}

    def macs_per_token(self, t: int | None = None) -> int:
        """Encoder, and per layer input, decay, read-out and mixing."""
        readout = 0 if self.readout is None else self.readout.weight.numel()
        layer = 4 * self.states * self.width + 4 * self.states + self.width + 2 * self.width**2
        return self.encoder.weight.numel() + self.layers * layer + readout

    def _ssm(self, layer: int) -> DiagonalSSM:
        ssm = self.ssms[layer]
        assert isinstance(ssm, DiagonalSSM)
        return ssm

    def _mix(self, x: Tensor, u: Tensor, s: Tensor, layer: int) -> Tensor:
        """Block input x and its norm u (..., width), state s (..., P, 2) -> block output (..., width)."""
        ssm = self._ssm(layer)
        y = F.gelu(s.flatten(-2) @ ssm.C.flatten(0, 1) + ssm.D * u)
        return x + F.glu(self.mixes[layer](y), -1)


def complex_product(a: Tensor, b: Tensor) -> Tensor:
    """Return the products of complex numbers as pairs, (..., 2) each."""
    (a_re, a_im), (b_re, b_im) = a.unbind(-1), b.unbind(-1)
    return torch.stack([a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re], -1)
