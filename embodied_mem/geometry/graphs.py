"""Shortest paths on graphs given as edge lists (street panoramas, topological maps)."""

from __future__ import annotations

import numpy as np


def graph_distances(
    num_nodes: int, edges: np.ndarray, sources: np.ndarray, weights: np.ndarray | None = None, directed: bool = False
) -> np.ndarray:
    """Return (S, num_nodes) float64: least total weight from each source to every node, inf where cut off.

    Args:
        num_nodes: number of nodes.
        edges: (E, 2) int, node indices.
        sources: (S,) int.
        weights: (E,) positive; 1 for every edge when absent (hops).
        directed: whether an edge goes one way only.

    Raises:
        ValueError: an index lies outside the graph or a weight is not positive.
    """
    from scipy.sparse.csgraph import dijkstra

    return dijkstra(_matrix(num_nodes, edges, weights), directed=directed, indices=np.asarray(sources))


def graph_path(
    num_nodes: int,
    edges: np.ndarray,
    source: int,
    target: int,
    weights: np.ndarray | None = None,
    directed: bool = False,
) -> list[int]:
    """Return the nodes of one shortest path from ``source`` to ``target``, both included; empty when there is none.

    >>> graph_path(4, np.array([[0, 1], [1, 2], [2, 3]]), 0, 2)
    [0, 1, 2]
    """
    from scipy.sparse.csgraph import dijkstra

    matrix = _matrix(num_nodes, edges, weights)
    distance, before = dijkstra(matrix, directed=directed, indices=source, return_predecessors=True)
    if not np.isfinite(distance[target]):
        return []
    path = [target]
    while path[-1] != source:
        path.append(int(before[path[-1]]))
    return path[::-1]


def _matrix(num_nodes: int, edges: np.ndarray, weights: np.ndarray | None) -> object:
    from scipy.sparse import csr_matrix

    edges = np.asarray(edges).reshape(-1, 2)
    values = np.ones(len(edges)) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(edges) and (edges.min() < 0 or edges.max() >= num_nodes):
        raise ValueError(f"expected node indices in [0, {num_nodes - 1}], got {edges.min()}..{edges.max()}")
    if (values <= 0).any():
        raise ValueError(f"expected positive weights, got {values.min()}")
    # A repeated edge would be summed by the sparse constructor: keep the cheapest.
    order = np.lexsort((values, edges[:, 1], edges[:, 0]))
    edges, values = edges[order], values[order]
    first = np.ones(len(edges), dtype=bool)
    first[1:] = (edges[1:] != edges[:-1]).any(axis=1)
    return csr_matrix((values[first], (edges[first, 0], edges[first, 1])), shape=(num_nodes, num_nodes))
