"""Shortest paths on batches of small weighted graphs given as padded matrices: Dijkstra for all, A* for one.

`distances` is Dijkstra's algorithm over a whole batch: every graph settles its nearest open node at each round, N
rounds in all, so there is no data-dependent control flow.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

from embodied_mem.errors import UsageError

__all__ = ["a_star", "distances", "trace"]


def distances(weights: Tensor, source: Tensor, open_to: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return least total weights from one node per graph, and each node's predecessor.

    Args:
        weights: (n, N, N) float, from row to column, inf where there is no edge; no negative weight.
        source: (n,) int64.
        open_to: (n, N) bool, False for nodes that may not be entered; None for all.

    Returns:
        distance (n, N) of the dtype of ``weights``, inf where unreachable; predecessor (n, N) int64, -1 at the source
        and where unreachable.

    Raises:
        UsageError: the shapes do not fit.
    """
    n, N = weights.shape[:2]
    if weights.shape != (n, N, N) or source.shape != (n,):
        raise UsageError(
            f"expected weights (n, N, N) and source (n,), got {tuple(weights.shape)}, {tuple(source.shape)}"
        )
    if open_to is not None:
        weights = weights.masked_fill(~open_to.unsqueeze(1), torch.inf)
    best = torch.full_like(weights[:, 0], torch.inf).scatter(1, source.unsqueeze(1), 0)
    before = torch.full((n, N), -1, device=weights.device)
    settled = torch.zeros(n, N, dtype=torch.bool, device=weights.device)
    for _ in range(N):
        near = best.masked_fill(settled, torch.inf).argmin(1, keepdim=True)
        settled = settled.scatter(1, near, True)
        over = best.gather(1, near) + weights.gather(1, near.unsqueeze(-1).expand(-1, -1, N)).squeeze(1)
        better = over < best
        best = torch.where(better, over, best)
        before = torch.where(better, near, before)
    return best, before


def trace(before: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Return the nodes of the paths, (n, N) int64 from source to target, padded with -1; all -1 without a path.

    Args:
        before: (n, N) predecessors from `distances`. source, target: (n,) int64.
    """
    n, N = before.shape
    now, backwards = target, []
    for _ in range(N):
        backwards.append(now)
        now = torch.where(now >= 0, before.gather(1, now.clamp(min=0).unsqueeze(1)).squeeze(1), -1)
    path = torch.stack(backwards, 1)
    path = path.masked_fill(~(path == source.unsqueeze(1)).any(1, keepdim=True), -1)
    length = (path >= 0).sum(1, keepdim=True)
    place = length - 1 - torch.arange(N, device=before.device)
    return torch.where(place >= 0, path.gather(1, place.clamp(min=0)), -1)


def a_star(weights: Tensor, source: int, target: int, heuristic: Tensor) -> list[int]:
    """Return the nodes of a shortest path in one graph, empty when there is none.

    Args:
        weights: (N, N), inf where there is no edge. source, target: nodes.
        heuristic: (N,) lower bounds of the weight from each node to ``target`` (for edges weighted by metres or more,
            the straight distance); with a bound that is too high the path may not be shortest.
    """
    table, bound = weights.tolist(), heuristic.tolist()
    best, before = {source: 0.0}, {source: -1}
    queue = [(bound[source], source)]
    closed: set[int] = set()
    while queue:
        _, node = heapq.heappop(queue)
        if node == target:
            path = [node]
            while before[path[-1]] >= 0:
                path.append(before[path[-1]])
            return path[::-1]
        if node in closed:
            continue
        closed.add(node)
        for other, weight in enumerate(table[node]):
            over = best[node] + weight
            if over < best.get(other, float("inf")):
                best[other], before[other] = over, node
                # an inconsistent bound may find a better way to a closed node
                closed.discard(other)
                heapq.heappush(queue, (over + bound[other], other))
    return []
