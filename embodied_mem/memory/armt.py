"""Associative recurrent memory transformer: one association matrix per layer, written at the end of a segment.

    phi(x) = [u * roll(u, 1), .., u * roll(u, nu)],  u = [relu(x), relu(-x)],  divided by its sum (``unit_keys``)
    read, before layer l, every token:   x += (phi(W_q x) A) / (z . phi(W_q x) + eps)
    write, from the outputs y_i of layer l at the memory tokens that follow the segment:
        k_i = phi(W_k y_i),  v_i = W_v y_i,  b_i = sig(W_b y_i),  old_i = (k_i A) / (z . k_i + eps)
        A += sum_i b_i k_i^T (v_i - old_i),      z += sum_i gamma_i k_i,
        gamma_i = clip(1 - z . k_i / (|k_i|^2 + eps), 0, 1), without gradient

All writes of a segment read the same old A. In the first segment of an episode nothing is read, old = 0 and gamma = 1;
a counter per row says so. W_v starts at 0, so a new memory is silent. ``write_beta`` scales z by b too. The published
keys are not divided by their sum, and z then grows with their square (``unit_keys=False``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.segment_policy import SegmentConfig, SegmentMemory, place_after
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["ARMT", "ARMTConfig", "dpfp"]

_FLOOR = 1e-5


@dataclass(frozen=True)
class ARMTConfig(SegmentConfig):
    """Memory tokens and associations. Published scale: 10 to 16 tokens, keys of 32 to 64, segments of 512 to 1024."""

    memory_tokens: int = 8
    """Memory tokens that write."""
    key_dim: int = 8
    """Width of a key before the feature map, which makes 2 * nu of it."""
    nu: int = 3
    """Products per feature of the map."""
    unit_keys: bool = True
    """Divide features by their sum."""
    write_beta: bool = False
    """Scale the write to z by b, as the write to A."""
    eps: float = 1e-3
    """Added to the denominators, in read and write alike; 1e-5 is published, for features not divided by their sum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "memory_tokens", "key_dim", "nu")
        if self.eps <= 0:
            raise UsageError(f"expected eps > 0, got {self.eps}")


@register(
    "memory",
    "armt",
    family="segment",
    source="Rodkin et al. 2024, arXiv 2407.04841",
    variants=(
        {"segment": 5, "width": 8, "layers": 2, "memory_tokens": 3, "key_dim": 2, "write_beta": True},
        {"segment": 4, "width": 8, "memory_tokens": 2, "key_dim": 3, "unit_keys": False},
    ),
)
class ARMT(SegmentMemory):
    """Associations A (L, K, D) and their normaliser z (L, K)."""

    Config = ARMTConfig

    def __init__(self, config: ARMTConfig) -> None:
        super().__init__(config)
        self.config: ARMTConfig = config
        D = config.width
        self.features = 2 * config.nu * config.key_dim
        self.tokens = nn.Parameter(torch.randn(config.memory_tokens, D))
        self.associations = nn.ModuleList(_Association(D, config.key_dim) for _ in range(config.layers))

    def held_spec(self) -> dict[str, StateSpec]:
        """``A`` (L, K, D), ``z`` (L, K), and ``count``: segments written in the episode."""
        c = self.config
        return {
            "A": StateSpec((c.layers, self.features, c.width), role="param_like"),
            "z": StateSpec((c.layers, self.features), role="param_like"),
            "count": StateSpec((), torch.int64, "counter"),
        }

    def starts(self) -> dict[str, Tensor | int]:
        """Return no associations."""
        return {"A": 0, "z": 0, "count": 0}

    def memory_macs(self) -> tuple[int, int]:
        """Queries and their reads; memory tokens, and their reads and writes."""
        c = self.config
        read = c.layers * (c.width * c.key_dim + self.features * c.width)
        write = 2 * c.layers * self.features * c.width + linear_macs(self.associations)
        return read, c.memory_tokens * (read + write) + self.encode_macs(c.memory_tokens, c.segment)

    def before(self, layer: int, h: Tensor, held: State) -> Tensor:
        """Add what the layer's associations answer, from the second segment on."""
        asked = self._phi(self._association(layer).query(h))
        read = _answer(asked, held["A"][:, layer], held["z"][:, layer], self.config.eps)
        return torch.where((held["count"] > 0).view(-1, 1, 1), h + read, h)

    def close(self, held: State, segment: Tensor, length: Tensor) -> State:
        """Let the memory tokens read the segment, and write what they found in every layer."""
        M, count = self.config.memory_tokens, held["count"]
        every = torch.ones(M, M, dtype=torch.bool, device=count.device)
        asked = self.tokens.expand(len(count), M, -1)
        layers = self.attend(asked, place_after(length, M), held, segment, length, every).layers
        written = [
            self._write(layer, y, held["A"][:, layer], held["z"][:, layer], count == 0)
            for layer, y in enumerate(layers)
        ]
        A, z = (torch.stack(parts, 1) for parts in zip(*written))
        return {"A": A, "z": z, "count": count + 1}

    def _write(self, layer: int, y: Tensor, A: Tensor, z: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Return A (R, K, D) and z (R, K) after the tokens y (R, M, D); ``first`` (R,) bool, nothing is held."""
        part = self._association(layer)
        k, v, b = self._phi(part.key(y)), part.value(y), part.strength(y).sigmoid()
        first = first.view(-1, 1, 1)
        old = torch.where(first, 0, _answer(k, A, z, self.config.eps))
        with torch.no_grad():
            known = (k @ z.unsqueeze(2)) / (k.square().sum(-1, keepdim=True) + self.config.eps)
            gamma = torch.where(first, 1, (1 - known).clamp(0, 1))
        added = k * gamma * b if self.config.write_beta else k * gamma
        return A + (b * k).transpose(1, 2) @ (v - old), z + added.sum(1)

    def _association(self, layer: int) -> _Association:
        return cast(_Association, self.associations[layer])

    def _phi(self, x: Tensor) -> Tensor:
        features = dpfp(x, self.config.nu)
        return features / (features.sum(-1, keepdim=True) + _FLOOR) if self.config.unit_keys else features


class _Association(nn.Module):
    """Maps of one layer."""

    def __init__(self, D: int, key_dim: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(D, key_dim, bias=False), nn.Linear(D, key_dim, bias=False)
        self.value, self.strength = nn.Linear(D, D, bias=False), nn.Linear(D, 1)
        nn.init.zeros_(self.value.weight)


def dpfp(x: Tensor, nu: int) -> Tensor:
    """Return deterministic parameter-free features, all >= 0: (..., d) -> (..., 2 nu d).

    >>> dpfp(torch.tensor([2.0, -3.0]), 1).tolist()
    [6.0, 0.0, 0.0, 0.0]
    """
    u = torch.cat([x, -x], -1).relu()
    return torch.cat([u * u.roll(shift, -1) for shift in range(1, nu + 1)], -1)


def _answer(k: Tensor, A: Tensor, z: Tensor, eps: float) -> Tensor:
    """Read A (R, K, D) by features k (R, Q, K), normalised by z (R, K): (R, Q, D)."""
    return (k @ A) / (k @ z.unsqueeze(2) + eps)
