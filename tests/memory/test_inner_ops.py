"""Operations with written-out gradients equal their plain expressions, values and gradients."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.memory import inner_ops

N, H, Q, C, K, V = 2, 3, 4, 5, 3, 6


def leaf(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def compare(found, want, leaves):
    """Values, and gradients of a random functional of all outputs."""
    found, want = (x if isinstance(x, tuple) else (x,) for x in (found, want))
    weights = [torch.randn_like(x) for x in want]
    gradients = []
    for outputs in (found, want):
        total = sum((x * w).sum() for x, w in zip(outputs, weights, strict=True))
        gradients.append(torch.autograd.grad(total, leaves))
    for a, b in (*zip(found, want, strict=True), *zip(*gradients, strict=True)):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ["gelu", "silu"])
def test_activation_and_slope(kind):
    torch.manual_seed(0)
    x, plain = leaf(N, H, Q, K), F.gelu if kind == "gelu" else F.silu
    a = plain(x)
    (slope,) = torch.autograd.grad(a.sum(), x, create_graph=True)
    compare(inner_ops.activate(x, kind), (a, slope), [x])


@pytest.mark.parametrize("bias", [0, 1])
def test_through_a_layer(bias):
    torch.manual_seed(0)
    descent, weight, slope = leaf(N, H, Q, V), leaf(N, H, K + bias, V), leaf(N, H, Q, K)
    want = (descent @ weight.transpose(-1, -2))[..., :K] * slope
    compare(inner_ops.through(descent, weight, slope), want, [descent, weight, slope])


@pytest.mark.parametrize("momentum", [False, True])
def test_mix(momentum):
    torch.manual_seed(0)
    first = 2 if momentum else 1
    x, kappa, left, right = leaf(N, H, Q, K), leaf(N, H, Q, first + C), leaf(N, H, C, K), leaf(N, H, C, V)
    W, Z = leaf(N, H, K, V), leaf(N, H, K, V) if momentum else None
    want = kappa[..., :1] * (x @ W) + (kappa[..., first:] * (x @ left.transpose(-1, -2))) @ right
    leaves = [x, kappa, W, left, right]
    if Z is not None:
        want, leaves = want + kappa[..., 1:2] * (x @ Z), [*leaves, Z]
    compare(inner_ops.mix(x, kappa, W, Z, left, right), want, leaves)


@pytest.mark.parametrize("momentum", [False, True])
def test_form(momentum):
    torch.manual_seed(0)
    first = 2 if momentum else 1
    kappa, mu, left, right = leaf(N, H, first + C), leaf(N, H, 1 + C), leaf(N, H, C, K), leaf(N, H, C, V)
    W, Z = leaf(N, H, K, V), leaf(N, H, K, V)
    want = kappa[..., :1, None] * W + left.transpose(-1, -2) @ (kappa[..., first:, None] * right)
    if not momentum:
        formed, nothing = inner_ops.form(kappa, None, W, None, left, right)
        assert nothing is None
        compare(formed, want, [kappa, W, left, right])
        return
    leaves = [kappa, mu, W, Z, left, right]

    def plain():
        momenta = mu[..., :1, None] * Z + left.transpose(-1, -2) @ (mu[..., 1:, None] * right)
        weights = kappa[..., :1, None] * W + left.transpose(-1, -2) @ (kappa[..., first:, None] * right)
        return weights + kappa[..., 1:2, None] * Z, momenta

    def ours():
        return inner_ops.form(kappa, mu, W, Z, left, right)

    compare(ours(), plain(), leaves)
    for i in range(2):
        # the other result is not used
        found, want = (
            torch.autograd.grad(call()[i].sum(), leaves, allow_unused=True, materialize_grads=True)
            for call in (ours, plain)
        )
        for x, y in zip(found, want, strict=True):
            assert torch.allclose(x, y, rtol=1e-9, atol=1e-11)
