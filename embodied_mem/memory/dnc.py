"""Differentiable neural computer: writes by content or to free slots, reads by content and in the order of writing.

    h = LSTM([x, reads']);   from h: keys, strengths 1 + softplus, gates, erase e, add a, free gates f_r, read modes
    psi = prod_r (1 - f_r w_r'),   u = (u' + w_w' - u' * w_w') * psi
    a[phi_j] = (1 - u[phi_j]) prod_{i<j} u[phi_i],   phi sorts u upwards
    w_w = g_w (g_a a + (1 - g_a) c(k_w, M')),   M = M' * (1 - w_w e^T) + w_w v^T
    L_ij = (1 - w_w_i - w_w_j) L'_ij + w_w_i p'_j, L_ii = 0,   p = (1 - sum w_w) p' + w_w
    w_r = pi_1 L^T w_r' + pi_2 c(k_r, M) + pi_3 L w_r',   reads = w_r M,   y = W [h, reads] + b

``temporal_links=False`` (the default: cheaper, and a policy seldom needs the order) reads by content only. The gradient
of the allocation passes through the sorted values, not the order; ties go to the lower slot, by a preference of 1e-5
per slot in the sorting, so that rounding decides nothing. ``boundary_coef`` adds the predicted gradient across the ends
of training rows (Fast & Slow; see `boundary_gradient`) to `aux_losses`.

Limits: no parallel form; cost grows with N^2 when links are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.addressing import content_weights, erase_add, lstm_cell
from embodied_mem.memory.boundary_gradient import BoundaryGradient
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.registry import register

__all__ = ["DNC", "DNCConfig", "allocation"]

_EMPTY = 1e-6
_TIE = 1e-5


@dataclass(frozen=True)
class DNCConfig(MemoryConfig):
    """Memory, heads and controller."""

    slots: int = 16
    """Slots N."""
    slot_dim: int = 16
    """Width W of a slot."""
    read_heads: int = 2
    """Reading heads R."""
    controller: int = 64
    """Hidden units of the LSTM controller."""
    temporal_links: bool = False
    """Remember in which order slots were written, and read along it."""
    boundary_coef: float = 0.0
    """Weight of the predicted gradient across the ends of training rows; 0 for plain truncation."""
    boundary_hidden: int = 64
    """Hidden units of that predictor; 0 for a linear one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slots", "slot_dim", "read_heads", "controller"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.boundary_coef < 0 or self.boundary_hidden < 0:
            raise UsageError(
                f"expected boundary_coef and boundary_hidden >= 0, got {self.boundary_coef} and {self.boundary_hidden}"
            )


@register(
    "memory",
    "dnc",
    family="slots",
    source="Graves et al. 2016, Hybrid computing using a neural network with dynamic external memory",
    variants=({"slots": 5, "slot_dim": 3, "read_heads": 2, "controller": 7, "temporal_links": True},),
)
class DNC(SlotLoop):
    """Memory M (N, W) with usage, and links where asked for."""

    Config = DNCConfig

    def __init__(self, config: DNCConfig) -> None:
        super().__init__(config)
        self.config: DNCConfig = config
        W, R, C = config.slot_dim, config.read_heads, config.controller
        self.input = nn.Linear(config.in_dim, 4 * C)
        self.recurrent = nn.Linear(C + R * W, 4 * C, bias=False)
        # read keys, write key, erase, add; strengths (R + 1), free gates R, write and allocation gate, read modes
        self.sizes = (R * W, W, W, W, R + 1, R, 1, 1, 3 * R if config.temporal_links else 0)
        self.interface = nn.Linear(C, sum(self.sizes))
        self.readout = nn.Linear(C + R * W, config.out_dim)
        self.boundary = BoundaryGradient(self.state_spec(), config.boundary_hidden) if config.boundary_coef else None
        self._boundary_loss: Tensor | None = None
        self._starts: dict[str, Tensor | float] = {key: _EMPTY if key == "M" else 0.0 for key in self.state_spec()}

    def state_spec(self) -> dict[str, StateSpec]:
        """``M`` (N, W), ``usage`` (N,), ``w_write`` (N,), ``w_read`` (R, N), ``reads`` (R, W), controller, links."""
        c = self.config
        spec = {
            "M": StateSpec((c.slots, c.slot_dim)),
            "usage": StateSpec((c.slots,)),
            "w_write": StateSpec((c.slots,)),
            "w_read": StateSpec((c.read_heads, c.slots)),
            "reads": StateSpec((c.read_heads, c.slot_dim)),
            "h": StateSpec((c.controller,)),
            "c": StateSpec((c.controller,)),
        }
        if c.temporal_links:
            spec |= {"links": StateSpec((c.slots, c.slots)), "precedence": StateSpec((c.slots,))}
        return spec

    def starts(self) -> dict[str, Tensor | float]:
        """Return an empty, unused memory."""
        return dict(self._starts)

    def macs_per_token(self, t: int | None = None) -> int:
        """Controller, interface, addressing, write, reads, links and readout."""
        c = self.config
        weights = sum(linear_macs(part) for part in (self.input, self.recurrent, self.interface, self.readout))
        tape = (2 * c.read_heads + 3) * c.slots * c.slot_dim
        links = (2 + 2 * c.read_heads) * c.slots**2 if c.temporal_links else 0
        return weights + tape + links

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return the input's share of the controller's gates."""
        return (self.input(inputs.x),)

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Advance the controller, free and allocate, write, read."""
        c = self.config
        gates = token[0] + self.recurrent(torch.cat([state["h"], state["reads"].flatten(1)], 1))
        h, cell = lstm_cell(gates, state["c"])
        parts = self.interface(h).split(self.sizes, 1)
        read_keys, write_key, erase, add, strengths, free, write_gate, allocation_gate, modes = parts
        strengths = 1 + F.softplus(strengths)

        kept = (1 - free.sigmoid().unsqueeze(2) * state["w_read"]).prod(1)
        usage = (state["usage"] + state["w_write"] - state["usage"] * state["w_write"]) * kept
        found = content_weights(state["M"], write_key.unsqueeze(1), strengths[:, -1:]).squeeze(1)
        w_write = write_gate.sigmoid() * torch.lerp(found, allocation(usage), allocation_gate.sigmoid())
        M = erase_add(state["M"], w_write, erase.sigmoid(), add)

        w_read = content_weights(M, read_keys.view(len(h), c.read_heads, -1), strengths[:, :-1])
        new = {"M": M, "usage": usage, "w_write": w_write, "h": h, "c": cell}
        if c.temporal_links:
            links = _link(state["links"], w_write, state["precedence"])
            new["precedence"] = (1 - w_write.sum(1, keepdim=True)) * state["precedence"] + w_write
            new["links"] = links
            backward, by_content, forward = modes.view(len(h), c.read_heads, 3).softmax(-1).split(1, -1)
            before = state["w_read"]
            w_read = by_content * w_read + backward * (before @ links) + forward * (before @ links.transpose(1, 2))
        reads = torch.bmm(w_read, M)
        new |= {"w_read": w_read, "reads": reads}
        return torch.cat([h, reads.flatten(1)], 1), {key: new[key] for key in state}

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map controller and reads (..., C + R W) to the output."""
        return self.readout(read)

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Advance T tokens, with the predicted boundary gradient in training; see `MemoryModule.sequence`."""
        teach = self.boundary is not None and self.training and torch.is_grad_enabled()
        if self.boundary is not None and teach:
            # a carried state is cut off from its past, but the gradient that arrives there is what the predictor learns
            state = self.boundary.enter(state)
        y, after = super().forward_sequence(inputs, state, resets, valid=valid, chunk=chunk)
        self._boundary_loss = None
        if self.boundary is not None and teach:
            self._boundary_loss = self.boundary.loss(after, self.config.boundary_coef)
        return y, after

    def aux_losses(self) -> dict[str, Tensor]:
        """Return the boundary term of the last sequence in training, where it is on."""
        return {} if self._boundary_loss is None else {"boundary": self._boundary_loss}


def allocation(usage: Tensor) -> Tensor:
    """Return the weight of writing to each slot, the least used first: usage (n, N) in [0, 1] -> (n, N), sum <= 1.

    >>> allocation(torch.tensor([[1.0, 0.0, 0.5]])).tolist()
    [[0.0, 1.0, 0.0]]
    """
    N = usage.shape[1]
    preference = _TIE * torch.arange(N, device=usage.device, dtype=usage.dtype)
    order = torch.argsort(usage.detach() + preference, dim=1, stable=True)
    rising = usage.gather(1, order)
    before = torch.cat([torch.ones_like(rising[:, :1]), rising[:, :-1]], 1)
    return torch.zeros_like(usage).scatter(1, order, (1 - rising) * before.cumprod(1))


def _link(links: Tensor, w_write: Tensor, precedence: Tensor) -> Tensor:
    """links (n, N, N), w_write and precedence (n, N) -> links (n, N, N) with a zero diagonal."""
    N = links.shape[1]
    new = (1 - w_write.unsqueeze(2) - w_write.unsqueeze(1)) * links + w_write.unsqueeze(2) * precedence.unsqueeze(1)
    return new.masked_fill(torch.eye(N, dtype=torch.bool, device=links.device), 0)
