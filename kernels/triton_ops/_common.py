"""Helpers shared by the kernels."""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor

LOWEST_INDEX: tl.constexpr = tl.constexpr(0x7FFFFFFF)


@triton.jit
def ordered_key(score, index):
    """Pack float32 scores with indices into int64 that sort by score, and among equal scores by the lower index."""
    bits = score.to(tl.int32, bitcast=True)
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (bits.to(tl.int64) << 32) | (0x7FFFFFFF - index).to(tl.int64)


def upcast(dtype: torch.dtype) -> bool:
    """Return whether products take float32 operands: float32 inputs, and the interpreter, which has no bfloat16."""
    return dtype == torch.float32 or os.environ.get("TRITON_INTERPRET") == "1"


def last_dense(x: Tensor) -> Tensor:
    """Return ``x`` with the numbers of its last axis side by side."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def tile(size: int, largest: int) -> int:
    """Return a power of two of at least 16 that covers ``size`` or is ``largest``."""
    return min(largest, max(16, triton.next_power_of_2(size)))
