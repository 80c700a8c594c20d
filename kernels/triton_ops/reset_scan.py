"""Triton kernels of `ops.reset_scan`: one program per row and block of channels, sequential in time.

A program loads UNROLL steps before it uses the first, so that many loads are in flight; the recurrence itself is a
handful of registers. ``PAIRED`` channels are complex numbers as (real, imaginary) pairs. The gates come with their own
strides over rows and time, so a constant gate (an expanded view) is read from cache instead of from memory.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# one 16-byte load per thread and step for the 32 threads of a program
BLOCK_BYTES = 512
UNROLL = {4: 8, 2: 4}
"""Steps in flight, by the bytes of a number."""


@triton.jit
def _load(pointer, c, keep, PAIRED: tl.constexpr):
    """Return (real, imaginary) of a block of channels in float32; the second is 0 for real numbers."""
    values = tl.load(pointer + c, mask=keep, other=0.0).to(tl.float32)
    if PAIRED:
        half: tl.constexpr = c.shape[0] // 2
        re, im = tl.split(tl.reshape(values, (half, 2)))
    else:
        re = values
        im = tl.zeros_like(values)
    return re, im


@triton.jit
def _store(pointer, c, keep, re, im, PAIRED: tl.constexpr):
    values = re
    if PAIRED:
        values = tl.reshape(tl.join(re, im), (c.shape[0],))
    tl.store(pointer + c, values.to(pointer.dtype.element_ty), mask=keep)


@triton.jit
def _product(a, b, PAIRED: tl.constexpr):
    if PAIRED:
        re = a[0] * b[0] - a[1] * b[1]
        im = a[0] * b[1] + a[1] * b[0]
    else:
        re = a[0] * b[0]
        im = a[1]
    return re, im


@triton.jit
def _conjugate_product(a, b, PAIRED: tl.constexpr):
    """``conj(a) * b``."""
    if PAIRED:
        re = a[0] * b[0] + a[1] * b[1]
        im = a[0] * b[1] - a[1] * b[0]
    else:
        re = a[0] * b[0]
        im = a[1]
    return re, im


@triton.jit
def forward_kernel(
    a, x, reset, h0, h_init, h, T, C, a_row, a_step,
    HAS_RESET: tl.constexpr, HAS_INIT: tl.constexpr, PAIRED: tl.constexpr, BLOCK: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """``h_t = where(reset_t, h_init, a_t h_{t-1}) + x_t``; grid (B, blocks of channels)."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    keep = c < C
    step = tl.full((), C, tl.int64)
    a_step = tl.full((), a_step, tl.int64)
    x += b * T * step
    h += b * T * step
    a += b * a_row
    reset += b * T
    state = _load(h0 + b * step, c, keep, PAIRED)
    first = (tl.zeros_like(state[0]), tl.zeros_like(state[0]))
    if HAS_INIT:
        first = _load(h_init, c, keep, PAIRED)
    for t0 in range(0, T, UNROLL):
        gates, inputs, flags = (), (), ()
        for i in tl.static_range(UNROLL):
            inside = keep & (t0 + i < T)
            gates = gates + (_load(a + (t0 + i) * a_step, c, inside, PAIRED),)
            inputs = inputs + (_load(x + (t0 + i) * step, c, inside, PAIRED),)
            if HAS_RESET:
                flags = flags + (tl.load(reset + t0 + i, mask=t0 + i < T, other=0),)
        for i in tl.static_range(UNROLL):
            kept = _product(gates[i], state, PAIRED)
            if HAS_RESET:
                opens = flags[i] != 0
                kept = (tl.where(opens, first[0], kept[0]), tl.where(opens, first[1], kept[1]))
            state = (kept[0] + inputs[i][0], kept[1] + inputs[i][1])
            _store(h + (t0 + i) * step, c, keep & (t0 + i < T), state[0], state[1], PAIRED)


@triton.jit
def backward_kernel(
    grad, a, h, reset, h0, dx, da, dh0, T, C, a_row, a_step,
    HAS_RESET: tl.constexpr, WANT_A: tl.constexpr, PAIRED: tl.constexpr, BLOCK: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """The recurrence backwards; ``carry`` is what step t hands to h_{t-1}."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    keep = c < C
    step = tl.full((), C, tl.int64)
    a_step = tl.full((), a_step, tl.int64)
    grad += b * T * step
    h += b * T * step
    dx += b * T * step
    da += b * T * step
    a += b * a_row
    reset += b * T
    start = _load(h0 + b * step, c, keep, PAIRED)
    carry = (tl.zeros_like(start[0]), tl.zeros_like(start[0]))
    for back in range(0, T, UNROLL):
        gates, inputs, flags, before = (), (), (), ()
        for i in tl.static_range(UNROLL):
            t = T - 1 - back - i
            inside = keep & (t >= 0)
            gates = gates + (_load(a + t * a_step, c, inside, PAIRED),)
            inputs = inputs + (_load(grad + t * step, c, inside, PAIRED),)
            if HAS_RESET:
                flags = flags + (tl.load(reset + t, mask=t >= 0, other=0),)
            if WANT_A:
                before = before + (_load(h + (t - 1) * step, c, keep & (t >= 1), PAIRED),)
        for i in tl.static_range(UNROLL):
            t = T - 1 - back - i
            real = t >= 0
            g = (inputs[i][0] + carry[0], inputs[i][1] + carry[1])
            handed = _conjugate_product(gates[i], g, PAIRED)
            opens = t < 0
            if HAS_RESET:
                opens = flags[i] != 0
            stopped = (tl.where(opens, 0.0, handed[0]), tl.where(opens, 0.0, handed[1]))
            # steps before the first leave the carry, which is the gradient of h0
            carry = (tl.where(real, stopped[0], carry[0]), tl.where(real, stopped[1], carry[1]))
            _store(dx + t * step, c, keep & real, g[0], g[1], PAIRED)
            if WANT_A:
                last = (tl.where(t == 0, start[0], before[i][0]), tl.where(t == 0, start[1], before[i][1]))
                change = _conjugate_product(last, g, PAIRED)
                change = (tl.where(opens, 0.0, change[0]), tl.where(opens, 0.0, change[1]))
                _store(da + t * step, c, keep & real, change[0], change[1], PAIRED)
    _store(dh0 + b * step, c, keep, carry[0], carry[1], PAIRED)


def block_of(width: int, itemsize: int) -> int:
    """Return the numbers per program for ``width`` numbers per step."""
    return min(BLOCK_BYTES // itemsize, max(32, triton.next_power_of_2(width)))


def _flat(x: Tensor, paired: bool) -> Tensor:
    """(B, T, C[, 2]) -> (B, T, numbers) with the numbers of a step side by side; rows and steps keep their strides."""
    x = x.flatten(2) if paired else x
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def forward(a: Tensor, x: Tensor, reset: Tensor | None, h0: Tensor, h_init: Tensor | None, paired: bool) -> Tensor:
    """Launch; shapes as in `ops.reset_scan`."""
    h = torch.empty_like(x, memory_format=torch.contiguous_format)
    a, x, h0 = _flat(a, paired), x.contiguous(), h0.contiguous()
    (B, T, width), unroll = a.shape, UNROLL[x.element_size()]
    block = block_of(width, x.element_size())
    flags = None if reset is None else reset.contiguous().view(torch.uint8)
    start = None if h_init is None else h_init.contiguous()
    forward_kernel[(B, triton.cdiv(width, block))](
        a, x, x if flags is None else flags, h0, x if start is None else start, h, T, width, a.stride(0), a.stride(1),
        HAS_RESET=flags is not None, HAS_INIT=start is not None, PAIRED=paired, BLOCK=block, UNROLL=unroll,
        num_warps=1,
    )  # fmt: skip
    return h


def backward(
    grad: Tensor, a: Tensor, h: Tensor, reset: Tensor | None, h0: Tensor, paired: bool, want_a: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch; returns dx, da (empty unless wanted) and dh0."""
    dx, dh0 = (torch.empty_like(z, memory_format=torch.contiguous_format) for z in (grad, h0))
    da = torch.empty_like(dx) if want_a else dx.new_empty(0)
    a, grad, h, h0 = _flat(a, paired), grad.contiguous(), h.contiguous(), h0.contiguous()
    (B, T, width), unroll = a.shape, UNROLL[grad.element_size()] // 2
    block = block_of(width, grad.element_size())
    flags = None if reset is None else reset.contiguous().view(torch.uint8)
    backward_kernel[(B, triton.cdiv(width, block))](
        grad, a, h, grad if flags is None else flags, h0, dx, da, dh0, T, width, a.stride(0), a.stride(1),
        HAS_RESET=flags is not None, WANT_A=want_a, PAIRED=paired, BLOCK=block, UNROLL=unroll, num_warps=1,
    )  # fmt: skip
    return dx, da, dh0
