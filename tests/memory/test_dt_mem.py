"""What is special about the working memory of DT-Mem; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 4, "slot_dim": 6, "read_heads": 2}
    return make_memory("dt_mem", **{**sizes, **config}).double()


def by_content(M, key, strength):
    scores = [(1 + F.softplus(strength)) * (key @ row) / (key.norm() * row.norm() + 1e-6) for row in M]
    return torch.stack(scores).softmax(0)


def by_hand(memory, x, resets):
    c = memory.config
    outputs = []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            M = memory.start
        key, strength, value, gates, keys, strengths = memory.project(token).split(memory.sizes)
        w = by_content(M, key, strength[0])
        candidate = memory.norm(value + memory.mlp(value))
        f, i = (gates + memory.gate_memory((w @ M).tanh())).sigmoid().chunk(2)
        M = torch.stack([row + w_i * (f - 1) * row + w_i * i * candidate for w_i, row in zip(w, M)])
        reads = [by_content(M, k, s) @ M for k, s in zip(keys.view(c.read_heads, -1), strengths)]
        outputs.append(memory.out(torch.cat(reads)) + memory.skip(token))
    return torch.stack(outputs), M


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_equals_the_equations(lora_rank):
    memory = build(lora_rank=lora_rank)
    x, resets = torch.randn(9, D, dtype=torch.float64), torch.tensor([0] * 5 + [1, 0, 1, 0]).bool()
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        want, M = by_hand(memory, x, resets)
    assert torch.allclose(y[0], want, atol=1e-12) and torch.allclose(state["M"][0], M, atol=1e-12)


def test_what_is_held_persists_between_calls():
    """The published memory is drawn anew at every call."""
    memory = build()
    x = torch.randn(2, 6, D, dtype=torch.float64)
    with torch.no_grad():
        once, _ = memory.sequence(x)
        first, state = memory.sequence(x[:, :3])
        second, _ = memory.sequence(x[:, 3:], state)
        again, _ = memory.sequence(x)
    assert torch.allclose(torch.cat([first, second], 1), once, atol=1e-12) and torch.equal(again, once)


def test_gates_at_their_limits():
    memory = build()
    x, M = torch.randn(2, 5, D, dtype=torch.float64), torch.randn(2, 4, 6, dtype=torch.float64)
    gates = slice(6 + 1 + 6, 6 + 1 + 6 + 12)
    with torch.no_grad():
        memory.gate_memory.weight.zero_()
        memory.project.base.weight[gates] = 0
        memory.project.base.bias[gates] = torch.tensor([40.0] * 6 + [-40.0] * 6, dtype=torch.float64)
        assert torch.allclose(memory.sequence(x, {"M": M})[1]["M"], M, atol=1e-12)


def test_an_episode_starts_with_distinct_slots():
    start = build().initial_state(1)["M"][0]
    assert (torch.cdist(start, start) + torch.eye(4, dtype=torch.float64) > 0.1).all()


def test_adapting_moves_the_low_rank_weights_only():
    memory = build(lora_rank=2)
    x = torch.randn(2, 6, D, dtype=torch.float64)
    with torch.no_grad():
        # B starts at zero, so adapting starts from the trained memory
        assert torch.allclose(memory.project(x), memory.project.base(x), atol=1e-15)
    trained = memory.adapt()
    assert sum(p.numel() for p in trained) < 0.5 * sum(p.numel() for p in memory.parameters())
    optimiser = torch.optim.SGD(trained, 0.1)
    kept = memory.project.base.weight.clone()
    for _ in range(2):
        memory.sequence(x)[0].square().sum().backward()
        optimiser.step()
    assert torch.equal(memory.project.base.weight, kept) and memory.project.B.any()
    with pytest.raises(UsageError, match="expected lora_rank >= 1"):
        build().adapt()


@pytest.mark.parametrize("config", [{"slots": 0}, {"slot_dim": 0}, {"read_heads": 0}, {"lora_rank": -1}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
