"""Weighted k-means over rows, deterministic, in plain torch: two products per iteration are near the roof already.

    label_t = argmin_j |x_t - c_j|^2,   c_j = sum_{label_t = j} w_t x_t / sum_{label_t = j} w_t

The first centroids are rows chosen by the caller, and an empty cluster takes the next row of a list that the caller
passes, so equal calls give equal results. Distances are ``|x|^2 - 2 x.c + |c|^2`` by one product, clamped at 0; equal
ones go to the lower cluster. Labels belong to the centroids that are returned. There is no Triton kernel and no
gradient: the results are detached.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Clusters", "weighted_kmeans"]


class Clusters(NamedTuple):
    """What a clustering returns."""

    centroids: Tensor
    """(B, K, D) float32 (float64 for float64)."""
    weight: Tensor
    """(B, K) summed weights of the members; 0 where a centroid has none."""
    labels: Tensor
    """(B, T) int64 cluster of every row."""


def weighted_kmeans(
    x: Tensor, w: Tensor, init: Tensor, *, iters: int = 10, reseed: Tensor | None = None, tol: float | None = None
) -> Clusters:
    """Cluster T rows of every batch row into K.

    Args:
        x: (B, T, D) float. w: (B, T) weights at least 0; rows of weight 0 are labelled and do not count.
        init: (B, K) int64 rows that are the first centroids.
        iters: iterations at most.
        reseed: (B, R) int64 rows that empty clusters take, the lowest cluster the first of the iteration; None, or
            where there are more empty clusters than R, leaves their centroids as they are.
        tol: stop when the centroids of no batch row moved more than this, by the sum of their distances; looking costs
            a synchronisation per iteration. None runs ``iters``.

    Raises:
        ValueError: shapes disagree, or ``iters`` is below 1.

    >>> x = torch.tensor([[[0.0], [1.0], [9.0], [10.0]]])
    >>> found = weighted_kmeans(x, torch.ones(1, 4), torch.tensor([[0, 1]]))
    >>> found.centroids.flatten().tolist(), found.labels.tolist()
    ([0.5, 9.5], [[0, 0, 1, 1]])
    """
    if x.dim() != 3 or w.shape != x.shape[:2] or init.dim() != 2 or init.shape[0] != x.shape[0] or iters < 1:
        raise ValueError(
            "expected x (B, T, D), w (B, T), init (B, K) and iters >= 1, "
            f"got {tuple(x.shape)}, {tuple(w.shape)}, {tuple(init.shape)} and {iters}"
        )
    if reseed is not None and (reseed.dim() != 2 or reseed.shape[0] != x.shape[0]):
        raise ValueError(f"expected reseed ({x.shape[0]}, R), got {tuple(reseed.shape)}")
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    x, w = x.detach().to(wide), w.detach().to(wide)
    square, c = x.square().sum(-1, keepdim=True), _rows(x, init)
    for _ in range(iters):
        members = _members(x, square, c, w)[1]
        total = members.sum(2)
        new = (members @ x) / torch.where(total > 0, total, 1).unsqueeze(-1)
        empty = total <= 0
        new = torch.where(empty.unsqueeze(-1), c, new)
        if reseed is not None and reseed.shape[1]:
            turn = empty.cumsum(1) - 1
            taken = reseed.gather(1, turn.clamp(0, reseed.shape[1] - 1))
            fresh = empty & (turn < reseed.shape[1])
            new = torch.where(fresh.unsqueeze(-1), _rows(x, taken), new)
        still = tol is not None and bool(((new - c).norm(dim=-1).sum(-1) <= tol).all())
        c = new
        if still:
            break
    labels, members = _members(x, square, c, w)
    return Clusters(c, members.sum(2), labels)


def _rows(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))


def _members(x: Tensor, square: Tensor, c: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels (B, T), and the weights of the members of every cluster (B, K, T)."""
    away = torch.baddbmm(square + c.square().sum(-1).unsqueeze(1), x, c.transpose(1, 2), alpha=-2).clamp_(min=0)
    labels = away.argmin(-1)
    one = torch.arange(c.shape[1], device=x.device).view(1, -1, 1) == labels.unsqueeze(1)
    return labels, one * w.unsqueeze(1)
