"""What is special about the differentiable neural computer; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.dnc import allocation

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 4, "slot_dim": 3, "read_heads": 2, "controller": 6}
    return make_memory("dnc", **{**sizes, **config}).double()


def by_content(M, key, strength):
    scores = [(1 + F.softplus(strength)) * (key @ row) / (key.norm() * row.norm() + 1e-6) for row in M]
    return torch.stack(scores).softmax(0)


def allocate(usage):
    order = sorted(range(len(usage)), key=lambda i: (float(usage[i]) + 1e-5 * i, i))
    weights, product = torch.zeros_like(usage), 1.0
    for slot in order:
        weights[slot] = (1 - usage[slot]) * product
        product = product * usage[slot]
    return weights


def by_hand(memory, x, resets):
    c = memory.config
    N, W, R = c.slots, c.slot_dim, c.read_heads
    zeros = lambda *shape: torch.zeros(*shape, dtype=torch.float64)  # noqa: E731
    outputs = []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            M, usage, w_write, p = torch.full((N, W), 1e-6, dtype=torch.float64), zeros(N), zeros(N), zeros(N)
            w_read, reads, L, h, cell = zeros(R, N), zeros(R * W), zeros(N, N), zeros(6), zeros(6)
        i, f, g, o = (memory.input(token) + memory.recurrent(torch.cat([h, reads]))).chunk(4)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        h = o.sigmoid() * cell.tanh()
        keys, key, erase, add, strength, free, write, allot, modes = memory.interface(h).split(memory.sizes)
        for n in range(N):
            kept = 1.0
            for r in range(R):
                kept = kept * (1 - free[r].sigmoid() * w_read[r, n])
            usage[n] = (usage[n] + w_write[n] - usage[n] * w_write[n]) * kept
        chosen = allot.sigmoid() * allocate(usage) + (1 - allot.sigmoid()) * by_content(M, key, strength[-1])
        w_write = write.sigmoid() * chosen
        M = torch.stack([M[n] * (1 - w_write[n] * erase.sigmoid()) + w_write[n] * add for n in range(N)])
        found = [by_content(M, k, s) for k, s in zip(keys.view(R, W), strength)]
        if c.temporal_links:
            L = torch.tensor(
                [
                    [
                        0.0 if n == m else float((1 - w_write[n] - w_write[m]) * L[n, m] + w_write[n] * p[m])
                        for m in range(N)
                    ]
                    for n in range(N)
                ],
                dtype=torch.float64,
            )
            p = (1 - w_write.sum()) * p + w_write
            for r, mode in enumerate(modes.view(R, 3).softmax(-1)):
                found[r] = mode[0] * (L.T @ w_read[r]) + mode[1] * found[r] + mode[2] * (L @ w_read[r])
        w_read = torch.stack(found)
        reads = (w_read @ M).flatten()
        outputs.append(memory.readout(torch.cat([h, reads])))
    return torch.stack(outputs), M


@pytest.mark.parametrize("temporal_links", [False, True])
def test_equals_the_equations(temporal_links):
    memory = build(temporal_links=temporal_links)
    x, resets = 3 * torch.randn(9, D, dtype=torch.float64), torch.tensor([0, 0, 0, 0, 1, 0, 1, 0, 0]).bool()
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        want, M = by_hand(memory, x, resets)
    assert torch.allclose(y[0], want, atol=1e-12) and torch.allclose(state["M"][0], M, atol=1e-12)


def test_usage_allocation_and_links_stay_bounded_over_a_thousand_steps():
    memory = build(temporal_links=True)
    state = memory.initial_state(3)
    x = 5 * torch.randn(3, 1000, D, dtype=torch.float64)
    with torch.no_grad():
        for t in range(1000):
            state = memory.step(x[:, t], state)[1]
            if t % 50 == 0 or t == 999:
                assert (state["usage"] >= 0).all() and (state["usage"] <= 1).all()
                assert (allocation(state["usage"]).sum(-1) <= 1 + 1e-12).all()
                links = state["links"]
                assert (links >= -1e-12).all() and not links.diagonal(dim1=1, dim2=2).any()
                assert (links.sum(1) <= 1 + 1e-12).all() and (links.sum(2) <= 1 + 1e-12).all()


def test_allocation_takes_free_slots_in_order():
    usage = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.5], [1.0, 1.0, 1.0]])
    assert allocation(usage).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_gradients_are_exact():
    memory = build(temporal_links=True)
    x = torch.randn(2, 4, D, dtype=torch.float64, requires_grad=True)
    resets = torch.tensor([[False, False, True, False], [False, False, False, False]])
    assert torch.autograd.gradcheck(lambda v: memory.sequence(v, None, resets)[0], (x,), atol=1e-6)


def test_the_boundary_term_is_off_by_default_and_in_evaluation():
    x = torch.randn(2, 4, D, dtype=torch.float64)
    plain, fast = build(), build(boundary_coef=0.5)
    plain.sequence(x)
    assert plain.aux_losses() == {} and plain.boundary is None
    fast.sequence(x)
    assert fast.aux_losses()["boundary"].dim() == 0
    fast.eval()
    fast.sequence(x)
    assert fast.aux_losses() == {}


@pytest.mark.parametrize("config", [{"slots": 0}, {"read_heads": 0}, {"boundary_coef": -1.0}, {"boundary_hidden": -1}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
