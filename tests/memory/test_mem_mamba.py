"""What is special about a state space model with notes; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D, C, P = 8, 4, 3


def build(**config):
    torch.manual_seed(0)
    base = {"layers": 2, "in_dim": 6, "out_dim": 5, "width": D, "heads": 2, "key_dim": 3, "notes": P, "note_dim": C}
    memory = make_memory("mem_mamba", **{**base, **config}).double()
    with torch.no_grad():
        for layer in memory.layers:
            layer.importance[2].bias.zero_()
            layer.importance[2].weight.mul_(8)
            for look in (layer.own, layer.below):
                if look is not None:
                    look.value.weight.normal_()
    return memory


def look_up(module, x, notes):
    """Attention over a list of (note, log importance, age) with a null slot."""
    if not notes:
        return torch.zeros(D, dtype=torch.float64)
    slope = module.slope_log.exp()
    scores = [module.query(x) @ module.key(note) / C**0.5 + score - slope * age for note, score, age in notes]
    total = 1 + sum(score.exp() for score in scores)
    return module.value(sum(score.exp() / total * note for score, (note, *_) in zip(scores, notes)))


def by_hand(memory, x, resets):
    outputs = []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            pools = [[] for _ in memory.layers]
            states = [layer.ssd.initial_state(1) for layer in memory.layers]
        h, taken = memory.embed(token), []
        for i, layer in enumerate(memory.layers):
            logit = layer.importance(h)[0]
            taken.append((layer.note(h), F.logsigmoid(logit)) if logit > 0 else None)
            aged = [[(*note, len(pool) - j) for j, note in enumerate(pool)] for pool in pools]
            h = h + layer.forgetting(h).sigmoid() * look_up(layer.own, h, aged[i])
            if layer.below is not None:
                h = h + look_up(layer.below, h, [note for pool in aged[:i] for note in pool])
            # the state space model itself is checked in test_ssd.py
            out, states[i] = layer.ssd.step(h.unsqueeze(0), states[i])
            h = out[0]
        pools = [(pool + [note])[-P:] if note else pool for pool, note in zip(pools, taken)]
        outputs.append(memory.readout(h / h.norm().clamp_min(1e-2) * D**0.5))
    return torch.stack(outputs), pools


@pytest.mark.parametrize("config", [{}, {"layers": 3, "cross": 1}, {"layers": 1}, {"threshold": 0.0}])
def test_equals_the_equations(config):
    memory = build(**config)
    x = torch.randn(50, 6, dtype=torch.float64)
    resets = torch.rand(50, generator=torch.Generator().manual_seed(3)) < 0.06
    with torch.no_grad():
        if "threshold" in config:
            for layer in memory.layers:
                layer.importance[2].weight.zero_()
                layer.importance[2].bias.fill_(1.0)
        want, pools = by_hand(memory, x, resets)
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0), chunk=8)
    assert torch.allclose(y[0], want, atol=1e-9)
    for i, pool in enumerate(pools):
        assert state[f"layer{i}/fill"] == len(pool)
        for slot, (note, _) in enumerate(reversed(pool)):
            assert torch.allclose(state[f"layer{i}/notes"][0, P - 1 - slot], note, atol=1e-10)


def test_only_important_tokens_are_noted_and_stay_until_others_come():
    memory = build(layers=1)
    with torch.no_grad():
        memory.layers[0].importance[2].weight.zero_()
        memory.layers[0].importance[2].bias.fill_(-1.0)
        x = torch.randn(1, 20, 6, dtype=torch.float64)
        state = memory.sequence(x)[1]
        assert state["layer0/fill"] == 0 and not state["layer0/notes"].any()
        memory.layers[0].importance[2].bias.fill_(1.0)
        noted = memory.sequence(x)[1]
        assert noted["layer0/fill"] == P
        memory.layers[0].importance[2].bias.fill_(-1.0)
        later = memory.sequence(torch.randn(1, 500, 6, dtype=torch.float64), noted)[1]
    assert torch.equal(later["layer0/notes"], noted["layer0/notes"])


def test_importance_learns_from_what_its_notes_are_read_for():
    memory = build(layers=1)
    x = torch.randn(1, 12, 6, dtype=torch.float64)
    memory.sequence(x)[0][:, -1].square().sum().backward()
    assert memory.layers[0].importance[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("config", [{"layers": 0}, {"width": 7}, {"notes": 0}, {"threshold": 1.0}, {"cross": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
