"""Nearest vectors of a table that changes: exact by default, approximate by hnswlib where it is installed.

An index is a cache of the table, never state: `sync` compares versions and takes over what changed, so a superseded
vector cannot be found, and an index built anew from the same table answers alike.

Why hnswlib and not faiss for the approximate one: entries here are overwritten again and again, and hnswlib's graph
updates an entry in place under its label and deletes one, while faiss' HNSW index can do neither and has to be built
anew. ``docs/memory/spatial.md`` has both measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from embodied_mem.errors import UsageError

__all__ = ["ExactSearch", "HnswSearch", "VectorSearch", "make_search"]


class VectorSearch(ABC):
    """Squared Euclidean nearest neighbours among the live rows of a table."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._versions: np.ndarray = np.zeros(0, np.int64)

    def sync(self, vectors: Tensor, versions: Tensor) -> None:
        """Take over the table.

        Args:
            vectors: (M, D) float. versions: (M,) int64, larger whenever a row was written anew; 0 for a dead row.
        """
        if vectors.shape != (len(versions), self.dim):
            raise UsageError(f"expected vectors ({len(versions)}, {self.dim}), got {tuple(vectors.shape)}")
        now = versions.cpu().numpy()
        before = np.zeros_like(now)
        before[: len(self._versions)] = self._versions[: len(now)]
        gone = np.concatenate(
            [((before > 0) & (now == 0)).nonzero()[0], len(now) + self._versions[len(now) :].nonzero()[0]]
        )
        changed = ((now > 0) & (now != before)).nonzero()[0]
        self._take(vectors.detach().float().cpu(), changed, gone)
        self._versions = now.copy()

    def __len__(self) -> int:
        return int((self._versions > 0).sum())

    @abstractmethod
    def query(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return rows (Q, k) int64 and squared distances (Q, k), nearest first; -1 and inf where there are fewer."""

    @abstractmethod
    def _take(self, vectors: Tensor, changed: np.ndarray, gone: np.ndarray) -> None: ...


class ExactSearch(VectorSearch):
    """All distances, in torch."""

    def query(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """See `VectorSearch.query`."""
        rows = torch.full((len(queries), k), -1)
        apart = torch.full((len(queries), k), torch.inf)
        live = torch.from_numpy(self._versions).nonzero()[:, 0]
        found = min(k, len(live))
        if found:
            every = torch.cdist(queries.detach().float().cpu(), self._vectors[live]).square()
            nearest = every.topk(found, dim=1, largest=False, sorted=True)
            rows[:, :found], apart[:, :found] = live[nearest.indices], nearest.values
        return rows, apart

    def _take(self, vectors: Tensor, changed: np.ndarray, gone: np.ndarray) -> None:
        self._vectors = vectors


class HnswSearch(VectorSearch):
    """Navigable small-world graph of hnswlib (``pip install embodied-mem[ann]``)."""

    def __init__(self, dim: int, links: int = 16, effort: int = 200, capacity: int = 1024) -> None:
        """Make an empty index.

        Args:
            dim: width D.
            links: edges per entry; effort: candidates looked at, in building and in queries; capacity: grows on demand.

        Raises:
            UsageError: hnswlib is not installed.
        """
        super().__init__(dim)
        try:
            import hnswlib
        except ImportError:
            raise UsageError(
                "approximate search needs hnswlib, which is not installed; pip install hnswlib, or search='exact'"
            ) from None
        self._index = hnswlib.Index("l2", dim)
        self._index.init_index(capacity, M=links, ef_construction=effort, random_seed=0)
        self._effort = effort
        self._known: set[int] = set()

    def __len__(self) -> int:
        return self._index.get_current_count() - len(self._known) + len(self._live())

    def query(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """See `VectorSearch.query`."""
        rows = torch.full((len(queries), k), -1)
        apart = torch.full((len(queries), k), torch.inf)
        found = min(k, len(self._live()))
        if found:
            self._index.set_ef(max(self._effort, found))
            labels, distances = self._index.knn_query(queries.detach().float().cpu().numpy(), found, num_threads=1)
            rows[:, :found] = torch.from_numpy(labels.astype(np.int64))
            apart[:, :found] = torch.from_numpy(distances)
        return rows, apart

    def _live(self) -> np.ndarray:
        return (self._versions > 0).nonzero()[0]

    def _take(self, vectors: Tensor, changed: np.ndarray, gone: np.ndarray) -> None:
        for row in gone.tolist():
            self._index.mark_deleted(row)
        for row in changed.tolist():
            if row in self._known and (row >= len(self._versions) or self._versions[row] == 0):
                self._index.unmark_deleted(row)
        need = len(self._known | set(changed.tolist()))
        if need > self._index.get_max_elements():
            self._index.resize_index(max(need, 2 * self._index.get_max_elements()))
        if len(changed):
            self._index.add_items(vectors[changed].numpy(), changed, num_threads=1)
            self._known.update(changed.tolist())


def make_search(name: str, dim: int) -> VectorSearch:
    """Return a search by name: "exact" or "hnsw".

    Raises:
        UsageError: there is no such search, or it is not installed.
    """
    kinds = {"exact": ExactSearch, "hnsw": HnswSearch}
    if name not in kinds:
        raise UsageError(f"expected search {' or '.join(map(repr, kinds))}, got {name!r}")
    return kinds[name](dim)
