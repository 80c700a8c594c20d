"""Dynamic memory network: passes over the last N inputs in order, each gated by what is asked and already known.

    c_i = W x_i,  q = W x,  m = q;   every pass:
    g_i = sig(MLP([c_i * q, c_i * m, |c_i - q|, |c_i - m|])),   e = 0 first
    e <- g_i GRU(c_i, e) + (1 - g_i) e   from old to new,   m <- GRU(e, m);   at last  y = W [m, q] + b

The passes share their weights. Reading in order is sequential in N but not in T: the sequence form runs all queries
through the same N steps, so N is capped at 64 and costs ``passes * N`` GRU steps per input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, WindowMemory, check_positive
from embodied_mem.registry import register

__all__ = ["DMNEpisodic", "DMNEpisodicConfig"]

_MOST_SLOTS = 64


@dataclass(frozen=True)
class DMNEpisodicConfig(MemoryConfig):
    """Entries and passes."""

    slots: int = 16
    """Entries N, at most 64."""
    width: int = 32
    """Width of entries, query and memory."""
    passes: int = 2
    """Passes over the entries; the paper uses 3 to 5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "width", "passes")
        if self.slots > _MOST_SLOTS:
            raise UsageError(f"expected slots <= {_MOST_SLOTS}, which are read one after another, got {self.slots}")


@register(
    "memory",
    "dmn_episodic",
    family="slots",
    source="Kumar et al. 2015, arXiv 1506.07285",
    variants=({"slots": 7, "width": 6, "passes": 3},),
)
class DMNEpisodic(WindowMemory):
    """Ring of embedded inputs, read by gated passes."""

    Config = DMNEpisodicConfig
    queries = 64

    def __init__(self, config: DMNEpisodicConfig) -> None:
        super().__init__(config)
        self.config: DMNEpisodicConfig = config
        W = config.width
        self.slots, self.entry_dim = config.slots, W
        self.embed, self.query = nn.Linear(config.in_dim, W), nn.Linear(config.in_dim, W)
        self.gate = nn.Sequential(nn.Linear(4 * W, W), nn.Tanh(), nn.Linear(W, 1))
        self.episode, self.update = nn.GRUCell(W, W), nn.GRUCell(W, W)
        self.readout = nn.Linear(2 * W, config.out_dim)

    def macs_per_token(self, t: int | None = None) -> int:
        """Embeddings, readout, and per pass a gate and a GRU step of every entry."""
        maps = sum(linear_macs(part) for part in (self.embed, self.query, self.readout))
        entry = linear_macs(self.gate) + linear_macs(self.episode)
        return maps + self.config.passes * (self.held(t) * entry + linear_macs(self.update))

    def entry(self, x: Tensor) -> Tensor:
        """Embed the input."""
        return self.embed(x)

    def read(self, x: Tensor, window: Window) -> Tensor:
        """Pass over the entries."""
        q = self.query(x)
        entries = window.gathered()
        shares = torch.nn.functional.linear(entries, self.episode.weight_ih, self.episode.bias_ih)
        m = q
        for _ in range(self.config.passes):
            gates = self.gates(entries, q, m).masked_fill(~window.visible.unsqueeze(3), 0)
            e = torch.zeros_like(q)
            for age in reversed(range(self.slots)):
                e = torch.lerp(e, self._gru(shares[:, :, age], e), gates[:, :, age])
            m = self.update(e.flatten(0, 1), m.flatten(0, 1)).view_as(q)
        return self.readout(torch.cat([m, q], -1))

    def gates(self, entries: Tensor, q: Tensor, m: Tensor) -> Tensor:
        """Return how much each entry counts: entries (n, Q, N, W), q and m (n, Q, W) -> (n, Q, N, 1)."""
        q, m = q.unsqueeze(2), m.unsqueeze(2)
        alike = torch.cat([entries * q, entries * m, (entries - q).abs(), (entries - m).abs()], -1)
        return self.gate(alike).sigmoid()

    def _gru(self, share: Tensor, e: Tensor) -> Tensor:
        """One GRU step from the input's share of the gates (n, Q, 3 W) and the state (n, Q, W)."""
        r, z, new = share.chunk(3, -1)
        r_state, z_state, new_state = torch.nn.functional.linear(e, self.episode.weight_hh, self.episode.bias_hh).chunk(
            3, -1
        )
        candidate = torch.tanh(new + torch.sigmoid(r + r_state) * new_state)
        return torch.lerp(candidate, e, torch.sigmoid(z + z_state))
