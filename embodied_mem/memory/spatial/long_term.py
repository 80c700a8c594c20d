"""Long-term memory of Mem4Nav done right: reversible tokens per key, in two honest modes.

The reversible map R is a bijection on vectors of two halves, so one token holds one pair (theta_r, v) and no more: a
token of fixed size cannot hold n observations exactly. Hence

* ``exact``: a chain per key. Write [y1; y2] = R([y1 of the last write; v]) and push y2 to a ring of ``chain`` entries.
  Reading undoes R along the ring: every one of the last ``chain`` observations, without loss but for rounding, at
  O(chain d) numbers per key, as many as the observations themselves would take;
* ``compressed``: one token of 2 d. Write R([C token; v]) with a trained C: 2 d -> d; reading undoes R and expands with
  a trained E: d -> 2 d, again and again. Age 0 is exact, older ones are as good as C and E are trained (`cycle_loss`);
  `error_by_age` says how good that is.

Keys are (kind, number), so leaves of an octree and nodes of a graph never overwrite each other. Writing keeps no graph.
Tokens are found by `search` over descriptors [unit(v); place / scale] of the latest observation of each key; the
published projection of the query is trained by nothing, so it is left out. What is fed back here is a half of the last
token; the published code feeds back the decoded first half, which by induction is the zero it began with, so that its
token never accumulates anything.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial.reversible import ReversibleStack
from embodied_mem.memory.spatial.search import make_search

__all__ = ["Key", "LongTermMemory", "Recalled"]

Key = tuple[str, int]
"""What a token belongs to: the kind of thing ("leaf", "node", ...) and its number."""


class Recalled(NamedTuple):
    """What a search found, nearest first; of length 0 when there is nothing."""

    keys: list[Key]
    """m keys."""
    values: Tensor
    """(m, d) latest observation of each key, decoded from its token."""
    places: Tensor
    """(m, 3) metres."""
    distances: Tensor
    """(m,) squared distances of the descriptors."""


class LongTermMemory(nn.Module):
    """Tokens of one agent; see the module docstring."""

    _first: Tensor
    _ring: Tensor
    _place: Tensor
    _descriptor: Tensor
    _count: Tensor
    _written: Tensor

    def __init__(
        self,
        dim: int,
        mode: Literal["exact", "compressed"] = "exact",
        capacity: int = 20_000,
        chain: int = 32,
        place_scale: float = 0.0,
        search: str = "exact",
        **stack: int,
    ) -> None:
        """Make an empty memory.

        Args:
            dim: width d of an observation.
            mode: "exact" or "compressed".
            capacity: keys; the one written longest ago gives way.
            chain: observations per key that can be read back (exact), or that are decoded at most (compressed).
            place_scale: metres that count as much as opposite observations in a search; 0 leaves places out.
            search: "exact" or "hnsw".
            stack: options of `ReversibleStack`.

        Raises:
            UsageError: a value is out of range.
        """
        super().__init__()
        if mode not in ("exact", "compressed") or capacity < 1 or chain < 1 or place_scale < 0:
            raise UsageError(
                "expected mode 'exact' or 'compressed', capacity >= 1, chain >= 1 and place_scale >= 0, got "
                f"{mode!r}, {capacity}, {chain}, {place_scale}"
            )
        self.dim, self.mode, self.capacity, self.chain, self.place_scale = dim, mode, capacity, chain, place_scale
        self.map = ReversibleStack(dim, **stack)
        if mode == "compressed":
            self.compress = nn.Sequential(nn.Linear(2 * dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
            self.expand = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, 2 * dim))
        self.search_kind = search
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        width = self.dim + (3 if self.place_scale else 0)
        self._search = make_search(self.search_kind, width)
        self._slots: dict[Key, int] = {}
        self._order: list[Key | None] = []
        self._clock = 0
        self._grow(0)

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, key: object) -> bool:
        return key in self._slots

    def nbytes(self) -> int:
        """Return the bytes of the tokens, rings, places and descriptors held."""
        tensors = (self._first, self._ring, self._place, self._descriptor, self._written, self._count)
        return sum(value.numel() * value.element_size() for value in tensors)

    @torch.no_grad()
    def write(self, key: Key, value: Tensor, place: Tensor) -> None:
        """Fold an observation (d,) made at ``place`` (3,) metres into the token of ``key``."""
        if value.shape != (self.dim,) or place.shape != (3,):
            raise UsageError(f"expected value ({self.dim},) and place (3,), got {value.shape} and {place.shape}")
        slot = self._slot(key)
        value = value.to(self._first)
        if self.mode == "exact":
            y1, y2 = self.map(torch.cat([self._first[slot], value])).chunk(2)
        else:
            token = torch.cat([self._first[slot], self._ring[slot, 0]])
            carried = self.compress(token) if self._count[slot] else torch.zeros_like(value)
            y1, y2 = self.map(torch.cat([carried, value])).chunk(2)
        length = self._ring.shape[1]
        self._first[slot] = y1
        self._ring[slot, int(self._count[slot]) % length] = y2
        self._count[slot] += 1
        self._place[slot] = place.to(self._place)
        self._clock += 1
        self._written[slot] = self._clock
        self._descriptor[slot] = self._describe(value.unsqueeze(0), place.unsqueeze(0))[0]

    @torch.no_grad()
    def read(self, key: Key, count: int | None = None) -> Tensor:
        """Return the last ``count`` observations of ``key``, (m, d), newest first; (0, d) for an unknown key.

        In mode "exact" at most ``chain`` exist; in "compressed" those of age > 0 are reconstructions.
        """
        slot = self._slots.get(key)
        if slot is None:
            return self._first.new_zeros(0, self.dim)
        held = min(int(self._count[slot]), self.chain)
        length = self._ring.shape[1]
        y1, at, found = self._first[slot], int(self._count[slot]) - 1, []
        y2 = self._ring[slot, at % length]
        for age in range(held if count is None else min(count, held)):
            if age and self.mode == "exact":
                y2 = self._ring[slot, (at - age) % length]
            y1, value = self.map.inverse(torch.cat([y1, y2])).chunk(2)
            found.append(value)
            if self.mode == "compressed":
                y1, y2 = self.expand(y1).chunk(2)
        return torch.stack(found) if found else self._first.new_zeros(0, self.dim)

    @torch.no_grad()
    def search(self, value: Tensor, place: Tensor, count: int = 3) -> Recalled:
        """Return the ``count`` keys whose latest observation is nearest to (d,) at (3,) metres."""
        self._search.sync(self._descriptor, self._written)
        query = self._describe(value.to(self._first).unsqueeze(0), place.unsqueeze(0))
        rows, apart = (item[0] for item in self._search.query(query, count))
        rows, apart = rows[rows >= 0], apart[rows >= 0]
        keys = [key for key in (self._order[row] for row in rows.tolist()) if key is not None]
        values = [self.read(key, 1) for key in keys]
        return Recalled(
            keys, torch.cat(values) if values else self._first.new_zeros(0, self.dim), self._place[rows], apart
        )

    def cycle_loss(self, values: Tensor) -> Tensor:
        """Return the mean squared error of reading back chains written from ``values`` (B, L, d), compressed mode.

        With a graph, for training; error at age 0 is rounding.
        """
        return torch.stack([error.mean() for error in self._cycle(values)]).mean()

    @torch.no_grad()
    def error_by_age(self, values: Tensor) -> Tensor:
        """Return the relative error |v - decoded| / |v| at every age, (L,), for chains (B, L, d), compressed mode."""
        size = values.square().sum(-1).mean().clamp(min=1e-12)
        return torch.stack([(error.sum(-1).mean() / size).sqrt() for error in self._cycle(values)])

    def _cycle(self, values: Tensor) -> list[Tensor]:
        if self.mode != "compressed":
            raise UsageError("expected mode 'compressed': the exact chain has nothing to train and loses nothing")
        carried = torch.zeros_like(values[:, 0])
        for t in range(values.shape[1]):
            token = self.map(torch.cat([carried, values[:, t]], -1))
            carried = self.compress(token)
        errors = []
        for t in reversed(range(values.shape[1])):
            carried, value = self.map.inverse(token).chunk(2, -1)
            errors.append((value - values[:, t]).square())
            token = self.expand(carried)
        return errors

    def _describe(self, value: Tensor, place: Tensor) -> Tensor:
        unit = F.normalize(value, dim=-1)
        return torch.cat([unit, 2 * place.to(unit) / self.place_scale], -1) if self.place_scale else unit

    def _slot(self, key: Key) -> int:
        """Return the slot of ``key``, an empty one if it is new."""
        if key in self._slots:
            return self._slots[key]
        if len(self._order) < self.capacity:
            slot = len(self._order)
            self._order.append(None)
            if slot >= len(self._count):
                self._grow(min(self.capacity, max(16, 2 * slot)))
        else:
            slot = int(self._written[: len(self._order)].argmin())
            old = self._order[slot]
            assert old is not None
            del self._slots[old]
            self._first[slot], self._count[slot] = 0, 0
        self._slots[key], self._order[slot] = slot, key
        return slot

    def _grow(self, slots: int) -> None:
        weight = next(self.map.parameters())
        ring = self.chain if self.mode == "exact" else 1
        fresh = {
            "_first": weight.new_zeros(slots, self.dim),
            "_ring": weight.new_zeros(slots, ring, self.dim),
            "_place": weight.new_zeros(slots, 3),
            "_descriptor": weight.new_zeros(slots, self._search.dim),
            "_count": torch.zeros(slots, dtype=torch.int64),
            "_written": torch.zeros(slots, dtype=torch.int64),
        }
        for name, table in fresh.items():
            if slots:
                old = getattr(self, name)
                table[: len(old)] = old
            setattr(self, name, table.detach())
