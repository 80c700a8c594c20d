"""The k most similar entries of a large bank for every query, exactly, with filters.

    score_ij = q_i . bank_j,    (score, index) of the k best j that pass the filters, highest first, then lower index

For cosines keep unit rows. An entry passes where all of these hold that are given:

* ``group``: its ids equal those of the query (episode, environment, ...);
* ``span``: its time lies in the query's closed range;
* ``apart``: its time is more than ``apart`` steps from the query's ``now``.

Fewer than k matches end in index -1 and score -inf. There is no gradient: inputs that require one raise.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import topk_similarity as reference

__all__ = ["Matches", "topk_similarity"]


class Matches(NamedTuple):
    """The best entries, highest score first."""

    score: Tensor
    """(Q, k) float32 (float64 for float64), -inf where there is none."""
    indices: Tensor
    """(Q, k) int64, -1 where there is none."""


def topk_similarity(
    q: Tensor,
    bank: Tensor,
    k: int,
    *,
    group: Tensor | None = None,
    q_group: Tensor | None = None,
    time: Tensor | None = None,
    span: Tensor | None = None,
    now: Tensor | None = None,
    apart: int = 0,
) -> Matches:
    """Search the bank; filters are in the module docstring.

    Args:
        q: (Q, D) float32, float16 or bfloat16.
        bank: (N, D), dtype of ``q``, N < 2^31.
        k: entries wanted per query.
        group, q_group: (N, G) and (Q, G) int32 ids that must be equal; both or none.
        time: (N,) int32 times of the entries, needed by ``span`` and ``now``.
        span: (Q, 2) int32, first and last time.
        now: (Q,) int32 time of the query, for ``apart``.
        apart: steps; entries at most that far from ``now`` are left out.

    Raises:
        ValueError: shapes or arguments disagree, or an input requires a gradient.

    >>> bank = torch.tensor([[1.0], [3.0], [3.0]])
    >>> topk_similarity(torch.ones(1, 1), bank, 2).indices.tolist()
    [[1, 2]]
    """
    _check(q, bank, k, group, q_group, time, span, now)
    arguments = (q, bank, k, group, q_group, time, span, now, apart)
    if inline("topk_similarity", q, traceable=False):
        return Matches(*reference.search(*arguments))
    return Matches(*torch.ops.embodied_mem.topk_similarity(*arguments))


def _check(
    q: Tensor,
    bank: Tensor,
    k: int,
    group: Tensor | None,
    q_group: Tensor | None,
    time: Tensor | None,
    span: Tensor | None,
    now: Tensor | None,
) -> None:
    if q.dim() != 2 or bank.dim() != 2 or q.shape[1] != bank.shape[1] or q.dtype != bank.dtype or k < 1:
        raise ValueError(
            "expected q (Q, D), bank (N, D) of one dtype and k >= 1, "
            f"got {tuple(q.shape)} {q.dtype}, {tuple(bank.shape)} {bank.dtype} and {k}"
        )
    if (group is None) != (q_group is None) or (time is None) != (span is None and now is None):
        raise ValueError("expected group with q_group, and time with span or now; got one without the other")
    Q, N, ids = len(q), len(bank), 0 if group is None else group.shape[-1]
    for name, found, want in (
        ("group", group, (N, ids)),
        ("q_group", q_group, (Q, ids)),
        ("time", time, (N,)),
        ("span", span, (Q, 2)),
        ("now", now, (Q,)),
    ):
        if found is not None and tuple(found.shape) != want:
            raise ValueError(f"expected {name} of shape {want}, got {tuple(found.shape)}")
    if torch.is_grad_enabled() and (q.requires_grad or bank.requires_grad):
        raise ValueError("expected q and bank without gradient, since a search has none; detach them")


_FILTERS = "Tensor? group, Tensor? q_group, Tensor? time, Tensor? span, Tensor? now, int apart"


@torch.library.custom_op(
    "embodied_mem::topk_similarity",
    mutates_args=(),
    schema=f"(Tensor q, Tensor bank, int k, {_FILTERS}) -> (Tensor, Tensor)",
)
def _op(
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
    _check(q, bank, k, group, q_group, time, span, now)
    if run_triton("topk_similarity", q, unsupported_dtype(q)):
        from embodied_mem.kernels.triton_ops import topk_similarity as kernel

        return kernel.search(q, bank, k, group, q_group, time, span, now, apart)
    return reference.search(q, bank, k, group, q_group, time, span, now, apart)


@_op.register_fake
def _(
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
    _check(q, bank, k, group, q_group, time, span, now)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty((len(q), k), dtype=wide), q.new_empty((len(q), k), dtype=torch.int64)
