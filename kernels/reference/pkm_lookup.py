"""Plain torch form of `ops.pkm_lookup`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["backward", "gather", "select"]


def select(q: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the best rows (R, H, k) int64 and their scores; shapes as in `ops.pkm_lookup`."""
    if q.dtype in (torch.float16, torch.bfloat16):
        q, keys = q.float(), keys.float()
    n = keys.shape[2]
    scores = torch.einsum("rhsd,hsnd->rhsn", q, keys)
    best, index = scores.topk(k, -1)
    sums = (best[..., 0, :].unsqueeze(-1) + best[..., 1, :].unsqueeze(-2)).flatten(-2)
    rows = (index[..., 0, :].unsqueeze(-1) * n + index[..., 1, :].unsqueeze(-2)).flatten(-2)
    score, at = sums.topk(k, -1)
    return rows.gather(-1, at), score


def gather(values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Return weighted sums of rows, differentiably: values (N, V), index and weight (R, J) -> (R, V)."""
    if values.dtype in (torch.float16, torch.bfloat16):
        return ((values[index].float() * weight.float().unsqueeze(-1)).sum(1)).to(values.dtype)
    return F.embedding_bag(index, values, per_sample_weights=weight, mode="sum")


def backward(grad: Tensor, values: Tensor, index: Tensor, weight: Tensor, want_values: bool) -> tuple[Tensor, Tensor]:
    """Return the gradients of values (empty unless wanted) and weight."""
    wide = torch.float64 if values.dtype == torch.float64 else torch.float32
    grad = grad.to(wide)
    d_weight = torch.einsum("rv,rjv->rj", grad, values[index].to(wide)).to(weight.dtype)
    if not want_values:
        return values.new_empty(0), d_weight
    spread = weight.to(wide).unsqueeze(-1) * grad.unsqueeze(1)
    d_values = torch.zeros_like(values, dtype=wide).index_add_(0, index.flatten(), spread.flatten(0, 1))
    return d_values.to(values.dtype), d_weight
