"""Product-key look-up: the k best of n^2 keys by the k best of each half, and the weighted sum of their values.

    score of row (i, j) = q_1 . key1_i + q_2 . key2_j
    out = sum over heads and the k best rows of softmax(score) values

A key among the k best has both halves among the k best of its set, so only k^2 sums are formed per head: exact. Equal
scores go to either row. The choice has no gradient; queries, keys and values have. The gradient of the values is added
up row by row without atomics, from entries sorted by row.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import pkm_lookup as reference

__all__ = ["Lookup", "pkm_lookup"]


class Lookup(NamedTuple):
    """What a look-up returns."""

    out: Tensor
    """(R, V), dtype of ``values``."""
    rows: Tensor
    """(R, H, k) int64 rows read."""
    score: Tensor
    """(R, H, k) their scores, float32 for half types."""


def pkm_lookup(q: Tensor, keys: Tensor, values: Tensor, k: int) -> Lookup:
    """Look up R inputs in one table.

    Args:
        q: (R, H, 2, d) queries per head and half.
        keys: (H, 2, n, d) sub-keys.
        values: (n * n, V); row ``i * n + j`` belongs to sub-keys i and j.
        k: rows per head, at most n.

    Raises:
        ValueError: ranks or shared axes disagree.

    >>> keys = torch.tensor([[[[1.0], [0.0]], [[0.0], [1.0]]]])
    >>> pkm_lookup(torch.ones(1, 1, 2, 1), keys, torch.arange(4.0).view(4, 1), 1).out.item()
    1.0
    """
    n = keys.shape[2] if keys.dim() == 4 else 0
    if q.dim() != 4 or keys.dim() != 4 or keys.shape != (q.shape[1], 2, n, q.shape[3]) or q.shape[2] != 2:
        raise ValueError(f"expected q (R, H, 2, d) and keys (H, 2, n, d), got {tuple(q.shape)} and {tuple(keys.shape)}")
    if values.dim() != 2 or values.shape[0] != n * n or not 1 <= k <= n:
        raise ValueError(f"expected values ({n * n}, V) and 1 <= k <= {n}, got {tuple(values.shape)} and k = {k}")
    rows, score = reference.select(q, keys, k)
    index, weight = rows.flatten(1), score.softmax(-1).flatten(1).to(values.dtype)
    if inline("pkm_lookup", q):
        out = reference.gather(values, index, weight)
    else:
        out = torch.ops.embodied_mem.pkm_gather(values, index, weight)
    return Lookup(out, rows, score)


@torch.library.custom_op(
    "embodied_mem::pkm_gather", mutates_args=(), schema="(Tensor values, Tensor index, Tensor weight) -> Tensor"
)
def _op(values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    if run_triton("pkm_gather", values, unsupported_dtype(values, weight)):
        from embodied_mem.kernels.triton_ops import pkm_lookup as kernel

        return kernel.gather(values, index, weight)
    return reference.gather(values, index, weight)


@_op.register_fake
def _(values: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    return values.new_empty((index.shape[0], values.shape[1]))


@torch.library.custom_op(
    "embodied_mem::pkm_gather_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor values, Tensor index, Tensor weight, bool want_values) -> (Tensor, Tensor)",
)
def _backward_op(
    grad: Tensor, values: Tensor, index: Tensor, weight: Tensor, want_values: bool
) -> tuple[Tensor, Tensor]:
    if run_triton("pkm_gather_backward", values, unsupported_dtype(values, weight)):
        from embodied_mem.kernels.triton_ops import pkm_lookup as kernel

        return kernel.backward(grad, values, index, weight, want_values)
    return reference.backward(grad, values, index, weight, want_values)


@_backward_op.register_fake
def _(grad: Tensor, values: Tensor, index: Tensor, weight: Tensor, want_values: bool) -> tuple[Tensor, Tensor]:
    return values.new_empty(values.shape if want_values else 0), weight.new_empty(weight.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = ctx.needs_input_grad[0]
    d_values, d_weight = torch.ops.embodied_mem.pkm_gather_backward(grad, *ctx.saved_tensors, wanted)
    return d_values if wanted else None, None, d_weight


_op.register_autograd(_gradients, setup_context=_save)
