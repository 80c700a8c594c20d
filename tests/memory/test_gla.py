"""What is special about GLA; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.chunk_core import reset_linear_attention, reset_linear_attention_step
from embodied_mem.memory.contract import make_memory

B, H, K, V = 2, 2, 6, 3


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": H, "key_dim": K, "value_dim": V, "conv": 1}
    return make_memory("gla", **{**base, **config}).double()


def draw(T, rate, seed=0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    inputs = {
        "q": normal(B, T, H, K),
        "k": normal(B, T, H, K),
        "v": normal(B, T, H, V),
        "log_decay": -0.3 * normal(B, T, H, K).abs(),
        "S0": normal(B, H, K, V),
        "S_init": normal(H, K, V),
    }
    return {name: value.requires_grad_() for name, value in inputs.items()}, torch.rand(B, T, generator=g) < rate


def equation(q, k, v, log_decay, *, reset, S0, S_init):
    S, outputs = S0, []
    for t in range(q.shape[1]):
        S = torch.where(reset[:, t, None, None, None], S_init, log_decay[:, t].exp().unsqueeze(-1) * S)
        S = S + k[:, t].unsqueeze(-1) * v[:, t].unsqueeze(-2)
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
    return torch.stack(outputs, 1), S


def relative(found, want):
    return ((found.double() - want).norm() / want.norm().clamp(min=1e-6)).item()


@pytest.mark.parametrize("rate", [0.0, 0.08, 1.0])
@pytest.mark.parametrize(("T", "chunk"), [(1, 16), (7, 4), (40, 16), (50, 64)])
def test_core_with_channel_decays_is_the_equation_in_value_and_gradient(T, chunk, rate):
    inputs, reset = draw(T, rate)
    want = equation(**inputs, reset=reset)
    found = reset_linear_attention(**inputs, reset=reset, chunk=chunk)
    assert max(relative(a, b) for a, b in zip(found, want, strict=True)) < 1e-12
    weights = [torch.randn_like(x) for x in want]
    grads = [
        torch.autograd.grad(
            sum((w * x).sum() for w, x in zip(weights, outputs, strict=True)),
            list(inputs.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        for outputs in (found, want)
    ]
    assert max(relative(a, b) for a, b in zip(*grads, strict=True)) < 1e-10
    single = {name: value.detach().float() for name, value in inputs.items()}
    assert relative(reset_linear_attention(**single, reset=reset, chunk=chunk)[0], want[0]) < 1e-5


@pytest.mark.parametrize("gate", [-200.0, -1e4])
def test_strong_gates_are_finite_and_exact(gate):
    inputs, reset = draw(40, 0.1)
    with torch.no_grad():
        inputs["log_decay"][:, 20, :, ::2] = gate
    single = {name: value.detach().float().requires_grad_() for name, value in inputs.items()}
    o, S = reset_linear_attention(**single, reset=reset)
    assert relative(o, equation(**inputs, reset=reset)[0]) < 1e-5
    grads = torch.autograd.grad(o.sum() + S.sum(), list(single.values()))
    assert all(torch.isfinite(g).all() for g in grads)


def test_channel_equal_gates_are_the_scalar_decay():
    inputs, reset = draw(40, 0.1)
    scalar = inputs["log_decay"][..., 0]
    found = reset_linear_attention(**{**inputs, "log_decay": scalar.unsqueeze(-1).expand(B, 40, H, K)}, reset=reset)
    want = reset_linear_attention(**{**inputs, "log_decay": scalar}, reset=reset)
    assert all(relative(a, b) < 1e-12 for a, b in zip(found, want, strict=True))


def test_delta_rule_with_channel_decays_is_refused():
    inputs, reset = draw(5, 0.0)
    with pytest.raises(ValueError, match="log_decay"):
        reset_linear_attention(**inputs, beta=torch.ones(B, 5, H), reset=reset)


def test_step_is_the_equation():
    inputs, _ = draw(1, 0.0)
    want, S_want = equation(**inputs, reset=torch.zeros(B, 1, dtype=torch.bool))
    token = [inputs[name][:, 0] for name in ("q", "k", "v", "log_decay")]
    o, S = reset_linear_attention_step(*token, None, inputs["S0"])
    assert relative(o, want[:, 0]) < 1e-14 and relative(S, S_want) < 1e-14


def test_memory_is_gated_and_normalised():
    memory = build()
    x = torch.randn(B, 1, 6, dtype=torch.float64)
    with torch.no_grad():
        y, state = memory.sequence(x)
        pre, gate, low = (x[:, 0] @ memory.project + memory.bias).split((H * (2 * K + V), H * V, 16), -1)
        q, k, v = pre.view(B, H, 2 * K + V).split((K, K, V), -1)
        S = k.unsqueeze(-1) * v.unsqueeze(-2)
        assert torch.allclose(state["S"], S)
        o = torch.einsum("bhk,bhkv->bhv", q, S)
        o = o / o.square().mean(-1, keepdim=True).sqrt()
        assert torch.allclose(y[:, 0], x[:, 0] @ memory.skip + (o.flatten(1) * F.silu(gate)) @ memory.out)
        token = memory.token(pre, low, None)
        gates = F.logsigmoid(low @ memory.gate_weight + memory.gate_bias) / 16
        assert torch.allclose(token.log_decay.flatten(1), gates)


def test_channels_start_with_half_lives_spaced_in_the_logarithm():
    memory = build(key_dim=3, shortest_half_life=4.0, longest_half_life=400.0)
    half_life = -math.log(2) * 16 / F.logsigmoid(memory.gate_bias)
    assert torch.allclose(half_life, torch.tensor([4.0, 40.0, 400.0] * H, dtype=torch.float64), rtol=1e-3)


@pytest.mark.parametrize(
    "config", [{"gate_rank": 0}, {"temperature": 0.0}, {"shortest_half_life": 9.0, "longest_half_life": 8.0}]
)
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
