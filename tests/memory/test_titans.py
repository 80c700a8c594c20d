"""What is special about Titans; the loop it equals is in test_inner_learner.py, the contract in test_contract_*.py."""

import math
import warnings

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.memory.chunk_core import reset_linear_attention
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.fast_weights import Token

OFF = -50.0


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": 2, "key_dim": 5, "value_dim": 4, "conv": 1, "clip": math.inf}
    return make_memory("titans", **{**base, "placement": "alone", **config}).double()


def tokens(n, T, H, K, V, **gates):
    """Random tokens with unit keys; alpha = eta = 0 and theta = 1/2 unless given, each (n, T, H)."""
    q, k, v = (torch.randn(n, T, H, d, dtype=torch.float64) for d in (K, K, V))
    shape = (n, T, H)
    log_keep = gates.get("log_keep", torch.zeros(shape).double())
    theta = gates.get("theta", torch.full(shape, 0.5).double())
    log_momentum = gates.get("log_momentum", torch.full(shape, OFF).double())
    return Token(F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, log_keep, theta, log_momentum.unsqueeze(-1))


def run(memory, token, resets=None):
    n, T = token.v.shape[:2]
    resets = torch.zeros(n, T, dtype=torch.bool) if resets is None else resets
    with torch.no_grad():
        return memory.run(token, memory.initial_state(n), resets, None, None, 0)


def test_without_momentum_and_forgetting_it_is_the_delta_rule():
    memory = build(chunk=1)
    token, resets = tokens(3, 20, 2, 5, 4), torch.rand(3, 20) < 0.1
    o, _ = run(memory, token, resets)
    S0 = torch.zeros(3, 2, 5, 4, dtype=torch.float64)
    ones = torch.ones(3, 20, 2, dtype=torch.float64)
    want, _ = reset_linear_attention(token.q, token.k, token.v, 0 * ones, ones, reset=resets, S0=S0)
    assert torch.allclose(o, want, rtol=1e-9, atol=1e-12)


def test_what_is_stored_is_read_back():
    memory = build(key_dim=32, value_dim=32, chunk=4)
    once = tokens(1, 16, 2, 32, 32)
    token = Token(
        *(value.repeat(1, 40, *[1] * (value.dim() - 2)) for value in once[:5]), once.extra.repeat(1, 40, 1, 1)
    )
    o, _ = run(memory, token._replace(q=token.k))
    error = (o[:, -16:] - once.v).square().mean() / once.v.square().mean()
    assert error < 0.1


def test_momentum_carries_a_write_on():
    memory = build(chunk=8)
    token = tokens(1, 4, 2, 5, 4, log_momentum=torch.full((1, 4, 2), math.log(0.5)).double())
    silent = torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1).double()
    token = token._replace(beta=token.beta * silent, q=token.k[:, :1].expand_as(token.k))
    o, _ = run(memory, token)
    want = token.v[:, 0].unsqueeze(1) * torch.tensor([1, 1.5, 1.75, 1.875]).view(1, 4, 1, 1)
    assert torch.allclose(o, want)


def test_the_gate_and_the_layer_attend_to_a_window_of_the_episode():
    for placement in ("gate", "layer"):
        memory = make_memory("titans", in_dim=6, out_dim=8, placement=placement, window=4, conv=1, heads=1).double()
        assert set(memory.state_spec()) >= {"keys", "values", "fill"}
        x = torch.randn(1, 12, 6, dtype=torch.float64)
        with torch.no_grad():
            _, state = memory.sequence(x)
            assert state["fill"].tolist() == [4]
            _, state = memory.sequence(x, state, torch.arange(12).unsqueeze(0) == 10)
            assert state["fill"].tolist() == [2] and not state["keys"][:, :2].any()


@pytest.fixture(scope="module")
def peer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("titans_pytorch")


def pair(peer, depth, chunk, momentum):
    """The peer's memory of one head, and ours with its weights and its gates."""
    D, heads_of = 8, {"heads": 1, "key_dim": 8, "value_dim": 8, "expansion": 4}
    torch.manual_seed(depth)
    theirs = peer.NeuralMemory(
        D,
        chunk_size=chunk,
        batch_size=chunk,
        model=peer.MemoryMLP(D, depth, expansion_factor=4.0),
        momentum=momentum,
        pre_rmsnorm=False,
        mem_model_norm_add_residual=False,
        init_decay_bias=None if momentum else OFF,
    ).double()
    ours = build(memory="mlp" if depth == 2 else "matrix", learned_init=True, chunk=chunk, **heads_of)
    weights = list(theirs.memory_model_parameters)
    with torch.no_grad():
        for start, weight in zip(ours.starts, weights, strict=True):
            start.copy_(weight)

    def token(x):
        q, k, v = (layer(x).unsqueeze(2) for layer in (theirs.to_queries, theirs.to_keys, theirs.to_values))
        # the peer's loss is the mean over the width
        theta = theirs.to_adaptive_step[0](x).sigmoid() / D
        log_keep = F.logsigmoid(-theirs.to_decay_factor[0](x)) if momentum else 0 * theta
        eta = F.logsigmoid(theirs.to_momentum[0](x)) if momentum else 0 * theta + OFF
        return Token(q, k, v, log_keep, theta, eta.unsqueeze(-1))

    return theirs, ours, token


@pytest.mark.parametrize("depth", [1, 2])
def test_online_form_equals_titans_pytorch(peer, depth):
    theirs, ours, token = pair(peer, depth, 1, True)
    x = torch.randn(2, 12, 8, dtype=torch.float64)
    with torch.no_grad():
        want, _ = theirs(x)
        o, _ = run(ours, token(x))
    assert torch.allclose(o[:, :, 0], want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("depth", [1, 2])
def test_chunks_equal_titans_pytorch_at_their_ends(peer, depth):
    # Its gates act once per chunk where ours act per token, and it reads the weights of the last boundary where ours
    # reads those of the token: without gates both agree wherever a chunk is complete.
    theirs, ours, token = pair(peer, depth, 4, False)
    x = torch.randn(2, 16, 8, dtype=torch.float64)
    with torch.no_grad():
        want, _ = theirs(x)
        o, _ = run(ours, token(x))
    assert torch.allclose(o[:, 3::4, 0], want[:, 3::4], rtol=1e-6, atol=1e-8)
