"""Fewer tokens per frame: averages over a grid, or the mean of all."""

from __future__ import annotations

from torch import Tensor, nn

from embodied_mem.errors import UsageError


def grid_pool(tokens: Tensor, grid: tuple[int, int], out: tuple[int, int]) -> Tensor:
    """Return tokens (B, h*w, D) averaged from a grid of patches (B, H*W, D), row-major.

    Args:
        tokens: (B, H*W, D) float.
        grid: H, W of the input.
        out: h, w of the result; each output cell averages the patches that overlap it.

    Raises:
        UsageError: the token count is not H*W, or the result is not smaller than or equal to the input.
    """
    height, width = grid
    if tokens.dim() != 3 or tokens.shape[1] != height * width:
        raise UsageError(f"expected tokens (B, {height}*{width}, D) for this grid, got {tuple(tokens.shape)}")
    if not (1 <= out[0] <= height and 1 <= out[1] <= width):
        raise UsageError(f"expected a pooled grid between 1x1 and {height}x{width}, got {out[0]}x{out[1]}")
    planes = tokens.transpose(1, 2).unflatten(2, grid)
    return nn.functional.adaptive_avg_pool2d(planes, out).flatten(2).transpose(1, 2)


def mean_pool(tokens: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return (B, D): the mean of tokens (B, P, D) where ``valid`` (B, P) bool is True; zeros where none is."""
    if valid is None:
        return tokens.mean(1)
    weight = valid.unsqueeze(-1).to(tokens.dtype)
    return (tokens.masked_fill(~valid.unsqueeze(-1), 0.0)).sum(1) / weight.sum(1).clamp(min=1.0)
