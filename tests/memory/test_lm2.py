"""What is special about LM2; the contract itself is in test_contract_*.py, segments in test_segment_policy.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "segment": 3, "width": 8, "layers": 2, "slots": 3}
    return make_memory("lm2", **{**sizes, **config}).double()


def attention(q, key, value, heads):
    """One query (D,) over rows (N, D), number by number."""
    d, read = len(q) // heads, []
    for i in range(heads):
        part = range(i * d, (i + 1) * d)
        scores = [math.exp(sum(q[j] * row[j] for j in part) / math.sqrt(d)) for row in key.tolist()]
        read += [sum(s * row[j] for s, row in zip(scores, value.tolist())) / sum(scores) for j in part]
    return torch.tensor(read, dtype=torch.float64)


def test_equals_the_equations(by_hand):
    memory = build()
    heads, layers = memory.config.heads, memory.config.layers

    def look(banks, segment):
        L = len(segment)
        sees, age = by_hand.frame(0, L, 0)

        def mixed(n, h, local):
            part = memory.banks[n]
            key, value = part.slots(banks[n]).chunk(2, 1)
            r = torch.stack([attention(part.query(part.norm(token)).tolist(), key, value, heads) for token in h])
            return h + local + part.out(r).sigmoid() * r

        inputs, outputs = by_hand.layers(memory, segment, torch.arange(L), sees, age, mixed=mixed)
        new = []
        for n in range(layers):
            part, M, E = memory.banks[n], banks[n], memory.banks[n].norm(inputs[n])
            key, value = part.offered(torch.cat([M, E])).chunk(2, 1)
            found = torch.stack([attention(part.asked(slot).tolist(), key, value, heads) for slot in M])
            g_in = part.gate_input(E.mean(0)).sigmoid()
            new.append(g_in * found.tanh() + part.gate_forget(M.tanh()).sigmoid() * M)
        return outputs[-1][L - 1], new

    held, state = by_hand.check(memory, lambda: list(memory.start), look, T=14, cut=(4,))
    assert torch.allclose(state["M"][0], torch.stack(held), atol=1e-10)


def test_gates_at_their_limits():
    memory, x = build(), torch.randn(2, 9, D, dtype=torch.float64)
    with torch.no_grad():
        for bank in memory.banks:
            for gate, bias in ((bank.gate_input, -40.0), (bank.gate_forget, 40.0)):
                gate.weight.zero_()
                gate.bias.fill_(bias)
        assert torch.allclose(memory.sequence(x)[1]["M"], memory.start.expand(2, -1, -1, -1), atol=1e-12)


def test_an_unfinished_segment_pools_what_exists_alone():
    memory = build(segment=4)
    bank, M = memory.banks[0], torch.randn(1, 3, 8, dtype=torch.float64)
    E = torch.randn(1, 4, 8, dtype=torch.float64)
    with torch.no_grad():
        found = bank.write(M, E, torch.tensor([[True, True, False, False]]))
        assert torch.allclose(found, bank.write(M, E[:, :2], torch.tensor([[True, True]])))


def test_an_episode_starts_with_distinct_slots():
    assert torch.equal(build().initial_state(2)["M"][1, 0], torch.eye(3, 8, dtype=torch.float64))
    with pytest.raises(UsageError, match="would start equal"):
        build(slots=9)
