"""Plain torch form of `ops.hcam_read`."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["backward", "forward", "inside", "select"]

# Queries whose chunks are gathered at once: k * C * D numbers each.
_GATHERED = 32


def select(query: Tensor, summary: Tensor, visible: Tensor, bias: Tensor | None, k: int) -> tuple[Tensor, Tensor]:
    """Return the best chunks of every query (B, Q, k) int64 and their weights, 0 where a chunk is not visible."""
    logits = query @ summary.transpose(1, 2)
    if bias is not None:
        logits = logits + bias
    # the lowest finite score instead of -inf: where nothing is visible there are weights, masked below
    logits = logits.masked_fill(~visible, torch.finfo(logits.dtype).min)
    best, index = logits.topk(min(k, summary.shape[1]), -1)
    return index, torch.where(visible.any(-1, keepdim=True), best.softmax(-1), 0)


def inside(detail: Tensor, contents: Tensor, code: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Attend inside the chosen chunks and add up by weight, differentiably; shapes as in `ops.hcam_read`."""
    kept = detail.dtype
    if kept in (torch.float16, torch.bfloat16):
        detail, contents, code, weight = detail.float(), contents.float(), code.float(), weight.float()
    B, Q, _, D = detail.shape
    (N, C), k = contents.shape[1:3], index.shape[-1]
    first = torch.arange(B, device=index.device).view(B, 1, 1) * N
    chunks = contents.flatten(0, 1).flatten(1)
    found = []
    for start in range(0, Q, _GATHERED):
        at = slice(start, start + _GATHERED)
        q, picks = detail[:, at], index[:, at]
        items = chunks.index_select(0, (picks + first).flatten()).view(B, q.shape[1], k * C, D)
        scores = (q @ items.transpose(2, 3)).unflatten(3, (k, -1)) + (q @ code.T).unsqueeze(3)
        shares = scores.softmax(-1) * weight[:, at].unsqueeze(2).unsqueeze(4)
        found.append(shares.flatten(3) @ items + shares.sum(3) @ code)
    return (found[0] if len(found) == 1 else torch.cat(found, 1)).to(kept)


def forward(detail: Tensor, contents: Tensor, code: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """As `inside`, for the registered operator."""
    return inside(detail, contents, code, index, weight).contiguous()


def backward(
    grad: Tensor, detail: Tensor, contents: Tensor, code: Tensor, index: Tensor, weight: Tensor, want_contents: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of detail, weight and, in float32, of contents with the code added (empty unless wanted)."""
    kept = detail.dtype
    wide = torch.float64 if kept == torch.float64 else torch.float32
    grad, detail, contents, code, share = (z.to(wide) for z in (grad, detail, contents, code, weight))
    B, Q, _, D = detail.shape
    C, k = contents.shape[2], index.shape[-1]
    rows = index.flatten(1).view(B, -1, 1, 1).expand(-1, -1, C, D)
    items = contents.gather(1, rows).view(B, Q, k, C, D) + code
    inner = torch.einsum("bqhd,bqkcd->bqhkc", detail, items).softmax(-1)
    d_inner = torch.einsum("bqhd,bqkcd->bqhkc", grad, items)
    mean = (d_inner * inner).sum(-1)
    spread = share.unsqueeze(2).unsqueeze(-1)
    d_scores = spread * inner * (d_inner - mean.unsqueeze(-1))
    d_detail = torch.einsum("bqhkc,bqkcd->bqhd", d_scores, items)
    d_contents = grad.new_empty(0)
    if want_contents:
        d_items = torch.einsum("bqhkc,bqhd->bqkcd", d_scores, detail)
        d_items = d_items + torch.einsum("bqhkc,bqhd->bqkcd", spread * inner, grad)
        d_contents = torch.zeros_like(contents).scatter_add(1, rows, d_items.flatten(1, 2))
    return d_detail.to(kept).contiguous(), mean.sum(2).to(weight.dtype).contiguous(), d_contents
