"""Read a key-value memory by the k nearest keys of every query, with a usage per entry (XMem, Cheng and Schwing 2022).

    S_ij = - shrink_i sum_c selection_jc (key_ic - query_jc)^2 / sqrt(C),   W = softmax over the k best i of S_ij
    out_j = sum_i W_ij value_i,   usage_i = sum_j W_ij

over the first ``length`` entries. Equal similarities go to the lower entry; fewer than k entries are read as they are;
an empty memory reads 0. The softmax is stable however far the keys are. Without ``topk`` all entries are read: that is
ordinary attention with features [k^2, k, 1], whose products run in float32, since the square cancels; no usage then.

Gradients reach keys, shrinkage, queries, selection and values; the choice and the usage have none. Values of several
objects stand side by side in V.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import pkm_lookup as sums
from embodied_mem.kernels.reference import similarity_readout as reference

__all__ = ["Readout", "similarity_readout"]


class Readout(NamedTuple):
    """What a read returns."""

    out: Tensor
    """(B, Q, V), dtype of ``value``."""
    usage: Tensor | None
    """(B, N) float32 (float64 for float64) sum of every entry's weights, without gradient; None without ``topk``."""
    indices: Tensor | None
    """(B, Q, topk) int64 entries read, best first, -1 where fewer are held; None without ``topk``."""
    weight: Tensor | None
    """(B, Q, topk) their weights, 0 where there is none; None without ``topk``."""


def similarity_readout(
    key: Tensor,
    query: Tensor,
    value: Tensor,
    topk: int | None = 30,
    *,
    shrink: Tensor | None = None,
    selection: Tensor | None = None,
    length: Tensor | None = None,
) -> Readout:
    """Read a memory; the equation is in the module docstring.

    Args:
        key: (B, N, C) float32, float16 or bfloat16, N < 2^31.
        query: (B, Q, C), dtype of ``key``.
        value: (B, N, V).
        topk: entries read per query, None for all.
        shrink: (B, N) at least 0, None for 1.
        selection: (B, Q, C) at least 0, None for 1.
        length: (B,) int32 entries held, None for N; the others must be finite numbers.

    Raises:
        ValueError: ranks or shared axes disagree.

    >>> key = torch.tensor([[[0.0], [1.0], [5.0]]])
    >>> read = similarity_readout(key, torch.tensor([[[4.0]]]), key, topk=1)
    >>> read.out.item(), read.usage.tolist()
    (5.0, [[0.0, 0.0, 1.0]])
    """
    _check(key, query, value, topk, shrink, selection, length)
    B, N = key.shape[:2]
    if length is None:
        length = torch.full((B,), N, dtype=torch.int32, device=key.device)
    if topk is None:
        return Readout(reference.attend(key, shrink, query, selection, value, length), None, None, None)
    arguments = (key, shrink, query, selection, length, topk)
    plain = inline("similarity_readout", key, traceable=False)
    score, index = reference.top(*arguments) if plain else torch.ops.embodied_mem.similarity_top(*arguments)
    there = index >= 0
    # the best score of a query with nothing to read is -inf, and must not be subtracted from itself
    weight = torch.where(there, torch.where(there, score, 0).masked_fill(~there, -3e38).softmax(-1), 0)
    rows = (index.clamp(min=0) + torch.arange(B, device=key.device).view(B, 1, 1) * N).flatten(0, 1)
    gather = sums.gather if plain else torch.ops.embodied_mem.pkm_gather
    out = gather(value.flatten(0, 1), rows, weight.flatten(0, 1).to(value.dtype)).view(B, query.shape[1], -1)
    flat = weight.detach().flatten(1)
    usage = torch.zeros(B, N, dtype=flat.dtype, device=key.device)
    usage = usage.scatter_add(1, index.clamp(min=0).flatten(1), flat)
    return Readout(out, usage, index, weight)


def _check(
    key: Tensor,
    query: Tensor,
    value: Tensor,
    topk: int | None,
    shrink: Tensor | None,
    selection: Tensor | None,
    length: Tensor | None,
) -> None:
    if key.dim() != 3 or query.dim() != 3 or (query.shape[0], query.shape[2]) != (key.shape[0], key.shape[2]):
        raise ValueError(f"expected key (B, N, C) and query (B, Q, C), got {tuple(key.shape)} and {tuple(query.shape)}")
    if value.dim() != 3 or value.shape[:2] != key.shape[:2] or (topk is not None and topk < 1):
        raise ValueError(
            f"expected value {(*key.shape[:2], 'V')} and topk >= 1 or None, got {tuple(value.shape)} and {topk}"
        )
    for name, found, want in (
        ("shrink", shrink, key.shape[:2]),
        ("selection", selection, query.shape),
        ("length", length, key.shape[:1]),
    ):
        if found is not None and found.shape != want:
            raise ValueError(f"expected {name} of shape {tuple(want)}, got {tuple(found.shape)}")


@torch.library.custom_op(
    "embodied_mem::similarity_top",
    mutates_args=(),
    schema="(Tensor key, Tensor? shrink, Tensor query, Tensor? selection, Tensor length, int k) -> (Tensor, Tensor)",
)
def _op(
    key: Tensor, shrink: Tensor | None, query: Tensor, selection: Tensor | None, length: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    if run_triton("similarity_top", key, unsupported_dtype(key, shrink, query, selection)):
        from embodied_mem.kernels.triton_ops import similarity_readout as kernel

        return kernel.top(key, shrink, query, selection, length, k)
    score, index = reference.top(key, shrink, query, selection, length, k)
    return score.contiguous(), index.contiguous()


@_op.register_fake
def _(
    key: Tensor, shrink: Tensor | None, query: Tensor, selection: Tensor | None, length: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    shape = (*query.shape[:2], k)
    wide = torch.float64 if key.dtype == torch.float64 else torch.float32
    return key.new_empty(shape, dtype=wide), key.new_empty(shape, dtype=torch.int64)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    key, shrink, query, selection, _, _ = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(output[1], key, shrink, query, selection)


def _gradients(ctx: Any, d_score: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    d_key, d_shrink, d_query, d_selection = reference.gradients(d_score, *ctx.saved_tensors)
    return d_key, d_shrink, d_query, d_selection, None, None


_op.register_autograd(_gradients, setup_context=_save)
