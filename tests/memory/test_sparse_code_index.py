"""What is special about the sparse code index; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 9, "width": 6, "modules": 3, "units": 4, "features": 10, "active": 3}
    return make_memory("sparse_code_index", **{**sizes, "top_k": 3, **config}).double()


def codes_by_hand(memory, x):
    """Winners and familiarity of every step of one episode, bit by bit."""
    c = memory.config
    weights, winners, familiar = set(), [], []
    for token in x.tolist():
        drive = [sum(v * p for v, p in zip(token, column)) for column in memory.projection.T.tolist()]
        f = sorted(range(c.features), key=lambda i: -drive[i])[: c.active]
        u = [[sum((i, q, k) in weights for i in f) / c.active for k in range(c.units)] for q in range(c.modules)]
        G = sum(max(row) for row in u) / c.modules
        code = []
        for q in range(c.modules):
            own = [sum(memory.own_code[i, q * c.units + k].item() for i in f) for k in range(c.units)]
            score = [c.steep * G * G / (1 - G + 0.05) * u[q][k] + own[k] for k in range(c.units)]
            k = score.index(max(score))
            code.append(k)
            if sum((i, q, k) in weights for i in range(c.features)) / c.features <= c.fill:
                weights.update((i, q, k) for i in f)
        winners.append(code)
        familiar.append(G)
    return winners, familiar, weights


def dot(a, b):
    return sum(p * q for p, q in zip(a, b))


@pytest.mark.parametrize("fill", [0.3, 1.0])
def test_equals_the_equations(fill):
    memory = build(fill=fill)
    c, H = memory.config, memory.config.heads
    d, x = c.width // H, torch.randn(25, D, dtype=torch.float64)
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0))
        winners, familiar, weights = codes_by_hand(memory, x)
        stored = memory.embed(x).tolist()
        for t in range(len(x)):
            held = range(max(0, t - c.slots), t)
            shared = {s: sum(a == b for a, b in zip(winners[s], winners[t])) for s in held}
            listed = sorted(held, key=lambda s: (-shared[s], -s))[: c.top_k]
            read = torch.zeros(H, d, dtype=torch.float64)
            for i in range(H):
                asked = (memory.query(x[t])[i * d : (i + 1) * d] @ memory.key[i] / d**0.5).tolist()
                w = {
                    s: math.exp(
                        dot(asked, stored[s]) + memory.code[i, t - s - 1] + memory.overlap[i] * shared[s] / c.modules
                    )
                    for s in listed
                }
                for s in listed:
                    value = torch.tensor(stored[s], dtype=torch.float64) @ memory.value[i]
                    read[i] += w[s] / (1 + sum(w.values())) * value
            novelty = torch.tensor([1 - familiar[t]], dtype=torch.float64)
            want = memory.skip(x[t]) + memory.novel(novelty) + memory.out(read.flatten())
            assert torch.allclose(y[0, t], want, atol=1e-10), t
    held_weights = state["weights"][0].nonzero().tolist()
    assert {(i, j // c.units, j % c.units) for i, j in held_weights} == weights


def test_one_trial_makes_an_input_familiar_and_keeps_its_code():
    memory = build(modules=8, units=8, features=32, active=8)
    x, state = torch.randn(4, D, dtype=torch.float64), memory.initial_state(4)
    assert memory.novelty(x, state).tolist() == [1.0] * 4
    first, _, weights = memory.encode(x, state["weights"])
    again, familiar, _ = memory.encode(x, weights)
    assert torch.equal(again, first) and familiar.tolist() == [1.0] * 4


def test_alike_inputs_share_winners():
    memory = build(modules=16, units=8, features=64, active=16)
    x, empty = torch.randn(200, D, dtype=torch.float64), memory.initial_state(200)["weights"]
    own = memory.encode(x, empty)[0]
    share = [
        (own == memory.encode(x + noise * torch.randn_like(x), empty)[0]).double().mean().item()
        for noise in (0.05, 0.3, 1.0, 10.0)
    ]
    assert share == sorted(share, reverse=True) and share[0] > 0.8 and share[-1] < 0.5


def test_weights_stop_at_their_share():
    memory = build(fill=0.5)
    _, state = memory.sequence(torch.randn(2, 300, D, dtype=torch.float64))
    share = state["weights"].double().mean(1)
    # one more input of three features may come before a unit stops
    assert 0.5 < share.max() <= 0.5 + 3 / 10


@pytest.mark.parametrize("config", [{"active": 11}, {"units": 0}, {"fill": 0.0}, {"steep": -1.0}, {"top_k": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
