"""What is special about the gated Transformer-XL; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.gtrxl import GRUGate

D = 8


def build(**config):
    torch.manual_seed(0)
    return make_memory("gtrxl", **{"in_dim": 6, "out_dim": 4, "width": D, "memory": 5, **config}).double()


def gate(module, x, y):
    """The equations of the gate, one matrix at a time."""
    W_r, W_z, W_c = module.added.weight.split(D)
    U_r, U_z = module.stream.weight.split(D)
    r = (W_r @ y + U_r @ x).sigmoid()
    z = (W_z @ y + U_z @ x - module.bias).sigmoid()
    return (1 - z) * x + z * (W_c @ y + module.candidate.weight @ (r * x)).tanh()


def test_equals_the_equations():
    memory = build()
    x = torch.randn(30, 6, dtype=torch.float64)
    resets = torch.rand(30, generator=torch.Generator().manual_seed(3)) < 0.08
    outputs = []
    with torch.no_grad():
        for t in range(30):
            if t == 0 or resets[t]:
                caches = [[] for _ in memory.layers]
            h = memory.embed(x[t])
            for layer, cache in zip(memory.layers, caches):
                cache.append(layer.norms[0](h))
                items = torch.stack(cache[-6:])
                padded = torch.cat([torch.zeros(6 - len(items), D, dtype=torch.float64), items])
                visible = torch.arange(6) >= 6 - len(items)
                # the attention itself is checked against its equations in test_trxl.py
                read = layer.attention.one(items[-1:], padded.unsqueeze(0), visible.unsqueeze(0))[0]
                g = gate(layer.gates[0], h, read.clamp_min(0))
                h = gate(layer.gates[1], g, layer.feed(layer.norms[1](g)).clamp_min(0))
            outputs.append(memory.readout(h))
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
    assert torch.allclose(y[0], torch.stack(outputs), atol=1e-12)


def test_layers_start_near_the_identity_and_a_large_bias_makes_them_it():
    x = torch.randn(2, 9, 6, dtype=torch.float64)
    change = []
    with torch.no_grad():
        for bias in (-2.0, 2.0, 200.0):
            memory = build(gate_bias=bias)
            h = memory.embed(x)
            change.append(float((memory.sequence(x)[0] - memory.readout(h)).norm() / memory.readout(h).norm()))
    assert change[2] < 1e-12 < change[1] < change[0] / 2


def test_gate_parity_with_an_installed_one():
    """Theirs applies the reset gate after the recurrent matrix, ours before: equal where that matrix is diagonal."""
    peer = pytest.importorskip("x_transformers.x_transformers", reason="x-transformers is not installed (extra: peers)")
    torch.manual_seed(0)
    theirs, ours = peer.GRUGating(D), GRUGate(D, 0.7)
    with torch.no_grad():
        r, z, c = theirs.gru.weight_ih.split(D)
        # their update gate keeps, ours replaces
        ours.added.weight.copy_(torch.cat([r, -z, c]))
        r, z, _ = theirs.gru.weight_hh.split(D)
        ours.stream.weight.copy_(torch.cat([r, -z]))
        diagonal = torch.diag(torch.randn(D))
        theirs.gru.weight_hh[2 * D :] = diagonal
        ours.candidate.weight.copy_(diagonal)
        theirs.gru.bias_hh.zero_()
        theirs.gru.bias_ih.zero_()
        theirs.gru.bias_ih[D : 2 * D] = 0.7
        x, y = torch.randn(2, 3, 5, D)
        assert torch.allclose(ours(x, y), theirs(y, x), atol=1e-6)
