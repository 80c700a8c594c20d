"""Short-term memory of Mem4Nav: the last K entries in coordinates relative to the current node, batched over rows.

    evict   the entry of least  lambda count_i - (1 - lambda) (t - t_i)   (frequency and recency)
    read    among the entries within eps metres of the query: the ``top`` of highest cosine
    rebase  p_rel <- p_rel + (old node - new node)   when the current node changes, so that nothing moves in the world

A write under a key that is held refreshes that entry and counts it; times and places are in int64 and float64, so that
rebasing there and back changes nothing that a read could see. The state is a flat dict with rows first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.state import State, reset_where

__all__ = ["Recent", "ShortTermMemory"]


class Recent(NamedTuple):
    """What a read found, best first."""

    entry: Tensor
    """(n, top) int64 entries, -1 where there are fewer."""
    cosine: Tensor
    """(n, top) cosines, -inf where there is no entry."""
    value: Tensor
    """(n, top, d), 0 where there is no entry."""


class ShortTermMemory:
    """Rules of the bounded list; see the module docstring."""

    def __init__(self, dim: int, entries: int = 128, frequency: float = 0.5, eps: float = 3.0, top: int = 3) -> None:
        """Set the rules.

        Args:
            dim: width d of an entry; entries: K; frequency: lambda in [0, 1]; eps: metres; top: entries of a read.

        Raises:
            UsageError: a value is out of range.
        """
        if dim < 1 or entries < 1 or not 0 <= frequency <= 1 or eps <= 0 or not 1 <= top <= entries:
            raise UsageError(
                "expected dim, entries >= 1, frequency in [0, 1], eps > 0 and 1 <= top <= entries, got "
                f"{dim}, {entries}, {frequency}, {eps}, {top}"
            )
        self.dim, self.entries, self.frequency, self.eps, self.top = dim, entries, frequency, eps, top

    def initial_state(self, n: int) -> State:
        """Return ``n`` empty lists: ``key`` (n, K), -1 where empty; value, place, time, count and clock."""
        K = self.entries
        return {
            "key": torch.full((n, K), -1),
            "value": torch.zeros(n, K, self.dim),
            "place": torch.zeros(n, K, 3, dtype=torch.float64),
            "time": torch.zeros(n, K, dtype=torch.int64),
            "count": torch.zeros(n, K, dtype=torch.int64),
            "clock": torch.zeros(n, dtype=torch.int64),
        }

    def write(
        self, key: Tensor, value: Tensor, place: Tensor, state: State, reset: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Store one entry per row and return its index (n,) int64, and the new state.

        Args:
            key: (n,) int64 >= 0, of the thing seen. value: (n, d). place: (n, 3) metres relative to the current node.
            reset: (n,) bool, True where an episode opens: the list is emptied first.
        """
        if value.shape != (len(key), self.dim) or place.shape != (len(key), 3):
            raise UsageError(
                f"expected value (n, {self.dim}) and place (n, 3) for {len(key)} keys, "
                f"got {tuple(value.shape)} and {tuple(place.shape)}"
            )
        if reset is not None:
            state = reset_where(reset, self.initial_state(1), state)
        clock = state["clock"].unsqueeze(1)
        same = state["key"] == key.unsqueeze(1)
        score = self.frequency * state["count"] - (1 - self.frequency) * (clock - state["time"])
        score = score.double().masked_fill(state["key"] < 0, -torch.inf)
        held = same.any(1)
        index = torch.where(held, same.int().argmax(1), score.argmin(1))
        at = index.unsqueeze(1)
        count = torch.where(held.unsqueeze(1), state["count"].gather(1, at), 0) + 1
        new = {"clock": state["clock"] + 1}
        new["key"] = state["key"].scatter(1, at, key.unsqueeze(1))
        new["time"] = state["time"].scatter(1, at, clock)
        new["count"] = state["count"].scatter(1, at, count)
        for name, item in (("value", value.detach()), ("place", place)):
            where = at.unsqueeze(-1).expand(-1, -1, item.shape[-1])
            new[name] = state[name].scatter(1, where, item.to(state[name].dtype).unsqueeze(1))
        return index, new

    def rebase(self, old: Tensor, new: Tensor, state: State) -> State:
        """Return the state relative to node ``new`` instead of ``old``, both (n, 3) metres."""
        return state | {"place": state["place"] + (old.double() - new.double()).unsqueeze(1)}

    def read(self, value: Tensor, place: Tensor, state: State) -> Recent:
        """Return the entries near ``place`` (n, 3), relative to the node, that are most alike to ``value`` (n, d)."""
        near = torch.linalg.vector_norm(state["place"] - place.double().unsqueeze(1), dim=-1) <= self.eps
        alike = torch.cosine_similarity(state["value"], value.to(state["value"].dtype).unsqueeze(1), dim=-1)
        best = alike.masked_fill(~near | (state["key"] < 0), -torch.inf).topk(self.top, dim=1)
        exists = best.values > -torch.inf
        held = state["value"].gather(1, best.indices.unsqueeze(-1).expand(-1, -1, self.dim))
        return Recent(torch.where(exists, best.indices, -1), best.values, torch.where(exists.unsqueeze(-1), held, 0))
