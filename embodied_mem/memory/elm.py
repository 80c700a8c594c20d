"""Expressive leaky memory neuron: slow linear memory units, written by a network that also reads them.

    s = where(reset, 0, exp(-1 / tau_s) s') + w_s x_syn,   d_b = sum of the synapses of branch b
    m0 = where(reset, 0, exp(-1 / tau_m) m'),   m = m0 + (1 - exp(-lam / tau_m)) tanh(MLP([d, m0])),   y = W m

Every input feeds ``synapses_per_input`` synapses, and neighbouring synapses share a branch. Memory units start with
time constants spaced evenly in the logarithm from 1 to 1000 steps, and learn them.

Limits: what is written depends on what is held, so a sequence is a loop over time, which makes this the slow baseline.
Only the synapses, which are linear, run as a scan, and their part of the network for all tokens at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.scan import linear_scan
from embodied_mem.registry import register

__all__ = ["ELM", "ELMConfig"]


@dataclass(frozen=True)
class ELMConfig(MemoryConfig):
    """Config of `ELM`."""

    units: int = 100
    """Memory units."""
    synapses_per_input: int = 2
    """Synapses of every input feature."""
    branches: int = 128
    """At most so many groups of synapses are told apart."""
    hidden: int | None = None
    """Hidden units of the network; None for twice the memory units."""
    synapse_time: float = 5.0
    """Time constant of the synapses in steps."""
    shortest: float = 1.0
    """Smallest initial time constant of the memory units in steps."""
    longest: float = 1000.0
    """Largest initial time constant of the memory units in steps."""
    write: float = 5.0
    """lam: how strongly a unit is written, relative to how fast it forgets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("units", "synapses_per_input", "branches"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.hidden is not None and self.hidden < 1:
            raise UsageError(f"expected hidden >= 1 or None, got {self.hidden}")
        if not 0 < self.shortest <= self.longest or min(self.synapse_time, self.write) <= 0:
            raise UsageError(
                "expected 0 < shortest <= longest, synapse_time > 0 and write > 0, "
                f"got {self.shortest}, {self.longest}, {self.synapse_time} and {self.write}"
            )


@register(
    "memory",
    "elm",
    family="gated",
    source="Spieler et al. 2024, The expressive leaky memory neuron",
    variants=({"units": 5, "synapses_per_input": 3, "branches": 4, "hidden": 7, "longest": 20.0},),
)
class ELM(MemoryModule):
    """Leaky memory units written by a network."""

    Config = ELMConfig
    properties = frozenset({"compilable"})
    parallel = "loop"

    def __init__(self, config: ELMConfig) -> None:
        super().__init__(config)
        self.config: ELMConfig = config
        self.synapses = config.in_dim * config.synapses_per_input
        self.branch_size = math.ceil(self.synapses / config.branches)
        self.branches = math.ceil(self.synapses / self.branch_size)
        hidden = config.hidden or 2 * config.units
        self.synapse_weight = nn.Parameter(torch.empty(self.synapses).uniform_(-1, 1))
        self.times_log = nn.Parameter(torch.linspace(math.log(config.shortest), math.log(config.longest), config.units))
        self.from_branches = nn.Linear(self.branches, hidden)
        self.from_units = nn.Linear(config.units, hidden, bias=False)
        self.update = nn.Linear(hidden, config.units)
        self.readout = nn.Linear(config.units, config.out_dim)

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the traces of the synapses and the memory units."""
        return {"s": StateSpec((self.synapses,)), "m": StateSpec((self.config.units,))}

    def macs_per_token(self, t: int | None = None) -> int:
        """Synapses, network and read-out."""
        maps = (self.from_branches, self.from_units, self.update, self.readout)
        return 2 * self.synapses + sum(layer.weight.numel() for layer in maps)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        s, m = state["s"], state["m"]
        if reset is not None:
            # before the products: their gradient would carry a NaN of the old episode to the time constants
            opens = reset.unsqueeze(1)
            s, m = s.masked_fill(opens, 0), m.masked_fill(opens, 0)
        s = s * self._leak() + self._synapses(inputs.x)
        m = self._write(self._drive(s), m, *self._rates())
        return self.readout(m), {"s": s, "m": m}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Scan the synapses, then loop over the memory units; see `MemoryModule.sequence`."""
        entering = self._synapses(inputs.x)
        leak = torch.full_like(entering, self._leak())
        if valid is not None:
            leak = torch.where(valid.unsqueeze(-1), leak, 1)
            entering = torch.where(valid.unsqueeze(-1), entering, 0)
        s = linear_scan(leak, entering, resets, state["s"])
        keep, rate = self._rates()
        m, held = state["m"], []
        for t, drive in enumerate(self._drive(s).unbind(1)):
            if resets is not None:
                m = m.masked_fill(resets[:, t : t + 1], 0)
            new = self._write(drive, m, keep, rate)
            m = new if valid is None else torch.where(valid[:, t : t + 1], new, m)
            held.append(m)
        # a copy: a view would keep the whole sequence alive in every stored state
        return self.readout(torch.stack(held, 1)), {"s": s[:, -1].clone(), "m": m}

    def _leak(self) -> float:
        return math.exp(-1 / self.config.synapse_time)

    def _rates(self) -> tuple[Tensor, Tensor]:
        """Return what a memory unit keeps in a step and how strongly it is written, (units,) each."""
        speed = torch.exp(-self.times_log)
        return torch.exp(-speed), -torch.expm1(-self.config.write * speed)

    def _synapses(self, x: Tensor) -> Tensor:
        """(..., in_dim) -> (..., synapses): synapse i listens to input i modulo in_dim."""
        return x.repeat(*[1] * (x.dim() - 1), self.config.synapses_per_input) * self.synapse_weight

    def _drive(self, s: Tensor) -> Tensor:
        """(..., synapses) -> (..., hidden): the branches' part of the network."""
        s = F.pad(s, (0, self.branches * self.branch_size - self.synapses))
        return self.from_branches(s.view(*s.shape[:-1], self.branches, self.branch_size).sum(-1))

    def _write(self, drive: Tensor, m: Tensor, keep: Tensor, rate: Tensor) -> Tensor:
        """Drive (n, hidden), units (n, units) -> units after the token."""
        m = m * keep
        return m + rate * torch.tanh(self.update(F.relu(drive + self.from_units(m))))
