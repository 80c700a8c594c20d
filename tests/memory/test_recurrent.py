"""LSTM and GRU beyond the suite: torch's own numbers, and all ways of running a sequence agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.recurrent_loops import gru_loop, lstm_loop
from embodied_mem.memory.repack import find_episodes

B, T, IN, D = 3, 30, 5, 7
PEERS = {"lstm": nn.LSTM, "gru": nn.GRU}


def build(name, layers=1):
    torch.manual_seed(0)
    return make_memory(name, in_dim=IN, out_dim=D, layers=layers).double()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", PEERS)
def test_equals_torch_and_loads_its_weights(name, layers):
    memory = build(name, layers)
    peer = PEERS[name](IN, D, layers, batch_first=True).double()
    memory.core.load_state_dict(peer.state_dict())
    x = torch.randn(B, T, IN, dtype=torch.float64)
    y, state = memory.sequence(x)
    want, last = peer(x)
    last = last if name == "lstm" else (last,)
    assert torch.allclose(y, want, rtol=1e-12)
    for key, value in zip(memory.keys, last):
        assert torch.allclose(state[key], value.transpose(0, 1), rtol=1e-12)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("padded", [False, True])
def test_loop_and_packed_kernel_agree(name, layers, padded):
    memory = build(name, layers)
    valid = torch.arange(T) < torch.tensor([[T], [4], [0]]) if padded else None
    resets = (torch.rand(B, T) < 0.1) & (True if valid is None else valid)
    sizes = find_episodes(resets, valid).sizes
    x = torch.randn(sum(sizes), IN, dtype=torch.float64)
    start = tuple(torch.randn(sizes[0], layers, D, dtype=torch.float64) for _ in memory.keys)
    want, ends = memory.packed(x, tuple(v.transpose(0, 1).contiguous() for v in start), torch.tensor(sizes))
    y = x
    for layer in range(layers):
        y, end = memory.loop(y, tuple(value[:, layer] for value in start), layer, sizes)
        for found, packed in zip(end, ends):
            assert torch.allclose(found, packed[layer], rtol=1e-10)
    assert torch.allclose(y, want, rtol=1e-10)


@pytest.mark.parametrize("cuts", [0, 1, 2, 20])
def test_cuts_and_stairs_agree(cuts):
    memory = build("lstm", 2)
    resets = torch.zeros(B, T, dtype=torch.bool)
    for at in range(cuts):
        resets[at % B, 3 + at] = True
    x = torch.randn(B, T, IN, dtype=torch.float64)
    carried = tuple(torch.randn(B, 2, D, dtype=torch.float64) for _ in memory.keys)
    cut = memory._by_cuts(x, carried, resets)
    assert (cut is None) == (cuts > 2)
    y, after = memory._by_stairs(x, carried, find_episodes(resets))
    if cut is not None:
        assert torch.allclose(cut[0], y, rtol=1e-10)
        assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(cut[1], after))


@pytest.mark.parametrize("sizes", [[4] * 5, [4, 4, 2, 1, 1], [6], [3, 2, 1]], ids=str)
def test_written_out_gradients(sizes):
    draw = lambda *shape: torch.randn(*shape, dtype=torch.float64, requires_grad=True)  # noqa: E731
    E, N = sizes[0], sum(sizes)
    assert torch.autograd.gradcheck(lambda *a: lstm_loop(*a, sizes), (draw(N, 12), draw(E, 3), draw(E, 3), draw(12, 3)))
    assert torch.autograd.gradcheck(lambda *a: gru_loop(*a, sizes), (draw(N, 9), draw(E, 3), draw(9, 3), draw(9)))


@pytest.mark.parametrize("name", PEERS)
def test_second_derivatives_raise_clearly(name):
    memory = build(name)
    resets = torch.rand(B, T) < 0.5
    x = torch.randn(B, T, IN, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(memory.sequence(x, None, resets)[0].square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru"])
def test_learned_start_gets_gradient_at_each_reset_and_only_there(name):
    memory = make_memory(name, in_dim=IN, out_dim=D, learned_init=True)
    start = memory.start if name == "min_gru" else memory.starts["h"]
    state = {key: torch.randn_like(value) for key, value in memory.initial_state(B).items()}
    x, resets = torch.randn(B, T, IN), torch.zeros(B, T, dtype=torch.bool)
    memory.sequence(x, state, resets)[0].sum().backward()
    assert start.grad is None or not start.grad.any()
    resets[1, 20] = True
    memory.sequence(x, state, resets)[0].sum().backward()
    assert start.grad.any()


def test_forget_bias_is_one_and_recurrent_weights_are_orthogonal():
    memory = make_memory("lstm", in_dim=IN, out_dim=D)
    _, U, b, b_recurrent = memory.weights(0)
    assert (b + b_recurrent)[D : 2 * D].eq(1).all() and not (b + b_recurrent)[:D].any()
    for gate in U.split(D):
        assert torch.allclose(gate @ gate.t(), torch.eye(D), atol=1e-5)


@pytest.mark.parametrize("name,kib", [("lstm", 1.0), ("gru", 0.5), ("min_gru", 0.5)])
def test_reference_budget(name, kib):
    memory = make_memory(name)
    assert memory.bytes_per_env() == kib * 1024
    assert memory.macs_per_token() == {"lstm": 131_072, "gru": 98_304, "min_gru": 32_768}[name]


@pytest.mark.parametrize("name", ["lstm", "gru", "min_gru"])
def test_bad_sizes(name):
    with pytest.raises(UsageError, match="layers and width >= 1, got layers=0"):
        make_memory(name, layers=0)
    with pytest.raises(UsageError, match="width=0"):
        make_memory(name, width=0)
