"""Attention over a bank of slots of which the first ``length`` hold something.

    s_j = scale * q . (k_j + pe[ts_j]),   out = sum_j softmax(s)_j v_j   over the slots held (and ``valid``)

Slots may lie in any order (a ring): attention does not see the order, and time enters through ``ts`` alone. Values
carry
no code. An empty memory reads exactly 0 with log-sum-exp -inf. ``topk`` attends to the best slots only: exact, equal
scores go to the lower slot. A slot may hold several tokens (``tokens_per_slot``), which share its time.

What lies beyond ``length`` is never read by the kernel, and masked by the reference unless the caller promises that it
is ``finite``. The choice of ``topk`` has no gradient; what is read from the chosen slots has.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import bank_read as reference

__all__ = ["BankRead", "bank_read"]


class BankRead(NamedTuple):
    """What a read returns."""

    out: Tensor
    """(B, Q, H, d), dtype of ``q``."""
    lse: Tensor | None
    """(B, Q, H) log of the sum of exponentials, float32 (float64 for float64), -inf where nothing is held."""
    indices: Tensor | None = None
    """(B, Q, H, topk) int64 keys chosen, -1 where fewer are visible; None without ``topk``."""
    weight: Tensor | None = None
    """(B, Q, H, topk) their weights; None without ``topk``."""


def bank_read(
    q: Tensor,
    k_bank: Tensor,
    v_bank: Tensor,
    length: Tensor,
    ts: Tensor | None = None,
    pe: Tensor | None = None,
    topk: int | None = None,
    scale: float | None = None,
    *,
    valid: Tensor | None = None,
    tokens_per_slot: int = 1,
    finite: bool = False,
    with_lse: bool = True,
) -> BankRead:
    """Read a bank; the equation is in the module docstring.

    Args:
        q: (B, Q, H, d) float32, float16 or bfloat16.
        k_bank, v_bank: (B, M * tokens_per_slot, H, d), dtype of ``q``.
        length: (B,) int32, slots held.
        ts: (B, M) int32, row of ``pe`` of every slot; what an empty slot says does not count.
        pe: (P, H, d) codes added to keys; with ``ts`` or not at all.
        topk: keys to attend to, None for all.
        scale: of the scores, None for ``d ** -0.5``.
        valid: (B, Q or 1, M) bool, slots that a query may see, None for all that are held.
        tokens_per_slot: keys per slot.
        finite: the caller promises that empty slots hold finite numbers, so the reference need not mask them.
        with_lse: return the log-sum-exp; False saves the reference a pass.

    Raises:
        ValueError: ranks or shared axes disagree.

    >>> bank = torch.tensor([[[[1.0]], [[2.0]], [[float("nan")]]]])
    >>> bank_read(torch.zeros(1, 1, 1, 1), bank, bank, torch.tensor([2])).out.item()
    1.5
    """
    _check(q, k_bank, v_bank, length, ts, pe, valid, tokens_per_slot, topk)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    plain = inline("bank_read", q)
    arguments = (length, ts, pe, valid, scale, tokens_per_slot)
    if topk is None:
        if plain:
            return BankRead(*reference.read(q, k_bank, v_bank, *arguments, finite=finite, with_lse=with_lse))
        return BankRead(*torch.ops.embodied_mem.bank_read(q, k_bank, v_bank, *arguments))
    choose = reference.top if plain else torch.ops.embodied_mem.bank_top
    with torch.no_grad():
        index = choose(q.detach(), k_bank.detach(), *arguments, topk)
    out, lse, weight = reference.read_selected(q, k_bank, v_bank, index, ts, pe, scale, tokens_per_slot)
    return BankRead(out, lse, index, weight)


def _check(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    tokens: int,
    topk: int | None = None,
) -> None:
    if q.dim() != 4 or k.dim() != 4 or k.shape != v.shape or (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        raise ValueError(
            "expected q (B, Q, H, d) and banks (B, M * tokens_per_slot, H, d), "
            f"got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    if tokens < 1 or k.shape[1] % tokens or (topk is not None and topk < 1):
        raise ValueError(
            f"expected topk >= 1 and tokens_per_slot >= 1 that divides {k.shape[1]}, got {topk} and {tokens}"
        )
    B, Q, slots = q.shape[0], q.shape[1], k.shape[1] // tokens
    if (ts is None) != (pe is None):
        raise ValueError("expected ts and pe together, got one of them")
    for name, found, want in (
        ("length", length, (B,)),
        ("ts", ts, (B, slots)),
        ("pe", pe, (0 if pe is None else pe.shape[0], *q.shape[2:])),
        ("valid", valid, (B, 1 if valid is not None and valid.shape[1] == 1 else Q, slots)),
    ):
        if found is not None and tuple(found.shape) != want:
            raise ValueError(f"expected {name} of shape {want}, got {tuple(found.shape)}")


_TAIL = "Tensor length, Tensor? ts, Tensor? pe, Tensor? valid, float scale, int tokens"


@torch.library.custom_op(
    "embodied_mem::bank_read",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {_TAIL}) -> (Tensor, Tensor)",
)
def _op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
) -> tuple[Tensor, Tensor]:
    _check(q, k, v, length, ts, pe, valid, tokens)
    if run_triton("bank_read", q, _unsupported(q, k, v, pe)):
        from embodied_mem.kernels.triton_ops import bank_read as kernel

        return kernel.forward(q, k, v, length, ts, pe, valid, scale, tokens)
    return reference.forward(q, k, v, length, ts, pe, valid, scale, tokens)


@_op.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
) -> tuple[Tensor, Tensor]:
    _check(q, k, v, length, ts, pe, valid, tokens)
    return q.new_empty(q.shape), q.new_empty(q.shape[:3], dtype=_wide(q))


@torch.library.custom_op(
    "embodied_mem::bank_read_backward",
    mutates_args=(),
    schema="(Tensor d_out, Tensor d_lse, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    f"{_TAIL}) -> (Tensor, Tensor, Tensor)",
)
def _backward_op(
    d_out: Tensor,
    d_lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
) -> tuple[Tensor, Tensor, Tensor]:
    arguments = (d_out, d_lse, q, k, v, out, lse, length, ts, pe, valid, scale, tokens)
    if run_triton("bank_read_backward", q, _unsupported(q, k, v, pe)):
        from embodied_mem.kernels.triton_ops import bank_read as kernel

        return kernel.backward(*arguments)
    return reference.backward(*arguments)


@_backward_op.register_fake
def _(
    d_out: Tensor,
    d_lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
) -> tuple[Tensor, Tensor, Tensor]:
    dk = k.new_empty(k.shape, dtype=k.dtype if pe is None else _wide(k))
    return q.new_empty(q.shape), dk, v.new_empty(v.shape)


@torch.library.custom_op(
    "embodied_mem::bank_top",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, {_TAIL}, int topk) -> Tensor",
)
def _top_op(
    q: Tensor,
    k: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
    topk: int,
) -> Tensor:
    if run_triton("bank_top", q, _unsupported(q, k, pe)):
        from embodied_mem.kernels.triton_ops import bank_read as kernel

        return kernel.top(q, k, length, ts, pe, valid, scale, tokens, topk)
    return reference.top(q, k, length, ts, pe, valid, scale, tokens, topk)


@_top_op.register_fake
def _(
    q: Tensor,
    k: Tensor,
    length: Tensor,
    ts: Tensor | None,
    pe: Tensor | None,
    valid: Tensor | None,
    scale: float,
    tokens: int,
    topk: int,
) -> Tensor:
    return q.new_empty((*q.shape[:3], topk), dtype=torch.int64)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _unsupported(*tensors: Tensor | None) -> str:
    first = tensors[0]
    assert first is not None
    kinds = {z.dtype for z in tensors if z is not None}
    if len(kinds) > 1:
        return f"mixed dtypes {sorted(str(kind) for kind in kinds)}"
    return unsupported_dtype(first) or (f"head dim {first.shape[-1]} > 256" if first.shape[-1] > 256 else "")


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, length, ts, pe, valid, scale, tokens = inputs
    ctx.save_for_backward(q, k, v, *output, length, ts, pe, valid)
    ctx.scale, ctx.tokens = scale, tokens


def _gradients(ctx: Any, d_out: Tensor, d_lse: Tensor) -> tuple[Tensor | None, ...]:
    q, k, v, out, lse, length, ts, pe, valid = ctx.saved_tensors
    dq, dk, dv = torch.ops.embodied_mem.bank_read_backward(
        d_out, d_lse, q, k, v, out, lse, length, ts, pe, valid, ctx.scale, ctx.tokens
    )
    d_pe = None
    if pe is not None and ctx.needs_input_grad[5]:
        by_slot = dk.unflatten(1, (-1, ctx.tokens)).sum(2)
        slots = torch.arange(ts.shape[1], device=ts.device)
        at = torch.where(slots < length.unsqueeze(1), ts, 0).flatten()
        d_pe = torch.zeros_like(pe, dtype=dk.dtype).index_add(0, at, by_slot.flatten(0, 1)).to(pe.dtype)
    return dq, dk.to(k.dtype), dv, None, None, d_pe, None, None, None


_op.register_autograd(_gradients, setup_context=_save)
