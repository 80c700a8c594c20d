"""What is special about the relational memory core; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 3, "heads": 2, "head_dim": 3}
    return make_memory("relational_memory_core", **{**sizes, **config}).double()


def norm(row, layer):
    mean = sum(row) / len(row)
    variance = sum((v - mean) ** 2 for v in row) / len(row)
    return [(v - mean) / math.sqrt(variance + layer.eps) * w + b for v, w, b in zip(row, layer.weight, layer.bias)]


def linear(row, layer):
    bias = [0.0] * len(layer.weight) if layer.bias is None else layer.bias
    return [sum(w * v for w, v in zip(ws, row)) + b for ws, b in zip(layer.weight, bias)]


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def by_hand(memory, x, resets):
    """The equations of the module, one number at a time."""
    H, K, S = memory.config.heads, memory.config.head_dim, memory.config.slots
    W = H * K
    outputs = []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            M = [[float(i == j) for j in range(W)] for i in range(S)]
        rows = [*M, linear(token, memory.embed)]
        for _ in range(memory.config.blocks):
            qkv = [norm(linear(row, memory.qkv), memory.norm_qkv) for row in rows]
            mixed = []
            for i, row in enumerate(rows):
                read = []
                for h in range(H):
                    q = qkv[i][h * K : (h + 1) * K]
                    logits = [
                        sum(a * b for a, b in zip(q, other[W + h * K : W + (h + 1) * K])) / math.sqrt(K)
                        for other in qkv
                    ]
                    top = max(logits)
                    weights = [math.exp(v - top) for v in logits]
                    for k in range(K):
                        value = sum(w * other[2 * W + h * K + k] for w, other in zip(weights, qkv))
                        read.append(value / sum(weights))
                mixed.append(norm([a + b for a, b in zip(row, read)], memory.norm_attention))
            rows = []
            for row in mixed:
                hidden = [max(v, 0.0) for v in linear(row, memory.mlp[0])]
                out = [max(v, 0.0) for v in linear(hidden, memory.mlp[2])]
                rows.append(norm([a + b for a, b in zip(row, out)], memory.norm_mlp))
        new = []
        for s in range(S):
            gates = [
                a + b
                for a, b in zip(
                    linear(token, memory.gate_input), linear([math.tanh(v) for v in M[s]], memory.gate_memory)
                )
            ]
            new.append([sigmoid(gates[j]) * math.tanh(rows[s][j]) + sigmoid(gates[W + j]) * M[s][j] for j in range(W)])
        M = new
        outputs.append(linear([v for row in M for v in row], memory.readout))
    return torch.tensor(outputs, dtype=torch.float64), torch.tensor(M, dtype=torch.float64)


@pytest.mark.parametrize("blocks", [1, 2])
def test_equals_the_equations(blocks):
    memory = build(blocks=blocks)
    x, resets = torch.randn(7, D, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 0, 1, 0]).bool()
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        want, M = by_hand(memory, x.tolist(), resets)
    assert torch.allclose(y[0], want, atol=1e-12) and torch.allclose(state["M"][0], M, atol=1e-12)


def test_an_episode_starts_with_distinct_slots():
    M = build(slots=3).initial_state(2)["M"]
    assert torch.equal(M[1], torch.eye(3, 6, dtype=torch.float64))
    with pytest.raises(UsageError, match="start equal and stay equal"):
        build(slots=7)


def test_permuted_slots_give_permuted_slots():
    memory = build(blocks=2)
    x, order = torch.randn(2, 6, D, dtype=torch.float64), torch.tensor([2, 0, 1])
    start = {"M": torch.randn(2, 3, 6, dtype=torch.float64)}
    with torch.no_grad():
        M = memory.sequence(x, start)[1]["M"]
        permuted = memory.sequence(x, {"M": start["M"][:, order]})[1]["M"]
    assert torch.allclose(permuted, M[:, order], atol=1e-12)


@pytest.mark.parametrize("gate", ["unit", "memory"])
def test_gates_at_their_limits(gate):
    memory = build(gate=gate)
    x, start = torch.randn(2, 5, D, dtype=torch.float64), {"M": torch.randn(2, 3, 6, dtype=torch.float64)}
    with torch.no_grad():
        memory.gate_input.weight.zero_()
        memory.gate_memory.weight.zero_()
        memory.gate_input.bias[: memory.gates] = -40.0
        memory.gate_input.bias[memory.gates :] = 40.0
        assert torch.allclose(memory.sequence(x, start)[1]["M"], start["M"], atol=1e-12)
        memory.gate_input.bias.neg_()
        # nothing kept, everything new: the slots are the squashed result of the attention
        assert memory.sequence(x, start)[1]["M"].abs().max() <= 1


def test_without_gates_the_slots_are_replaced():
    memory = build(gate="none")
    assert memory.gate_input is None
    with torch.no_grad():
        M = memory.sequence(torch.randn(2, 9, D, dtype=torch.float64))[1]["M"]
    assert M.abs().max() <= 1


@pytest.mark.parametrize("config", [{"slots": 0}, {"heads": 0}, {"blocks": 0}, {"gate": "slot"}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
