"""Neural Turing machine: a controller that reads and writes a tape by content and by small shifts.

    h     = LSTM([x, reads'])
    every head emits from h:  key k, strength beta = 1 + softplus, gate g, shift s = softmax of 3, sharpness
                              gamma = 1 + softplus; the write head also erase e = sig and add a
    c_i   = softmax(beta cos(k, M_i)),   w_g = g c + (1 - g) w',   w_s = s circularly over w_g,   w = w_s^gamma / sum
    M     = M' * (1 - w e^T) + w a^T,    reads = w_read M,         y = W [h, reads] + b

The write comes before the reads. An episode starts with a tape of 1e-6 and every head on its first slot.

Limits: no parallel form.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.addressing import content_weights, erase_add, lstm_cell
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.registry import register

__all__ = ["NTM", "NTMConfig"]

_EMPTY = 1e-6
# Keeps a slot that has lost all weight reachable by a gradient through the power.
_FLOOR = 1e-6
_SHIFTS = (-1, 0, 1)


@dataclass(frozen=True)
class NTMConfig(MemoryConfig):
    """Tape and controller."""

    slots: int = 16
    """Slots N of the tape."""
    slot_dim: int = 16
    """Width W of a slot."""
    read_heads: int = 1
    """Reading heads R; there is one writing head."""
    controller: int = 64
    """Hidden units of the LSTM controller."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slot_dim", "read_heads", "controller"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.slots < len(_SHIFTS):
            raise UsageError(f"expected slots >= {len(_SHIFTS)}, the taps of a shift, got {self.slots}")


@register(
    "memory",
    "ntm",
    family="slots",
    source="Graves et al. 2014, arXiv 1410.5401",
    variants=({"slots": 5, "slot_dim": 3, "read_heads": 2, "controller": 7},),
)
class NTM(SlotLoop):
    """Tape M (N, W) with heads w."""

    Config = NTMConfig

    def __init__(self, config: NTMConfig) -> None:
        super().__init__(config)
        self.config: NTMConfig = config
        N, W, R, C = config.slots, config.slot_dim, config.read_heads, config.controller
        self.input = nn.Linear(config.in_dim, 4 * C)
        self.recurrent = nn.Linear(C + R * W, 4 * C, bias=False)
        # key, strength, gate, shifts, sharpness of every head, the writing head last; then erase and add
        self.head_size = W + 3 + len(_SHIFTS)
        self.interface = nn.Linear(C, (R + 1) * self.head_size + 2 * W)
        self.readout = nn.Linear(C + R * W, config.out_dim)
        self.first: Tensor
        self.register_buffer("first", F.one_hot(torch.tensor(0), N).float().expand(R + 1, N).clone(), persistent=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """Tape ``M`` (N, W), heads ``w`` (R + 1, N) with the writing head last, ``reads`` (R, W), controller."""
        c = self.config
        return {
            "M": StateSpec((c.slots, c.slot_dim)),
            "w": StateSpec((c.read_heads + 1, c.slots)),
            "reads": StateSpec((c.read_heads, c.slot_dim)),
            "h": StateSpec((c.controller,)),
            "c": StateSpec((c.controller,)),
        }

    def starts(self) -> dict[str, Tensor | float]:
        """Return an empty tape with every head on the first slot."""
        return {"M": _EMPTY, "w": self.first, "reads": 0.0, "h": 0.0, "c": 0.0}

    def macs_per_token(self, t: int | None = None) -> int:
        """Controller, interface, addressing of every head, write, reads and readout."""
        c = self.config
        addressing = (c.read_heads + 1) * c.slots * (c.slot_dim + len(_SHIFTS))
        tape = (2 + c.read_heads) * c.slots * c.slot_dim
        return linear_macs(self) + addressing + tape

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return the input's share of the controller's gates."""
        return (self.input(inputs.x),)

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Advance the controller, move the heads, write, read."""
        c = self.config
        h, cell = lstm_cell(
            token[0] + self.recurrent(torch.cat([state["h"], state["reads"].flatten(1)], 1)), state["c"]
        )
        heads, erase, add = self.interface(h).split(
            (self.interface.out_features - 2 * c.slot_dim, *[c.slot_dim] * 2), 1
        )
        w = self._address(heads.view(len(h), c.read_heads + 1, -1), state["M"], state["w"])
        M = erase_add(state["M"], w[:, -1], erase.sigmoid(), add)
        reads = torch.bmm(w[:, :-1], M)
        return torch.cat([h, reads.flatten(1)], 1), {"M": M, "w": w, "reads": reads, "h": h, "c": cell}

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map controller and reads (..., C + R W) to the output."""
        return self.readout(read)

    def _address(self, heads: Tensor, M: Tensor, before: Tensor) -> Tensor:
        """heads (n, R + 1, head_size), M (n, N, W), before (n, R + 1, N) -> weights (n, R + 1, N)."""
        key, strength, gate, shift, sharpness = heads.split((self.config.slot_dim, 1, 1, len(_SHIFTS), 1), -1)
        content = content_weights(M, key, 1 + F.softplus(strength.squeeze(-1)))
        gated = torch.lerp(before, content, gate.sigmoid())
        shift = shift.softmax(-1)
        moved = sum(
            (shift[..., i : i + 1] * gated.roll(by, -1) for i, by in enumerate(_SHIFTS)), torch.zeros_like(gated)
        )
        sharp = (moved + _FLOOR) ** (1 + F.softplus(sharpness))
        return sharp / sharp.sum(-1, keepdim=True)
