from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.kernels.reference.reset_scan import _by_doubling, _by_loop
from embodied_mem.memory.scan import linear_scan


def drawn(T, seed, rate=0.2, dtype=torch.float64, extra=()):
    g = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(3, T, 2, *extra, generator=g, dtype=dtype) for _ in range(2))
    h0 = torch.randn(3, 2, *extra, generator=g, dtype=dtype)
    return a, b, torch.rand(3, T, generator=g) < rate, h0


def loop(a, b, resets, h):
    out = []
    for t in range(a.shape[1]):
        reset = resets[:, t].view(-1, *[1] * (h.dim() - 1))
        h = torch.where(reset, b[:, t], a[:, t] * h + b[:, t])
        out.append(h)
    return torch.stack(out, 1)


@given(st.integers(1, 40), st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 1.0]))
@settings(max_examples=50, deadline=None)
def test_both_ways_equal_the_recurrence(T, seed, rate):
    a, b, resets, h0 = drawn(T, seed, rate)
    want = loop(a, b, resets, h0)
    for found in (linear_scan(a, b, resets, h0), _by_doubling(a, b, resets, h0)):
        assert float((found - want).norm() / want.norm()) < 1e-12
    if rate == 0:
        assert torch.equal(linear_scan(a, b, None, h0), linear_scan(a, b, resets, h0))


@pytest.mark.parametrize("backend", ["loop", "doubling"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_gradients(backend, rate, monkeypatch):
    if backend == "doubling":
        monkeypatch.setattr(
            "embodied_mem.kernels.reference.reset_scan._by_loop",
            lambda a, b, r, h, reverse: (
                _by_doubling(a.flip(1), b.flip(1), None if r is None else r.flip(1), h).flip(1)
                if reverse
                else _by_doubling(a, b, r, h)
            ),
        )
    a, b, resets, h0 = drawn(9, 1, rate)
    inputs = [value.requires_grad_() for value in (a, b, h0)]
    assert torch.autograd.gradcheck(lambda a, b, h0: linear_scan(a, b, resets, h0), inputs)


def test_paired_equals_complex():
    a, b, resets, h0 = (v.requires_grad_() if v.is_floating_point() else v for v in drawn(7, 2, extra=(2,)))
    assert torch.autograd.gradcheck(lambda a, b, h0: linear_scan(a, b, resets, h0, paired=True), [a, b, h0])
    as_complex = [torch.view_as_complex(value.detach()) for value in (a, b, h0)]
    want = loop(as_complex[0], as_complex[1], resets, as_complex[2])
    found = torch.view_as_complex(linear_scan(a, b, resets, h0, paired=True))
    assert torch.allclose(found, want, rtol=1e-12)


@pytest.mark.parametrize("run", [lambda *x: _by_loop(*x, False), _by_doubling], ids=["loop", "doubling"])
def test_nan_stays_in_its_episode(run):
    a, b, resets, h0 = drawn(12, 3, 0.0)
    resets[:, 6] = True
    want = loop(a, b, resets, h0)
    b[1, 2], a[0, 3], h0[2] = float("nan"), float("inf"), float("nan")
    found = run(a, b, resets, h0)
    assert torch.allclose(found[:, 6:], want[:, 6:], rtol=1e-12)
    assert torch.isnan(found[1, 2:6]).all() and torch.isnan(found[2, :6]).all()


def test_gradient_of_a_clean_episode_is_clean_and_crosses_nothing():
    a, b, resets, h0 = drawn(12, 3, 0.0)
    resets[:, 6] = True
    b[1, 2] = float("nan")
    inputs = [value.requires_grad_() for value in (a, b, h0)]
    linear_scan(a, b, resets, h0)[:, 6:].square().sum().backward()
    for value in (a, b):
        assert not value.grad[[0, 2], :6].any() and torch.isfinite(value.grad[:, 6:]).all()
        assert value.grad[:, 7:].any()
    assert not inputs[2].grad.any() and not a.grad[:, 6].any()


def test_no_second_derivative_is_said_clearly():
    a, b, resets, h0 = (v.requires_grad_() if v.is_floating_point() else v for v in drawn(4, 0))
    (first,) = torch.autograd.grad(linear_scan(a, b, resets, h0).square().sum(), a, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_shapes_are_checked():
    a, b, resets, h0 = drawn(4, 0)
    with pytest.raises(ValueError, match="expected a, x"):
        linear_scan(a, b[:, :3], resets, h0)
    with pytest.raises(ValueError, match="expected reset "):
        linear_scan(a, b, resets[:, :3], h0)
