"""What is special about RMT; the contract itself is in test_contract_*.py, segments in test_segment_policy.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "segment": 4, "width": 8, "layers": 2, "memory_tokens": 3}
    return make_memory("rmt", **{**sizes, **config}).double()


@pytest.mark.parametrize("gate", [False, True])
def test_equals_the_equations(by_hand, gate):
    memory = build(gate=gate)

    def look(M, segment):
        S, L = len(M), len(segment)
        sees, age = by_hand.frame(S, L, S)
        h = by_hand.layers(memory, torch.cat([M, segment, M]), torch.arange(2 * S + L), sees, age)[1][-1]
        new = memory.norm(h[S + L :])
        if gate:
            share = memory.gate.sigmoid()
            new = share * new + (1 - share) * M
        return h[S + L - 1], new

    held, state = by_hand.check(memory, lambda: memory.start, look)
    assert torch.allclose(state["M"][0], held, atol=1e-10)


def test_the_start_is_learned_through_segments():
    memory = build()
    y, _ = memory.sequence(torch.randn(2, 11, D, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(y[:, -1].sum(), memory.start)
    assert gradient.any(1).all()


def test_a_closed_gate_keeps_the_memory():
    memory = build(gate=True)
    with torch.no_grad():
        memory.gate.fill_(-40)
        _, state = memory.sequence(torch.randn(2, 12, D, dtype=torch.float64))
    assert torch.allclose(state["M"], memory.start.expand(2, -1, -1), atol=1e-12)


@pytest.mark.parametrize("config", [{"memory_tokens": 0}, {"segment": 0}, {"width": 6, "heads": 2}, {"jitter": 1.0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
