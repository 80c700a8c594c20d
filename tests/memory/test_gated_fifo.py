"""What is special about the gated FIFO; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "segment": 3, "width": 8, "layers": 2, "entries": 2}
    memory = make_memory("gated_fifo", **{**sizes, **config}).double()
    with torch.no_grad():
        for part in memory.queues:
            part.fuse.normal_()
    return memory


def dot(a, b):
    return sum(p * q for p, q in zip(a, b))


@pytest.mark.parametrize("gate", ["tail", "input"])
def test_equals_the_equations(by_hand, gate):
    memory = build(gate=gate)
    W, layers = memory.config.width, memory.config.layers

    def read(n, token, entries):
        part, found = memory.queues[n], []
        asked = part.query(part.norm(token)).tolist()
        for i in range(memory.config.heads):
            q = asked[i * W : (i + 1) * W]
            scores = [math.exp(dot(q, part.norm(entry).tolist()) / math.sqrt(W)) for entry in entries]
            # the 1 is the null slot
            found.append(sum(s / (1 + sum(scores)) * entry for s, entry in zip(scores, entries)))
        return part.answer(torch.cat(found)) if entries else torch.zeros(W, dtype=torch.float64)

    def look(queues, segment):
        L = len(segment)
        sees, age = by_hand.frame(0, L, 0)

        def mixed(n, h, local):
            share = 2 * memory.queues[n].fuse.softmax(0)
            remembered = torch.stack([read(n, token, queues[n]) for token in h])
            return h + share[0] * local + share[1] * remembered

        inputs, outputs = by_hand.layers(memory, segment, torch.arange(L), sees, age, mixed=mixed)
        new = []
        for n in range(layers):
            c, tail = inputs[n].mean(0), queues[n][-1] if queues[n] else torch.zeros(W, dtype=torch.float64)
            g = memory.queues[n].gate(torch.cat([c, tail]) if gate == "tail" else c).sigmoid()
            new.append([*queues[n], g * c + (1 - g) * tail][-memory.config.entries :])
        return outputs[-1][L - 1], new

    held, state = by_hand.check(memory, lambda: [[] for _ in range(layers)], look, cut=(4,))
    count = state["count"].item()
    assert count == 6
    for n in range(layers):
        for j, entry in enumerate(held[n]):
            assert torch.allclose(state["queue"][0, n, (count - 2 + j) % 2], entry, atol=1e-10)


def test_an_open_gate_keeps_means_and_a_closed_gate_keeps_the_first():
    x = torch.randn(1, 12, D, dtype=torch.float64)
    memory = build(entries=9, layers=1)
    with torch.no_grad():
        memory.queues[0].gate.weight.zero_()
        memory.queues[0].gate.bias.fill_(40)
        queue = memory.sequence(x)[1]["queue"][0, 0]
        means = memory.embed(x).view(4, 3, 8).mean(1)
        assert torch.allclose(queue[:4], means) and not queue[4:].any()
        memory.queues[0].gate.bias.fill_(-40)
        assert memory.sequence(x)[1]["queue"].abs().max() < 1e-12


@pytest.mark.parametrize("config", [{"entries": 0}, {"gate": "none"}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
