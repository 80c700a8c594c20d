"""Sparse distributed memory: many fixed random locations, each step writes to and reads from those near its address.

    address u = tanh(W x) in [-1, 1]^n,   location a_j in {-1, 1}^n fixed,   distance h_j = (n - a_j . u) / 2
    active    w_j = sig((radius + 1/2 - h_j) / softness)
    read      r = sum_j w_j C_j / (|sum_j w_j C_j| + eps),  before the write      y = skip(x) + W r
    write     C_j <- (1 - f w_j) C_j + s w_j v,   v = W x,  strength s = sig(w x + b), forgetting f = sig(w x + b)

``hard=True`` is the published memory: addresses are signs, locations within the radius are active and the others not,
every write counts the same (s = 1) and nothing is forgotten (f = 0); addresses then have no gradient. Forgetting
happens only where a write falls, so what lies elsewhere stays. The read is normalised, so its size does not depend on
the number of active locations. `sdm_beta` gives the inverse temperature of the softmax attention that a radius amounts
to, and `activation` the share of locations that a radius activates (10 to 100 of them work well).

Limits: no parallel form. The table is cleared where a row resets, which costs its size, once per episode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["SDM", "SDMConfig", "activation", "sdm_beta"]

_EPS = 1e-3
_FORGET_BIAS = 1.0
_ADDRESS_GAIN = 3.0
_STRENGTH_BIAS = 1.0


@dataclass(frozen=True)
class SDMConfig(MemoryConfig):
    """Locations and addresses. Published scale: 1000 to 10 000 locations."""

    locations: int = 128
    """Hard locations m."""
    bits: int = 16
    """Length n of an address."""
    radius: int = 4
    """Hamming distance up to which a location is active."""
    value_dim: int = 32
    """Width of what a location holds."""
    hard: bool = False
    """The published memory: sign addresses, equal writes, no forgetting."""
    softness: float = 1.0
    """Width of the edge of the radius, in bits."""
    seed: int = 0
    """Seed of the locations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "locations", "bits", "value_dim")
        if not 0 <= self.radius < self.bits:
            raise UsageError(f"expected 0 <= radius < bits = {self.bits}, got {self.radius}")
        if self.softness <= 0:
            raise UsageError(f"expected softness > 0, got {self.softness}")


@register(
    "memory",
    "sdm",
    family="slots",
    source="Kanerva 1988; attention limit: Bricken & Pehlevan 2021, arXiv 2111.05498",
    variants=({"locations": 40, "bits": 8, "radius": 3, "value_dim": 4, "hard": True},),
)
class SDM(SlotLoop):
    """Table C (m, V) over fixed locations."""

    Config = SDMConfig

    def __init__(self, config: SDMConfig) -> None:
        super().__init__(config)
        self.config: SDMConfig = config
        if config.hard:
            self.properties = self.properties | {"hard_write"}
        generator = torch.Generator().manual_seed(config.seed)
        places = torch.randint(2, (config.locations, config.bits), generator=generator) * 2.0 - 1
        self.places: Tensor
        self.register_buffer("places", places)
        self.address = nn.Linear(config.in_dim, config.bits)
        # far enough into the tanh that unlike inputs start with unlike addresses
        nn.init.uniform_(self.address.weight, -_ADDRESS_GAIN * config.in_dim**-0.5, _ADDRESS_GAIN * config.in_dim**-0.5)
        self.value = nn.Linear(config.in_dim, config.value_dim)
        self.gates: nn.Linear | None = None
        if not config.hard:
            self.gates = nn.Linear(config.in_dim, 2)
            with torch.no_grad():
                self.gates.bias.copy_(torch.tensor([_STRENGTH_BIAS, _FORGET_BIAS]))
        self.out = nn.Linear(config.value_dim, config.out_dim)
        self.skip = nn.Linear(config.in_dim, config.out_dim, bias=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """Table ``C`` (m, V)."""
        return {"C": StateSpec((self.config.locations, self.config.value_dim))}

    def starts(self) -> dict[str, Tensor | float]:
        """Return an empty table."""
        return {"C": 0.0}

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, distances to all locations, read and write."""
        c = self.config
        return linear_macs(self) + c.locations * (c.bits + 2 * c.value_dim)

    def active(self, x: Tensor) -> Tensor:
        """Return how active every location is for features (..., in_dim): (..., m) in [0, 1]."""
        c = self.config
        code = self.address(x)
        if c.hard:
            # a non-finite address activates by its NaN, so that a bad input shows
            code = torch.where(code.isnan(), code, torch.where(code >= 0, 1.0, -1.0).to(code.dtype))
            distance = (c.bits - code @ self.places.T) / 2
            return torch.where(distance.isnan(), distance, (distance <= c.radius + 0.25).to(code.dtype)).detach()
        distance = (c.bits - code.tanh() @ self.places.T) / 2
        return ((c.radius + 0.5 - distance) / c.softness).sigmoid()

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return activity of the locations, value, strength and forgetting, and the skip."""
        x = inputs.x
        active = self.active(x)
        if self.gates is None:
            gates = torch.stack([torch.ones_like(active[..., 0]), torch.zeros_like(active[..., 0])], -1)
        else:
            gates = self.gates(x).sigmoid()
        return active, self.value(x), gates, self.skip(x)

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Read, then write."""
        active, value, gates, _ = token
        C = state["C"]
        read = torch.bmm(active.unsqueeze(1), C).squeeze(1)
        strength, forget = gates.split(1, -1)
        kept = C if self.gates is None else C * (1 - forget * active).unsqueeze(2)
        C = kept + (strength * active).unsqueeze(2) * value.unsqueeze(1)
        return read / (torch.linalg.vector_norm(read, dim=-1, keepdim=True) + _EPS), {"C": C}

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map what was read (..., V) to the output."""
        return self.out(read) + token[3]


def activation(bits: int, radius: int) -> float:
    """Return the share of random locations within ``radius`` of an address.

    >>> round(activation(64, 26), 3)
    0.084
    """
    return sum(math.comb(bits, k) for k in range(radius + 1)) / 2**bits


def sdm_beta(bits: int, radius: int) -> float:
    """Return beta for which exp(beta cos(x, y)) follows the number of locations active for both x and y.

    Least squares of the logarithm of the intersection over the cosines 0 to 1; a larger radius gives a smaller beta.
    """
    if not 0 <= radius < bits:
        raise UsageError(f"expected 0 <= radius < bits = {bits}, got {radius}")
    points = []
    for apart in range(bits // 2 + 1):
        shared = _intersection(bits, radius, apart)
        if shared > 0:
            points.append((1 - 2 * apart / bits, math.log(shared)))
    if len(points) < 2:
        raise UsageError(f"expected a radius at which two addresses can share locations, got {radius}")
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return slope / sum((x - mean_x) ** 2 for x, _ in points)


def _intersection(bits: int, radius: int, apart: int) -> float:
    """Share of locations within ``radius`` of both of two addresses that differ in ``apart`` bits."""
    total = 0
    for k in range(apart + 1):
        room = radius - max(k, apart - k)
        if room >= 0:
            same = bits - apart
            total += math.comb(apart, k) * sum(math.comb(same, j) for j in range(min(room, same) + 1))
    return total / 2**bits
