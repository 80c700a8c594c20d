"""Hop distances between any two nodes of a large sparse graph in constant time.

Street graphs are mostly chains: a node with two neighbours lies between two junctions. The table keeps the fewest hops
between all junctions (nodes whose number of neighbours is not 2) and, per node, the two ends of its chain; then

    hop(u, v) = min(|place_u - place_v| on the same chain, min over ends a of u, b of v: d(u, a) + D[a, b] + d(b, v))

which is exact, since every way off a chain leaves through one of its ends.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.geometry.graphs import graph_distances

MAX_JUNCTIONS = 12_000
"""Junctions whose all-pairs table still fits in memory (4 bytes each way)."""


class HopArrays(NamedTuple):
    """The table as arrays, for compiled code (`_hop_kernels.hop`); N nodes, K junctions."""

    ends: np.ndarray
    """(N, 2) int32 junction numbers at both ends of a node's chain; a junction names itself twice."""
    gaps: np.ndarray
    """(N, 2) int32 hops to them."""
    chain: np.ndarray
    """(N,) int32 chain number, -1 for junctions."""
    table: np.ndarray
    """(K, K) int32 fewest hops between junctions, -1 where cut off."""


class HopTable:
    """Fewest edges between nodes; edges are undirected and count 1 each."""

    def __init__(self, num_nodes: int, edges: np.ndarray) -> None:
        """Contract the chains and fill the table.

        Args:
            num_nodes: N.
            edges: (E, 2) int node indices; direction, repeats and self-loops are ignored.

        Raises:
            UsageError: an index lies outside the graph, or there are too many junctions for a table.
        """
        edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
        if len(edges) and (edges.min() < 0 or edges.max() >= num_nodes):
            raise UsageError(f"expected node indices in [0, {num_nodes - 1}], got {edges.min()}..{edges.max()}")
        self.num_nodes = int(num_nodes)
        self.neighbours = _neighbours(self.num_nodes, edges)
        self.arrays = _contract(self.neighbours)

    def hops(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the fewest edges between ``u`` and ``v`` (integers that broadcast), float64; inf where none.

        Raises:
            UsageError: a node lies outside the graph.

        >>> table = HopTable(4, np.array([[0, 1], [1, 2], [2, 3]]))
        >>> table.hops(np.array([0, 1]), np.array(3)).tolist()
        [3.0, 2.0]
        """
        from embodied_mem.geometry import _hop_kernels

        left, right = np.broadcast_arrays(np.asarray(u, np.int64), np.asarray(v, np.int64))
        for nodes in (left, right):
            if nodes.size and (nodes.min() < 0 or nodes.max() >= self.num_nodes):
                raise UsageError(
                    f"expected node indices in [0, {self.num_nodes - 1}], got {nodes.min()}..{nodes.max()}"
                )
        flat = _hop_kernels.hop_pairs(
            self.arrays, np.ascontiguousarray(left).ravel(), np.ascontiguousarray(right).ravel()
        )
        found = flat.reshape(left.shape).astype(np.float64)
        found[found < 0] = np.inf
        return found


def _neighbours(num_nodes: int, edges: np.ndarray) -> list[list[int]]:
    found: list[dict[int, None]] = [{} for _ in range(num_nodes)]
    for a, b in edges.tolist():
        if a != b:
            found[a][b] = None
            found[b][a] = None
    return [list(items) for items in found]


def _contract(neighbours: list[list[int]]) -> HopArrays:
    n = len(neighbours)
    ends, gaps = np.zeros((n, 2), np.int32), np.zeros((n, 2), np.int32)
    chain = np.full(n, -1, np.int32)
    number: dict[int, int] = {}
    pending = [node for node in range(n) if len(neighbours[node]) != 2]
    links: list[tuple[int, int, int]] = []
    chains, walked = 0, np.zeros(n, dtype=bool)
    position = 0
    while True:
        for junction in pending:
            number[junction] = len(number)
            walked[junction] = True
        for junction in pending:
            for first in neighbours[junction]:
                nodes, last = _walk(neighbours, number, junction, first)
                if nodes and walked[nodes[0]]:
                    continue
                a, b = number[junction], number[last]
                links.append((a, b, len(nodes) + 1))
                for place, node in enumerate(nodes, start=1):
                    ends[node], gaps[node] = (a, b), (place, len(nodes) + 1 - place)
                    chain[node], walked[node] = chains, True
                chains += 1
        # A ring without a junction: one of its nodes plays the part.
        while position < n and walked[position]:
            position += 1
        if position == n:
            break
        pending = [position]
    if len(number) > MAX_JUNCTIONS:
        raise UsageError(f"expected at most {MAX_JUNCTIONS} junctions for a hop table, got {len(number)}")
    for node, k in number.items():
        ends[node] = k
    return HopArrays(ends, gaps, chain, _table(len(number), links))


def _walk(neighbours: list[list[int]], number: dict[int, int], start: int, first: int) -> tuple[list[int], int]:
    """Return the inner nodes of the chain that leaves ``start`` through ``first``, and the junction at its end."""
    nodes, before, here = [], start, first
    while here not in number:
        nodes.append(here)
        one, other = neighbours[here]
        before, here = here, other if one == before else one
    return nodes, here


def _table(junctions: int, links: list[tuple[int, int, int]]) -> np.ndarray:
    between = [link for link in links if link[0] != link[1]]
    edges = np.array([link[:2] for link in between], dtype=np.int64).reshape(-1, 2)
    weights = np.array([link[2] for link in between], dtype=np.float64)
    both = np.concatenate([edges, edges[:, ::-1]])
    distance = graph_distances(junctions, both, np.arange(junctions), np.concatenate([weights, weights]), directed=True)
    return np.where(np.isfinite(distance), distance, -1).astype(np.int32)
