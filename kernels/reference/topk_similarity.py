"""Plain torch form of `ops.topk_similarity`: one product, a mask, top-k."""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.kernels.reference._keys import best_exact

__all__ = ["passes", "search"]


def search(
    q: Tensor,
    bank: Tensor,
    k: int,
    group: Tensor | None,
    q_group: Tensor | None,
    time: Tensor | None,
    span: Tensor | None,
    now: Tensor | None,
    apart: int,
) -> tuple[Tensor, Tensor]:
    """Return scores and indices (Q, k); shapes as in `ops.topk_similarity`."""
    if q.dtype in (torch.float16, torch.bfloat16):
        q, bank = q.float(), bank.float()
    keep = passes(group, q_group, time, span, now, apart)
    if keep is None:
        # few queries: the product of the bank with them is the faster order
        return best_exact((bank.detach() @ q.detach().T).T, k)
    scores = q.detach() @ bank.detach().T
    return best_exact(scores.masked_fill_(~keep, -torch.inf), k)


def passes(
    group: Tensor | None,
    q_group: Tensor | None,
    time: Tensor | None,
    span: Tensor | None,
    now: Tensor | None,
    apart: int,
) -> Tensor | None:
    """Return which entries pass the filters of a query, (Q, N) bool; None for all."""
    keep = None
    if group is not None and q_group is not None:
        keep = (q_group.unsqueeze(1) == group).all(-1)
    if time is not None and span is not None:
        inside = (time >= span[:, :1]) & (time <= span[:, 1:])
        keep = inside if keep is None else keep & inside
    if time is not None and now is not None:
        far = (time.long() - now.long().unsqueeze(1)).abs() > apart
        keep = far if keep is None else keep & far
    return keep
