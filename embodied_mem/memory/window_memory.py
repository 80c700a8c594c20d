"""Base of memories that append one entry per step and read the last N by attention: parallel over a sequence.

An entry is read from the step after its own. The ring holds the entry of episode step p in slot ``p % N``; ``count`` is
the number of entries of the episode, so a slot exists if its step lies in ``count - N .. count - 1``, and slots that do
not exist are 0. A reset sets ``count`` to 0, and the ring with it, so that a non-finite number of the old episode is
gone.

A subclass writes `entry` (what is stored for an input) and `read`, which gets for every query the entries of ages 1 ..
N: `Window.scores` turns products with all entries into products by age, `Window.mix` adds entries up by weights of
ages. The sequence form takes ``chunk`` (default `queries`) tokens at a time over the carried ring and the chunk's own
entries.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.null_slot import null_slot_softmax
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.segments import reset_distance, segment_ids

__all__ = ["Window", "WindowMemory", "check_positive", "visible_softmax"]


class Window(NamedTuple):
    """The entries that Q queries of every row may read, addressed by age."""

    items: Tensor
    """(n, M, E) float: the ring (M = N), or the carried entries from old to new and the chunk's own (M = N + Q)."""
    place: Tensor
    """(n, Q, N) int64, the item of age a + 1 of every query."""
    visible: Tensor
    """(n, Q, N) bool, True where that age exists in the query's episode."""

    def scores(self, products: Tensor) -> Tensor:
        """Return products with all items by age: (n, H, Q, M) -> (n, H, Q, N)."""
        n, H, Q, _ = products.shape
        return products.gather(3, self.place.unsqueeze(1).expand(n, H, Q, -1))

    def mix(self, weights: Tensor, items: Tensor | None = None) -> Tensor:
        """Return sums of items (n, M, E), by default the entries, by weights of ages: (n, H, Q, N) -> (n, H, Q, E)."""
        items = self.items if items is None else items
        n, H, Q, N = weights.shape
        spread = weights.new_zeros(n, H, Q, items.shape[1])
        spread = spread.scatter(3, self.place.unsqueeze(1).expand(n, H, Q, N), weights)
        return spread @ items.unsqueeze(1)

    def gathered(self) -> Tensor:
        """Return the entries of every query, (n, Q, N, E), the latest first; 0 where there is none."""
        n, Q, N = self.place.shape
        E = self.items.shape[2]
        found = self.items.gather(1, self.place.reshape(n, Q * N, 1).expand(-1, -1, E)).view(n, Q, N, E)
        return torch.where(self.visible.unsqueeze(-1), found, 0)


class WindowMemory(MemoryModule):
    """Ring of the last entries, read by attention."""

    properties = frozenset({"compilable"})
    parallel = "attend"
    slots: int
    entry_dim: int
    queries = 128

    @abstractmethod
    def entry(self, x: Tensor) -> Tensor:
        """Return what is stored for features (..., in_dim): (..., entry_dim)."""

    @abstractmethod
    def read(self, x: Tensor, window: Window) -> Tensor:
        """Return the outputs (n, Q, out_dim) for queries x (n, Q, in_dim) and what they may read."""

    def state_spec(self) -> dict[str, StateSpec]:
        """Return ``ring`` (N, E), the last entries, and ``count``, entries of the episode."""
        return {
            "ring": StateSpec((self.slots, self.entry_dim), role="ring"),
            "count": StateSpec((), torch.int64, "counter"),
        }

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Read, then write one entry; see `MemoryModule.step`."""
        donate = donate and not torch.is_grad_enabled()
        ring, count = state["ring"], state["count"]
        rows = opened_rows(reset)
        if rows is not None:
            ring, count = (replace_rows(value, rows, 0, donate=donate) for value in (ring, count))
        ages = torch.arange(1, self.slots + 1, device=ring.device)
        latest = count.unsqueeze(1)
        window = Window(ring, ((latest - ages) % self.slots).unsqueeze(1), (ages <= latest).unsqueeze(1))
        y = self.read(inputs.x.unsqueeze(1), window).squeeze(1)
        item = self.entry(inputs.x).unsqueeze(1)
        place = (latest % self.slots).unsqueeze(2).expand(-1, 1, self.entry_dim)
        ring = ring.scatter_(1, place, item) if donate else ring.scatter(1, place, item)
        return y, {"ring": ring, "count": count + 1}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Attend `chunk` tokens at a time; see `MemoryModule.sequence`."""
        x = inputs.x
        B, T = x.shape[:2]
        if resets is None:
            resets = torch.zeros(B, T, dtype=torch.bool, device=x.device)
        lengths = torch.full((B,), T, device=x.device) if valid is None else valid.sum(1)
        entries = self.entry(x)
        size = chunk or self.queries
        outputs = []
        for start in range(0, T, size):
            at = slice(start, start + size)
            real = (lengths - start).clamp(0, x[:, at].shape[1])
            y, state = self._attend(x[:, at], entries[:, at], state, resets[:, at], real)
            outputs.append(y)
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)), state

    def held(self, t: int | None) -> int:
        """Return the entries readable at step ``t`` of an episode, None for the most."""
        return self.slots if t is None else min(t, self.slots)

    def ages(self, state: State) -> dict[str, Tensor]:
        """Return the age of every slot of the ring."""
        latest = state["count"].unsqueeze(1) - 1
        age = (latest - torch.arange(self.slots, device=latest.device)) % self.slots
        return {"ring": age.where(age <= latest, -1)}

    def _attend(
        self, x: Tensor, entries: Tensor, state: State, resets: Tensor, lengths: Tensor
    ) -> tuple[Tensor, State]:
        """One chunk: x (B, Q, in_dim), entries (B, Q, E), lengths (B,) real tokens."""
        (B, Q, E), N = entries.shape, self.slots
        ring, count = state["ring"], state["count"]
        step, ages = torch.arange(Q, device=x.device), torch.arange(1, N + 1, device=x.device)
        live = segment_ids(resets) == 0
        # entries of the episode before each token
        before = torch.where(live, count.unsqueeze(1) + step, reset_distance(resets))
        order = (count.unsqueeze(1) - ages.flip(0)) % N
        carried = ring.gather(1, order.unsqueeze(2).expand(-1, -1, E))
        items = torch.cat([carried, entries], 1)
        place = (N + step.unsqueeze(1) - ages).expand(B, Q, N)
        y = self.read(x, Window(items, place, ages <= before.unsqueeze(2)))

        after = torch.cat([count.unsqueeze(1), before + 1], 1).gather(1, lengths.unsqueeze(1))
        # latest episode step that falls on each slot, and how long before the end of the chunk it was
        slot = torch.arange(N, device=x.device)
        ago = (after - 1 - slot) % N + 1
        exists = ago <= after
        source = N + lengths.unsqueeze(1) - ago
        kept = items.gather(1, source.unsqueeze(2).expand(-1, -1, E))
        ring = torch.where(exists.unsqueeze(2), kept, 0)
        return y, {"ring": ring, "count": after.squeeze(1)}


def visible_softmax(scores: Tensor, visible: Tensor, null_slot: bool = True) -> Tensor:
    """Return softmax over the last axis where ``visible``, 0 elsewhere and where nothing is visible.

    ``null_slot`` adds a slot of logit 0 and value 0 (`null_slot_softmax`).
    """
    if null_slot:
        return null_slot_softmax(scores, visible)
    masked = scores.masked_fill(~visible, -torch.inf)
    top = masked.detach().amax(-1, keepdim=True)
    weights = (masked - top.masked_fill(top == -torch.inf, 0)).exp()
    return weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)


def check_positive(config: object, *names: str) -> None:
    """Raise unless the fields ``names`` of a config are at least 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise UsageError(f"expected {name} >= 1, got {getattr(config, name)}")
