"""Linear attention and gated delta rule as the memories call them: over sequences, and one step at a time.

    S'  = where(reset_t, S_init, exp(a_t) S_{t-1})
    S_t = S' + k_t^T v_t                                without ``beta``: decayed linear attention
    S_t = S' + b_t k_t^T (v_t - k_t S')                 with ``beta``: gated delta rule
    o_t = q_t S_t

Sequences are `embodied_mem.kernels.reset_linear_attention`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.kernels import reset_linear_attention, reset_linear_attention_at

__all__ = ["reset_linear_attention", "reset_linear_attention_at", "reset_linear_attention_step"]


def reset_linear_attention_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_decay: Tensor,
    beta: Tensor | None,
    S: Tensor,
    *,
    donate: bool = False,
) -> tuple[Tensor, Tensor]:
    """Advance the recurrence by one token; the caller has already replaced ``S`` in the rows that reset.

    Args:
        q, k: (B, H, K). v: (B, H, V). beta: (B, H) or None. S: (B, H, K, V).
        log_decay: (B, H), or (B, H, K) without ``beta``; 0 in the rows that reset.
        donate: write the new state into ``S``, which must be contiguous and need no gradient.

    Returns:
        o (B, H, V) and the new state (B, H, K, V).
    """
    n, H, K, V = S.shape
    decay = log_decay.exp().reshape(n * H, -1, 1)
    S, q, k, v = S.view(n * H, K, V), q.reshape(n * H, 1, K), k.reshape(n * H, 1, K), v.reshape(n * H, 1, V)
    if beta is not None:
        v = torch.addcmul(v, torch.bmm(k, S), decay, value=-1) * beta.reshape(n * H, 1, 1)
    # the product is ours alone, so the write may go into it
    S = (S.mul_(decay) if donate else S * decay).addcmul_(k.transpose(1, 2), v)
    return torch.bmm(q, S).view(n, H, V), S.view(n, H, K, V)
