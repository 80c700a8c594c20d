"""The chunk-parallel recurrence against the equation itself, in float64, step by step."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.memory.chunk_core import reset_linear_attention, reset_linear_attention_step

B, H, K, V = 2, 2, 8, 5


def draw(T, rate, seed=0):
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    inputs = {
        "q": normal(B, T, H, K),
        "k": F.normalize(normal(B, T, H, K), dim=-1),
        "v": normal(B, T, H, V),
        "log_decay": -0.3 * normal(B, T, H).abs(),
        "beta": normal(B, T, H).sigmoid(),
        "S0": normal(B, H, K, V),
        "S_init": normal(H, K, V),
    }
    reset = torch.rand(B, T, generator=g) < rate
    return {name: value.requires_grad_() for name, value in inputs.items()}, reset


def equation(q, k, v, log_decay, beta=None, *, reset, S0, S_init=None):
    """The step equations of the module docstring, one token at a time."""
    S, outputs = S0, []
    for t in range(q.shape[1]):
        decayed = log_decay[:, t].exp()[..., None, None] * S
        opened = torch.zeros_like(S) if S_init is None else S_init.expand_as(S)
        S = torch.where(reset[:, t, None, None, None], opened, decayed)
        key, value = k[:, t, :, :, None], v[:, t, :, None, :]
        if beta is not None:
            value = beta[:, t, :, None, None] * (value - key.transpose(-1, -2) @ S)
        S = S + key * value
        outputs.append((q[:, t, :, None, :] @ S).squeeze(-2))
    return torch.stack(outputs, 1), S


def relative(found, wanted):
    return ((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-6)).item()


def compare(inputs, reset, chunk, dtype=torch.float64):
    """Relative errors of outputs, final state and gradients."""
    cast = {name: value.detach().to(dtype).requires_grad_() for name, value in inputs.items()}
    wanted = equation(**inputs, reset=reset)
    found = reset_linear_attention(**cast, reset=reset, chunk=chunk)
    forward = max(relative(a, b) for a, b in zip(found, wanted, strict=True))
    weights = [torch.randn_like(x) for x in wanted]
    grads = []
    for outputs, leaves in ((wanted, inputs), (found, cast)):
        loss = sum((w * x).sum() for w, x in zip(weights, outputs, strict=True))
        grads.append(torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True))
    backward = max(relative(a, b) for a, b in zip(grads[1], grads[0], strict=True))
    return forward, backward


@pytest.mark.parametrize("rate", [0.0, 0.08, 1.0])
@pytest.mark.parametrize("chunk", [16, 32])
@pytest.mark.parametrize("T", [1, 7, 32, 96])
def test_chunks_equal_the_equation_in_value_and_gradient(T, chunk, rate):
    inputs, reset = draw(T, rate)
    forward, backward = compare(inputs, reset, chunk)
    assert forward < 1e-12 and backward < 1e-10
    forward, _ = compare(inputs, reset, chunk, torch.float32)
    assert forward < 1e-5


@pytest.mark.parametrize("left_out", [("S_init",), ("beta",), ("beta", "S_init")])
def test_without_delta_rule_or_initial_state(left_out):
    inputs, reset = draw(50, 0.1)
    inputs = {name: value for name, value in inputs.items() if name not in left_out}
    forward, backward = compare(inputs, reset, 16)
    assert forward < 1e-12 and backward < 1e-10


@pytest.mark.parametrize(("gate", "limit"), [(-200.0, 1e-12), (-1e4, 1e-11)])
@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_strong_gates_are_finite_and_exact(rate, gate, limit):
    inputs, reset = draw(70, rate)
    with torch.no_grad():
        inputs["log_decay"][:, 20] = gate
    forward, backward = compare(inputs, reset, 32)
    assert forward < limit and backward < 1e-10
    # cumulative gates in float32 would lose three digits here
    forward, backward = compare(inputs, reset, 32, torch.float32)
    assert forward < 1e-5 and backward < 1e-4


def test_step_equals_the_equation():
    inputs, _ = draw(1, 0.0)
    inputs.pop("S_init")
    wanted, S_wanted = equation(**inputs, reset=torch.zeros(B, 1, dtype=torch.bool))
    S0 = inputs.pop("S0")
    token = {name: value[:, 0] for name, value in inputs.items()}
    o, S = reset_linear_attention_step(**token, S=S0)
    assert relative(o, wanted[:, 0]) < 1e-14 and relative(S, S_wanted) < 1e-14
    with torch.no_grad():
        given = S0.detach().clone()
        o, S = reset_linear_attention_step(**token, S=given, donate=True)
    assert S.data_ptr() == given.data_ptr() and relative(S, S_wanted) < 1e-14 and relative(o, wanted[:, 0]) < 1e-14


def test_no_gate_is_the_plain_delta_rule():
    inputs, reset = draw(40, 0.1)
    with torch.no_grad():
        inputs["log_decay"].zero_()
    o, _ = reset_linear_attention(**inputs, reset=reset, chunk=16)
    S = inputs["S0"].detach()
    for t in range(40):
        S = torch.where(reset[:, t, None, None, None], inputs["S_init"], S)
        k, v = inputs["k"][:, t], inputs["v"][:, t]
        error = v - torch.einsum("bhk,bhkv->bhv", k, S)
        S = S + torch.einsum("bhk,bhv->bhkv", inputs["beta"][:, t, :, None] * k, error)
        assert torch.allclose(o[:, t], torch.einsum("bhk,bhkv->bhv", inputs["q"][:, t], S), atol=1e-12)


def test_no_gate_no_delta_is_causal_linear_attention():
    inputs, _ = draw(40, 0.0)
    q, k, v = inputs["q"], inputs["k"], inputs["v"]
    o, _ = reset_linear_attention(
        q,
        k,
        v,
        torch.zeros(B, 40, H, dtype=torch.float64),
        reset=torch.zeros(B, 40, dtype=torch.bool),
        S0=torch.zeros(B, H, K, V, dtype=torch.float64),
        chunk=16,
    )
    scores = torch.einsum("bthk,bshk->bhts", q, k).tril()
    assert torch.allclose(o, torch.einsum("bhts,bshv->bthv", scores, v), atol=1e-12)


def test_full_strength_writes_to_orthonormal_keys_are_recalled_exactly():
    keys = torch.linalg.qr(torch.randn(K, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    k = torch.cat([keys, keys]).view(1, 2 * K, 1, K)
    v = torch.randn(1, 2 * K, 1, V, dtype=torch.float64)
    beta = (torch.arange(2 * K) < K).double().view(1, -1, 1)
    o, _ = reset_linear_attention(
        k,
        k,
        v,
        torch.zeros_like(beta),
        beta,
        reset=torch.zeros(1, 2 * K, dtype=torch.bool),
        S0=torch.zeros(1, 1, K, V, dtype=torch.float64),
        chunk=4,
    )
    assert torch.allclose(o[:, K:], v[:, :K], atol=1e-12)


def test_delta_rule_recalls_the_latest_value_of_a_key_where_plain_attention_adds_them_up():
    """8 random keys of width 32, rewritten 64 times in all before their last values; then each is queried."""
    torch.manual_seed(0)
    rows, width = 16, 32
    keys = F.normalize(torch.randn(rows, 8, width), dim=-1)
    last = torch.randn(rows, 8, width)
    k = torch.cat([keys.repeat(1, 8, 1), keys, keys], 1).unsqueeze(2)
    v = torch.cat([torch.randn(rows, 64, width), last, torch.zeros_like(last)], 1).unsqueeze(2)
    T = k.shape[1]
    writes = (torch.arange(T) < T - 8).float().view(1, T, 1).expand(rows, T, 1)
    common = {
        "log_decay": torch.zeros(rows, T, 1),
        "reset": torch.zeros(rows, T, dtype=torch.bool),
        "S0": torch.zeros(rows, 1, width, width),
    }
    delta, _ = reset_linear_attention(k, k, v, beta=writes, **common)
    plain, _ = reset_linear_attention(k, k, v * writes.unsqueeze(-1), **common)
    error_delta, error_plain = ((o[:, -8:, 0] - last).square().mean() for o in (delta, plain))
    assert error_delta < error_plain / 5


def test_wrong_shapes_are_named():
    inputs, reset = draw(5, 0.0)
    with pytest.raises(ValueError, match="log_decay"):
        reset_linear_attention(**{**inputs, "log_decay": inputs["log_decay"][:, :4]}, reset=reset)
    with pytest.raises(ValueError, match="S0"):
        reset_linear_attention(**{**inputs, "S0": inputs["S0"][:, :1]}, reset=reset)
