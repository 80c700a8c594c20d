"""What is special about OmegaNet and Atlas; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.memory.atlas_omega import newton_schulz
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.fast_weights import Token

H, C, IN = 2, 4, 6


def build(name="atlas_omega", **config):
    torch.manual_seed(0)
    base = {"in_dim": IN, "out_dim": 8, "heads": H, "key_dim": 3, "value_dim": 5, "chunk": C, "conv": 1}
    memory = make_memory(name, **{**base, **config}).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return memory


@pytest.mark.parametrize("variant,window,degree", [("omega", 3, 2), ("omega", 7, 1), ("atlas", 3, 2), ("atlas", 6, 1)])
def test_sequence_is_descent_on_a_window(variant, window, degree):
    memory = build(variant=variant, window=window, degree=degree, learned_init=True)
    x, resets = torch.randn(23, IN, dtype=torch.float64), torch.rand(23) < 0.12
    resets[0] = True
    with torch.no_grad():
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
    outputs = []
    for t in range(len(x)):
        pre, gate, gates = (x[t] @ memory.project + memory.bias).split(memory.sizes, -1)
        token = memory.token(pre, gates, None)
        gamma, eta, *theta = (value.view(H, 1, 1) for value in token.extra.unbind(-1))
        keep = token.log_decay.exp().view(H, 1, 1)
        if t == 0 or resets[t]:
            W, seen, keep = memory.starts[0].detach(), [], torch.ones_like(keep)
            Z, count = torch.zeros_like(W), 0
        if count % C == 0:
            anchor, kept, base = W.clone().requires_grad_(), torch.ones_like(keep), W
        seen = [*seen, (token.k, token.v, gamma)][-window:]
        total = torch.zeros_like(W)
        for key, value, weight in seen:
            prediction = (key.unsqueeze(-2) @ anchor).squeeze(-2)
            slope = (2 * weight[..., 0] * (prediction - value)).detach()
            slope = slope / torch.sqrt(1 + slope.square().sum(-1, keepdim=True) / memory.config.clip**2)
            total = total + torch.autograd.grad(prediction, anchor, slope)[0]
        kept = keep * kept
        if variant == "omega":
            W = (keep * W - eta * total).detach()
        else:
            Z = (theta[0].exp() * Z - total).detach()
            W = (kept * base).detach()
        o = (token.q.unsqueeze(-2) @ W).squeeze(-2)
        outputs.append(memory._write_out(x[t : t + 1], memory.read(o, gate, token).unsqueeze(0))[0])
        count += 1
        if variant == "atlas" and count % C == 0:
            W = (W + eta * newton_schulz(Z)).detach()
    assert torch.allclose(y[0], torch.stack(outputs), rtol=1e-8, atol=1e-9)


def test_a_window_of_one_with_plain_keys_is_titans_without_momentum():
    omega = build(window=1, degree=1, learned_init=True, clip=math.inf)
    titans = build("titans", placement="alone", learned_init=True, clip=math.inf)
    with torch.no_grad():
        titans.starts[0].copy_(omega.starts[0])
    n, T = 2, 15
    q, k, v = (torch.randn(n, T, H, d, dtype=torch.float64) for d in (3, 3, 5))
    keep, eta, gamma = -torch.rand(n, T, H).double(), torch.rand(n, T, H).double(), torch.rand(n, T, H).double()
    off = torch.full((n, T, H, 1), -60.0, dtype=torch.float64)
    resets = torch.rand(n, T) < 0.1
    ones = torch.ones_like(eta)
    with torch.no_grad():
        token = Token(q, k, v, keep, ones, torch.stack([gamma, eta], -1))
        o, _ = omega.run(token, omega.initial_state(n), resets, None, None, 0)
        token = Token(q, k, v, keep, eta * gamma, off)
        want, _ = titans.run(token, titans.initial_state(n), resets, None, None, 0)
    assert torch.allclose(o, want, rtol=1e-9, atol=1e-12)


def test_features_are_a_polynomial_kernel():
    memory = build(key_dim=4)
    x, z = torch.randn(2, 5, 4, dtype=torch.float64)
    a1, a2 = memory.features.detach()
    upper = torch.ones(4, 4).triu().double()
    squares = ((x.unsqueeze(-1) * x.unsqueeze(-2)) * (z.unsqueeze(-1) * z.unsqueeze(-2)) * upper).sum((-2, -1))
    want = 1 + a1**2 * (x * z).sum(-1) + a2**2 * squares
    assert torch.allclose((memory.phi(x) * memory.phi(z)).sum(-1), want)
    assert memory.phi(x).shape[-1] == 1 + 4 + 10


@pytest.mark.parametrize("shape", [(3, 6, 9), (2, 9, 6)])
def test_newton_schulz_brings_singular_values_near_one(shape):
    Z = F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(0)), dim=-1) * 100
    values = torch.linalg.svdvals(newton_schulz(Z))
    assert values.min() > 0.6 and values.max() < 1.3
    assert not newton_schulz(torch.zeros(shape)).any()


def test_bad_config():
    for bad, message in (
        ({"variant": "titan"}, "expected variant to be one of omega, atlas"),
        ({"memory": "mlp"}, "expected memory = matrix"),
        ({"degree": 3}, "degree 1 or 2"),
        ({"rate": 0.5}, "expected 0 < rate < max_rate"),
    ):
        with pytest.raises(ValueError, match=message):
            make_memory("atlas_omega", **bad)
