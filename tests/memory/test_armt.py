"""What is special about ARMT; the contract itself is in test_contract_*.py, segments in test_segment_policy.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.armt import dpfp
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "segment": 4, "width": 8, "layers": 2, "memory_tokens": 3, "key_dim": 2}
    memory = make_memory("armt", **{**sizes, **config}).double()
    with torch.no_grad():
        for part in memory.associations:
            part.value.weight.normal_()
    return memory


def phi(memory, x):
    """One vector of features, number by number."""
    u = [max(v, 0.0) for v in [*x, *(-v for v in x)]]
    nu = memory.config.nu
    features = [u[i] * u[(i - j) % len(u)] for j in range(1, nu + 1) for i in range(len(u))]
    total = sum(features) + 1e-5 if memory.config.unit_keys else 1.0
    return [f / total for f in features]


def answer(k, A, z, eps):
    total = sum(a * b for a, b in zip(k, z)) + eps
    return [sum(k[i] * A[i][j] for i in range(len(k))) / total for j in range(len(A[0]))]


@pytest.mark.parametrize("unit_keys", [True, False])
@pytest.mark.parametrize("write_beta", [True, False])
def test_equals_the_equations(by_hand, unit_keys, write_beta):
    memory = build(unit_keys=unit_keys, write_beta=write_beta)
    K, W, layers = memory.features, memory.config.width, range(memory.config.layers)
    eps = memory.config.eps

    def start():
        return [([[0.0] * W for _ in range(K)], [0.0] * K) for _ in layers], True

    def look(held, segment):
        bank, first = held
        L, M = len(segment), len(memory.tokens)
        sees, age = by_hand.frame(0, L, M)

        def before(n, h):
            if first:
                return h
            asked = memory.associations[n].query(h).tolist()
            return h + torch.tensor([answer(phi(memory, q), *bank[n], eps) for q in asked], dtype=torch.float64)

        rows = torch.cat([segment, memory.tokens])
        outputs = by_hand.layers(memory, rows, torch.arange(L + M), sees, age, before)[1]
        new = []
        for n, h in enumerate(outputs):
            part, (A, z) = memory.associations[n], bank[n]
            new_A, new_z = [list(row) for row in A], list(z)
            for y in h[L:]:
                k, v, b = phi(memory, part.key(y).tolist()), part.value(y).tolist(), part.strength(y).sigmoid().item()
                old = [0.0] * W if first else answer(k, A, z, eps)
                known = sum(p * q for p, q in zip(z, k)) / (sum(q * q for q in k) + eps)
                gamma = 1.0 if first else min(max(1 - known, 0.0), 1.0)
                for i in range(K):
                    new_z[i] += gamma * k[i] * (b if write_beta else 1.0)
                    for j in range(W):
                        new_A[i][j] += b * k[i] * (v[j] - old[j])
            new.append((new_A, new_z))
        return outputs[-1][L - 1], (new, False)

    (bank, _), state = by_hand.check(memory, start, look)
    for n, (A, z) in enumerate(bank):
        assert torch.allclose(state["A"][0, n], torch.tensor(A, dtype=torch.float64), atol=1e-10)
        assert torch.allclose(state["z"][0, n], torch.tensor(z, dtype=torch.float64), atol=1e-10)


def test_one_write_per_segment_with_the_normaliser_held_at_one_is_the_delta_rule():
    memory = build(memory_tokens=1, layers=1, eps=1e-9)
    part, K = memory.associations[0], memory.features
    y = torch.randn(9, 1, 8, dtype=torch.float64)
    A, S = torch.zeros(1, K, 8, dtype=torch.float64), torch.zeros(K, 8, dtype=torch.float64)
    ones, later = torch.ones(1, K, dtype=torch.float64), torch.tensor([False])
    with torch.no_grad():
        for token in y:
            # keys of sum 1 against a normaliser of ones: z . k = 1
            A, _ = memory._write(0, token.unsqueeze(0), A, ones, later)
            k = dpfp(part.key(token[0]), 3)
            k, b = k / k.sum(), part.strength(token[0]).sigmoid()
            S = S + b * torch.outer(k, part.value(token[0]) - k @ S)
    assert torch.allclose(A[0], S, atol=1e-3)


def test_nothing_is_read_in_the_first_segment():
    memory, x = build(), torch.randn(2, 9, D, dtype=torch.float64)
    state = memory.initial_state(2)
    # what an empty row holds must not matter there
    filled = {**state, "A": torch.randn_like(state["A"]), "z": torch.rand_like(state["z"])}
    with torch.no_grad():
        want, found = memory.sequence(x, state)[0], memory.sequence(x, filled)[0]
    assert torch.equal(found[:, :4], want[:, :4]) and not torch.allclose(found[:, 4:], want[:, 4:])


def test_a_new_memory_is_silent():
    torch.manual_seed(0)
    memory = make_memory("armt", in_dim=D, out_dim=4, segment=4).double()
    with torch.no_grad():
        _, state = memory.sequence(torch.randn(2, 13, D, dtype=torch.float64))
    assert not state["A"].any() and state["z"].any()


@pytest.mark.parametrize("config", [{"memory_tokens": 0}, {"key_dim": 0}, {"nu": 0}, {"eps": 0.0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
