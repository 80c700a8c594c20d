"""What is special about the neural Turing machine; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.addressing import content_weights, cosine, erase_add
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 6, "slot_dim": 3, "read_heads": 2, "controller": 7}
    return make_memory("ntm", **{**sizes, **config}).double()


def address(memory, head, M, before):
    """One head, slot by slot."""
    N, W = M.shape
    key, strength, gate, shift, sharpness = head.split((W, 1, 1, 3, 1))
    scores = []
    for i in range(N):
        similarity = (key * M[i]).sum() / (key.norm() * M[i].norm() + 1e-6)
        scores.append((1 + F.softplus(strength)) * similarity)
    content = torch.cat(scores).softmax(0)
    gated = gate.sigmoid() * content + (1 - gate.sigmoid()) * before
    shift = shift.softmax(0)
    moved = torch.stack([sum(shift[s + 1] * gated[(i - s) % N] for s in (-1, 0, 1)) for i in range(N)])
    sharp = (moved + 1e-6) ** (1 + F.softplus(sharpness))
    return sharp / sharp.sum()


def by_hand(memory, x, resets):
    c = memory.config
    outputs = []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            M = torch.full((c.slots, c.slot_dim), 1e-6, dtype=torch.float64)
            w = [F.one_hot(torch.tensor(0), c.slots).double()] * (c.read_heads + 1)
            reads, h, cell = (torch.zeros(k, dtype=torch.float64) for k in (c.read_heads * c.slot_dim, 7, 7))
        i, f, g, o = (memory.input(token) + memory.recurrent(torch.cat([h, reads]))).chunk(4)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        h = o.sigmoid() * cell.tanh()
        emitted = memory.interface(h)
        erase, add = emitted[-2 * c.slot_dim :].chunk(2)
        heads = emitted[: -2 * c.slot_dim].view(c.read_heads + 1, -1)
        w = [address(memory, head, M, before) for head, before in zip(heads, w)]
        M = torch.stack([M[n] * (1 - w[-1][n] * erase.sigmoid()) + w[-1][n] * add for n in range(c.slots)])
        reads = torch.cat([weights @ M for weights in w[:-1]])
        outputs.append(memory.readout(torch.cat([h, reads])))
    return torch.stack(outputs), M


def test_equals_the_equations():
    memory = build()
    x, resets = 3 * torch.randn(9, D, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 0, 0, 1, 0, 0]).bool()
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        want, M = by_hand(memory, x, resets)
    assert torch.allclose(y[0], want, atol=1e-12) and torch.allclose(state["M"][0], M, atol=1e-12)


def test_heads_are_distributions_on_any_tape():
    memory = build()
    with torch.no_grad():
        state = memory.sequence(5 * torch.randn(3, 200, D, dtype=torch.float64))[1]
    assert (state["w"] >= 0).all()
    assert torch.allclose(state["w"].sum(-1), torch.ones(3, 3, dtype=torch.float64), atol=1e-12)


def test_a_shift_moves_the_head_along_the_tape():
    memory = build(read_heads=1)
    W = memory.config.slot_dim
    with torch.no_grad():
        memory.interface.weight.zero_()
        memory.interface.bias.zero_()
        for head in range(2):
            bias = memory.interface.bias[head * memory.head_size : (head + 1) * memory.head_size]
            bias[W + 1], bias[W + 4], bias[W + 5] = -40.0, 40.0, 5.0
        state = memory.sequence(torch.zeros(1, 4, D, dtype=torch.float64))[1]
    # gate closed, shift by one: four steps from slot 0
    assert state["w"][0].argmax(-1).tolist() == [4, 4]


def test_addressing_by_content_and_writing():
    M = torch.eye(3, dtype=torch.float64).unsqueeze(0)
    key = torch.tensor([[[0.0, 2.0, 0.0]]], dtype=torch.float64)
    assert torch.allclose(cosine(M, key), torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64), atol=1e-6)
    weight = content_weights(M, key, torch.full((1, 1), 200.0, dtype=torch.float64))[:, 0]
    written = erase_add(M, weight, torch.ones(1, 3, dtype=torch.float64), torch.full((1, 3), 7.0, dtype=torch.float64))
    assert torch.allclose(written[0, 1], torch.full((3,), 7.0, dtype=torch.float64))
    assert torch.allclose(written[0, [0, 2]], M[0, [0, 2]])


def test_an_empty_slot_has_similarity_zero_and_a_finite_gradient():
    M = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    similarity = cosine(M, torch.zeros(1, 1, 3, dtype=torch.float64))
    similarity.sum().backward()
    assert not similarity.any() and torch.isfinite(M.grad).all()


@pytest.mark.parametrize("config", [{"slots": 2}, {"slot_dim": 0}, {"read_heads": 0}, {"controller": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
