"""Hierarchical read: choose the best chunks by their summaries, attend inside them, add up by weight.

    l_j = query . summary_j + bias_j,     J = the k best visible chunks,     w = softmax over J of l
    found_h = sum_{j in J} w_j softmax_c(detail_h . (contents_jc + code_c)) (contents_jc + code_c)

Queries come mapped and scaled, which costs less than mapping every stored item. Fewer than k visible chunks share the
weight; none gives exactly 0. Equal scores go to either chunk, so a caller who cares adds a ``bias``. The choice has no
gradient, everything else has. The kernel reads the rows of the chosen chunks in place and skips chunks of weight 0;
the reference gathers a copy, and what it gathers must be finite.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import inline, run_triton, unsupported_dtype
from embodied_mem.kernels.reference import hcam_read as reference

__all__ = ["hcam_read"]


def hcam_read(
    query: Tensor,
    detail: Tensor,
    summary: Tensor,
    contents: Tensor,
    code: Tensor,
    visible: Tensor,
    k: int,
    bias: Tensor | None = None,
) -> Tensor:
    """Read chunks; the equation is in the module docstring.

    Args:
        query: (B, Q, D) float queries of the summaries, scaled.
        detail: (B, Q, H, D) queries of the contents, scaled.
        summary: (B, N, D) keys of the chunks.
        contents: (B, N, C, D) their items.
        code: (C, D) position inside a chunk, added to every item.
        visible: (B, Q or 1, N) bool, chunks that a query may read.
        k: chunks read, at most N.
        bias: (B, Q or 1, N) float added to the scores, None for none.

    Returns:
        found (B, Q, H, D), dtype of ``detail``; exactly 0 where no chunk is visible.

    Raises:
        ValueError: ranks or shared axes disagree.
    """
    _check(query, detail, summary, contents, code, visible, k, bias)
    visible = visible.expand(-1, query.shape[1], -1)
    index, weight = reference.select(query, summary, visible, bias, k)
    if inline("hcam_read", detail):
        return reference.inside(detail, contents, code, index, weight)
    return torch.ops.embodied_mem.hcam_inside(detail, contents, code, index, weight)


def _check(
    query: Tensor, detail: Tensor, summary: Tensor, contents: Tensor, code: Tensor, visible: Tensor, k: int,
    bias: Tensor | None,
) -> None:  # fmt: skip
    if query.dim() != 3 or contents.dim() != 4 or detail.dim() != 4 or k < 1:
        raise ValueError(
            "expected query (B, Q, D), detail (B, Q, H, D), contents (B, N, C, D) and k >= 1, "
            f"got {tuple(query.shape)}, {tuple(detail.shape)}, {tuple(contents.shape)} and {k}"
        )
    (B, Q, D), (N, C) = query.shape, contents.shape[1:3]
    for name, found, want in (
        ("detail", detail, (B, Q, detail.shape[2], D)),
        ("summary", summary, (B, N, D)),
        ("contents", contents, (B, N, C, D)),
        ("code", code, (C, D)),
        ("visible", visible, (B, 1 if visible.shape[1] == 1 else Q, N)),
        ("bias", bias, (B, 1 if bias is not None and bias.shape[1] == 1 else Q, N)),
    ):
        if found is not None and tuple(found.shape) != want:
            raise ValueError(f"expected {name} of shape {want}, got {tuple(found.shape)}")


_INPUTS = "Tensor detail, Tensor contents, Tensor code, Tensor index, Tensor weight"


@torch.library.custom_op("embodied_mem::hcam_inside", mutates_args=(), schema=f"({_INPUTS}) -> Tensor")
def _op(detail: Tensor, contents: Tensor, code: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    if run_triton("hcam_inside", detail, _unsupported(detail, contents, code, weight)):
        from embodied_mem.kernels.triton_ops import hcam_read as kernel

        return kernel.forward(detail, contents, code, index, weight)
    return reference.forward(detail, contents, code, index, weight)


@_op.register_fake
def _(detail: Tensor, contents: Tensor, code: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    return detail.new_empty(detail.shape)


@torch.library.custom_op(
    "embodied_mem::hcam_inside_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {_INPUTS}, bool want_contents) -> (Tensor, Tensor, Tensor)",
)
def _backward_op(
    grad: Tensor, detail: Tensor, contents: Tensor, code: Tensor, index: Tensor, weight: Tensor, want_contents: bool
) -> tuple[Tensor, Tensor, Tensor]:
    arguments = (grad, detail, contents, code, index, weight, want_contents)
    if run_triton("hcam_inside_backward", detail, _unsupported(detail, contents, code, weight)):
        from embodied_mem.kernels.triton_ops import hcam_read as kernel

        return kernel.backward(*arguments)
    return reference.backward(*arguments)


@_backward_op.register_fake
def _(
    grad: Tensor, detail: Tensor, contents: Tensor, code: Tensor, index: Tensor, weight: Tensor, want_contents: bool
) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float64 if detail.dtype == torch.float64 else torch.float32
    d_contents = detail.new_empty(contents.shape if want_contents else 0, dtype=wide)
    return detail.new_empty(detail.shape), weight.new_empty(weight.shape), d_contents


def _unsupported(detail: Tensor, contents: Tensor, code: Tensor, weight: Tensor) -> str:
    C, D = contents.shape[2:]
    wide = f"chunks of {C} x {D} numbers, above 64 x 256" if C > 64 or D > 256 else ""
    return unsupported_dtype(detail, contents, code, weight) or wide


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    detail, contents, code, index, weight = ctx.saved_tensors
    needs = ctx.needs_input_grad
    d_detail, d_weight, d_contents = torch.ops.embodied_mem.hcam_inside_backward(
        grad, detail, contents, code, index, weight, needs[1] or needs[2]
    )
    d_code = d_contents.sum((0, 1)).to(code.dtype) if needs[2] else None
    return d_detail, d_contents.to(contents.dtype) if needs[1] else None, d_code, None, d_weight


_op.register_autograd(_gradients, setup_context=_save)
