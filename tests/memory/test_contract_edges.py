"""A7: short and ragged sequences, all resets, saturated gates, bfloat16 input, autocast."""

from __future__ import annotations

import pytest
import torch

N = 3


@pytest.mark.parametrize("T", [1, 7, 33])
@pytest.mark.parametrize("scale", [0.0, 1.0, 200.0])
@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_a7_finite_and_equal(case, tools, T, scale, rate):
    memory = case.build()
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, rate), tools.leaf(tools.warm(memory, N))
    x = x._replace(x=(x.x * scale).requires_grad_())
    y, after = memory.sequence(x, state, resets, chunk=8)
    with torch.no_grad():
        want, want_after = tools.loop(memory, x, state, resets)
    tools.close(y, want, 1e-10)
    tools.close(after, want_after, 1e-10, "state")
    sources = [x.x, *tools.floats(state), *tools.trained(memory).values()]
    loss = y.square().sum() + sum(value.square().sum() for value in tools.floats(after))
    for gradient in torch.autograd.grad(loss, sources, allow_unused=True):
        assert gradient is None or torch.isfinite(gradient).all()


def test_a7_saturated_float32(case, tools):
    memory = case.build(torch.float32)
    x, resets, state = tools.inputs(memory, N, 33), tools.resets(N, 33, 0.1), tools.warm(memory, N)
    x = x._replace(x=x.x * 200)
    with torch.no_grad():
        y, after = memory.sequence(x, state, resets)
        want, want_after = tools.loop(memory, x, state, resets)
    tools.close(y, want, 1e-4)
    tools.close(after, want_after, 1e-4, "state")


def test_a7_bfloat16_input(case, tools):
    memory = case.build(torch.float32)
    x, resets, state = tools.inputs(memory, N, 33), tools.resets(N, 33, 0.1), tools.warm(memory, N)
    half = x._replace(x=x.x.bfloat16())
    with torch.no_grad():
        y, after = memory.sequence(half, state, resets)
        looped, looped_after = tools.loop(memory, half, state, resets)
        exact, _ = memory.sequence(x, state, resets)
    assert y.dtype == looped.dtype == torch.bfloat16 and torch.isfinite(y).all()
    tools.close(y, looped, 2e-2)
    tools.close(after, looped_after, 2e-2, "state")
    if "hard_write" not in memory.properties:
        tools.close(y.float(), exact, 2e-2)
    assert all(value.dtype == spec.dtype for value, spec in zip(after.values(), memory.state_spec().values()))


def test_a7_autocast_keeps_the_state_in_float32(case, tools):
    memory = case.build(torch.float32)
    x, resets, state = tools.inputs(memory, N, 33), tools.resets(N, 33, 0.1), tools.warm(memory, N)
    with torch.autocast("cpu", torch.bfloat16):
        y, after = memory.sequence(x, state, resets)
        _, stepped = memory.step(tools.at(x, 0), state, resets[:, 0])
    y.float().square().sum().backward()
    spec = memory.state_spec()
    for found in (after, stepped):
        assert {key: value.dtype for key, value in found.items()} == {key: item.dtype for key, item in spec.items()}
    assert torch.isfinite(y).all()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in memory.parameters())
