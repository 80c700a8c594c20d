"""Memories that descend a loss during the episode equal a loop that forms every weight and takes gradients by autograd.

The contract itself is in test_contract_*.py.
"""

import math

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.memory.contract import make_memory

H, K, V, C, IN = 2, 5, 5, 4, 6
MEMORY = ("matrix", "mlp")


def build(name, **config):
    torch.manual_seed(0)
    base = {"in_dim": IN, "out_dim": 8, "heads": H, "key_dim": K, "value_dim": V, "chunk": C, "conv": 1, "expansion": 2}
    memory = make_memory(name, **{**base, **config}).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return memory


def regress(memory, x, weights):
    """k (H, K) through one or two matrices per head, with a column of ones where a matrix has a row for it."""
    activation = F.gelu if memory.config.activation == "gelu" else F.silu
    for layer, W in enumerate(weights):
        x = activation(x) if layer else x
        x = x if x.shape[-1] == W.shape[-2] else F.pad(x, (0, 1), value=1.0)
        x = (x.unsqueeze(-2) @ W).squeeze(-2)
    return x


def token_at(memory, x):
    pre, gate, gates = (x @ memory.project + memory.bias).split(memory.sizes, -1)
    token = memory.token(pre, gates, None)
    extra = [] if token.extra is None else list(token.extra.unbind(-1))
    return token, gate, token.log_decay.exp().view(H, 1, 1), token.beta.view(H, 1, 1), extra


def loop(memory, x, resets, loss, effective, frozen=True):
    """One row, token by token: outputs, and the accumulated weights after the last token."""
    outputs, shapes = [], memory.shapes
    for t in range(len(x)):
        token, gate, keep, theta, extra = token_at(memory, x[t])
        if t == 0 or resets[t]:
            starts = [p.detach() for p in memory.starts] or [torch.zeros(s, dtype=x.dtype) for s in shapes]
            A, Z, keep, count = list(starts), [torch.zeros_like(s) for s in starts], torch.ones_like(keep), 0
        if count % C == 0:
            anchor, at_anchor = [a.clone() for a in A], A
        W = [w.detach().requires_grad_() for w in effective(anchor, anchor)]
        prediction = regress(memory, token.k, W)
        error = loss(prediction, token, extra)
        (slope,) = torch.autograd.grad(error.sum(), prediction, retain_graph=True)
        slope = slope / torch.sqrt(1 + slope.square().sum(-1, keepdim=True) / memory.config.clip**2)
        gradients = torch.autograd.grad(prediction, W, slope)
        momentum = extra[0].exp().view(H, 1, 1) if memory.momentum else 0.0
        Z = [momentum * z - theta * g for z, g in zip(Z, gradients)]
        A = [keep * a + z for a, z in zip(A, Z)]
        o = regress(memory, token.q, effective(A, at_anchor if frozen else A))
        outputs.append(memory._write_out(x[t].unsqueeze(0), memory.read(o, gate, token).unsqueeze(0))[0])
        count += 1
    return torch.stack(outputs).detach(), [a.detach() for a in A]


def check(memory, loss, effective=lambda A, anchor: A, frozen=True):
    x, resets = torch.randn(2, 23, IN, dtype=torch.float64), torch.rand(2, 23) < 0.12
    resets[:, 0] = True
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets)
    for row in range(2):
        want, A = loop(memory, x[row], resets[row], loss, effective, frozen)
        assert torch.allclose(y[row], want, rtol=1e-8, atol=1e-9)
        some = {key: value[row : row + 1] for key, value in state.items()}
        kappa = some["kappa"].double()
        lefts, rights = ([some[f"{side}{i}"][0] for i in range(len(A))] for side in ("left", "right"))
        for layer, accumulated in enumerate(A):
            held = kappa[0, :, 0].view(H, 1, 1) * some[f"W{layer}"][0]
            slots = kappa[0, :, -C:].unsqueeze(-1)
            held = held + lefts[layer].transpose(-1, -2) @ (slots * rights[layer])
            if memory.momentum:
                held = held + kappa[0, :, 1].view(H, 1, 1) * some[f"Z{layer}"][0]
            assert torch.allclose(held, accumulated, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", MEMORY)
@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_titans_is_descent_with_momentum_and_forgetting(kind, activation):
    memory = build("titans", memory=kind, activation=activation, learned_init=True, placement="alone", clip=1.0)
    check(memory, lambda prediction, token, extra: (prediction - token.v).square())


@pytest.mark.parametrize("kind", MEMORY)
def test_yaad_is_descent_of_the_huber_loss(kind):
    def loss(prediction, token, extra):
        delta = F.softplus(extra[0]).view(H, 1)
        error = (prediction - token.v).abs()
        return torch.where(error <= delta, error.square() / 2, delta * (error - delta / 2))

    check(build("yaad", memory=kind), loss)


@pytest.mark.parametrize("kind", MEMORY)
def test_moneta_is_descent_of_the_cubed_error_on_weights_of_bounded_fourth_norm(kind):
    def loss(prediction, token, extra):
        error = prediction - token.v
        slope = 3 * torch.tanh(20 * error) * (error.square() + 1e-6)
        return error * slope.detach()

    def effective(A, anchor):
        norms = [a.pow(4).sum((-2, -1), keepdim=True) ** 0.25 for a in anchor]
        return [a / norm**2 for a, norm in zip(A, norms)]

    check(build("moneta", memory=kind, clip=math.inf), loss, effective)


@pytest.mark.parametrize("kind", MEMORY)
def test_memora_is_multiplicative_descent_on_weights_of_constant_sum(kind):
    memory = build("memora", memory=kind, learned_init=True, rate=0.5, max_rate=1.0)

    def effective(A, anchor):
        positive = [a.exp() for a in A]
        return [memory.config.mass * w / w.sum(-2, keepdim=True) for w in positive]

    check(memory, lambda prediction, token, extra: (prediction - token.v).square() / 2, effective, frozen=False)


@pytest.mark.parametrize("kind", MEMORY)
def test_ttt_is_mini_batch_descent_through_norm_and_skip(kind):
    memory = build("ttt", memory=kind)
    x, resets = torch.randn(23, IN, dtype=torch.float64), torch.rand(23) < 0.12
    with torch.no_grad():
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
    gamma, beta = memory.gamma[:, 0].detach(), memory.beta[:, 0].detach()
    outputs = []
    for t in range(len(x)):
        token, gate, _, rate, _ = token_at(memory, x[t])
        if t == 0 or resets[t]:
            W, count = [p.detach() for p in memory.starts], 0
        if count % C == 0:
            anchor, total = [w.clone().requires_grad_() for w in W], [torch.zeros_like(w) for w in W]
        normal = F.layer_norm(regress(memory, token.k, anchor), (V,))
        prediction = token.k[:, :K] + gamma * normal + beta
        loss = (prediction - token.v).square().sum() / 2
        total = [s + rate * g for s, g in zip(total, torch.autograd.grad(loss, anchor))]
        row = (1 / (count % C + 1) + memory.row[count % C]).clamp(min=0)
        W = [(w - row * s).detach() for w, s in zip(anchor, total)]
        o = regress(memory, token.q, W)
        outputs.append(memory._write_out(x[t : t + 1], memory.read(o, gate, token).unsqueeze(0))[0])
        count += 1
    assert torch.allclose(y[0], torch.stack(outputs), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["titans", "ttt", "yaad", "moneta", "memora"])
def test_one_input_over_and_over_stays_bounded(name):
    memory = make_memory(name, in_dim=IN, out_dim=8, heads=1, key_dim=8, value_dim=8)
    with torch.no_grad():
        y, state = memory.sequence(torch.randn(1, 1, IN).expand(2, 800, IN))
    assert y.isfinite().all() and all(value.isfinite().all() for value in state.values())
    assert y.abs().max() < 1e3


def test_bad_config():
    for bad, message in (
        ({"memory": "tree"}, "expected memory to be one of matrix, mlp"),
        ({"activation": "relu"}, "expected activation to be one of gelu, silu"),
        ({"clip": 0.0}, "expected clip > 0"),
        ({"expansion": 0}, "expected expansion >= 1"),
        ({"rate": 2.0}, "expected 0 < rate < max_rate"),
        ({"placement": "beside"}, "expected placement to be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            make_memory("titans", **bad)
    with pytest.raises(ValueError, match="expected value_dim = key_dim"):
        make_memory("ttt", value_dim=7)
