"""What is special about Lattice; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch

from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.fast_weights import Token

H, M, V, IN = 2, 5, 4, 6


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": IN, "out_dim": 8, "heads": H, "key_dim": M, "value_dim": V, "conv": 1, "chunk": 1}
    return make_memory("lattice", **{**base, **config}).double()


def test_online_form_is_descent_through_the_normalisation():
    memory = build(clip=math.inf)
    x, resets = torch.randn(1, 19, IN, dtype=torch.float64), torch.rand(1, 19) < 0.15
    resets[0, 0] = True
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets)
    outputs = []
    for t in range(19):
        pre, gate, gates = (x[0, t] @ memory.project + memory.bias).split(memory.sizes, -1)
        token = memory.token(pre, gates, None)
        keep = token.log_decay.exp().view(H, 1, 1)
        if t == 0 or resets[0, t]:
            S, keep = memory.starts[0].detach(), torch.ones_like(keep)
        slots = S.clone().requires_grad_()
        decoded = torch.einsum("hm,hmv->hv", token.k, slots / slots.norm(dim=-1, keepdim=True))
        (gradient,) = torch.autograd.grad((decoded - token.v).square().sum() / 2, slots)
        old, written = S, -token.beta.view(H, 1, 1) * gradient
        assert (written * old).sum(-1).abs().max() < 1e-12
        length = old.norm(dim=-1, keepdim=True)
        read = (keep * old + written).detach() / length
        S = (old / length * (keep * length).clamp(min=0.5) + written).detach()
        o = torch.einsum("hm,hmv->hv", token.q, read)
        outputs.append(memory._write_out(x[:, t], memory.read(o, gate, token).unsqueeze(0))[0])
        length = S.norm(dim=-1, keepdim=True)
        S = S * length.clamp(max=10) / length
    assert torch.allclose(y[0], torch.stack(outputs), rtol=1e-8, atol=1e-9)
    assert torch.allclose(state["W0"][0], S, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 4])
def test_writes_only_turn_slots_and_lengthen_them(chunk):
    memory = build(chunk=chunk)
    n, T = 2, 12
    q, k = (torch.rand(n, T, H, M).double().softmax(-1) for _ in range(2))
    token = Token(q, k, torch.randn(n, T, H, V).double(), torch.zeros(n, T, H).double(), torch.ones(n, T, H).double())
    state = memory.initial_state(n)
    with torch.no_grad():
        for t in range(0, T, chunk):
            part = Token(*(value[:, t : t + chunk] for value in token[:5]))
            before = state["W0"]
            _, state = memory.run(part, state, torch.zeros(n, chunk, dtype=torch.bool), None, None, 0)
            added = state["W0"] - before
            assert (added * before).sum(-1).abs().max() < 1e-10
            assert (state["W0"].norm(dim=-1) >= before.norm(dim=-1) - 1e-12).all()


def test_says_that_it_is_a_reconstruction():
    assert "reconstruction" in type(build()).__doc__


def test_bad_config():
    with pytest.raises(ValueError, match="expected memory = matrix"):
        build(memory="mlp")
    with pytest.raises(ValueError, match="expected 0 < rate < 1"):
        build(rate=1.0)
