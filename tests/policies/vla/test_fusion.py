"""Any registered memory by one key: step equals sequence, the three ways of joining, and what is refused."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.policies.vla.fusion import TokenMemory

P, D_P, D_C = 2, 8, 16
MEMORIES = {
    "perceptual_cognitive_bank": {"slots": 3},
    "lstm": {"out_dim": 12},
    "gated_delta": {"out_dim": 16},
    "memo_summary": {"out_dim": 12, "segment": 4, "width": 8},
    "rmt": {"out_dim": 12, "segment": 3, "width": 8, "memory_tokens": 2},
    "dt_mem": {"out_dim": 12, "slots": 4, "slot_dim": 6},
    "none": {"out_dim": 12},
}


def build(name, fusion="gate", **options):
    torch.manual_seed(0)
    options = {**MEMORIES.get(name, {}), **options}
    return TokenMemory(name, options, tokens=P, width=D_P, cognitive=D_C, fusion=fusion).double().eval()


def frames(*lead):
    g = torch.Generator().manual_seed(1)
    return (torch.randn(*lead, *size, generator=g, dtype=torch.float64) for size in ((P, D_P), (D_C,)))


@pytest.mark.parametrize("name", sorted(MEMORIES))
@pytest.mark.parametrize("fusion", ["gate", "add", "prefix"])
@torch.no_grad()
def test_the_step_loop_equals_the_sequence(name, fusion):
    memory = build(name, fusion)
    perceptual, cognitive = frames(2, 9)
    resets = torch.zeros(2, 9, dtype=torch.bool)
    resets[1, 4] = True
    fused, thought, _ = memory.sequence(perceptual, cognitive, None, resets, None, {})
    assert fused.shape == (2, 9, memory.perceptual, D_P) and thought.shape == (2, 9, D_C)
    state = memory.initial_state(2)
    for t in range(9):
        one, two, state = memory.step(perceptual[:, t], cognitive[:, t], state, resets[:, t], {})
        assert torch.allclose(one, fused[:, t], atol=1e-10) and torch.allclose(two, thought[:, t], atol=1e-10)


@pytest.mark.parametrize("name", sorted(MEMORIES))
def test_only_memories_let_the_past_through(name):
    memory = build(name)
    perceptual, cognitive = frames(1, 6)
    perceptual.requires_grad_(True)
    fused, _, _ = memory.sequence(perceptual, cognitive, None, None, None, {})
    (gradient,) = torch.autograd.grad(fused[:, -1].sum(), perceptual)
    assert bool(gradient[:, :-1].any()) == ("stateless" not in memory.properties)
    assert gradient[:, -1].any()


@torch.no_grad()
def test_the_gate_of_any_memory_is_the_share_of_the_current_tokens():
    memory = build("lstm")
    perceptual, cognitive = frames(2, 3)
    for gate in memory.gates:
        gate.bias.fill_(60.0)
    fused, thought, _ = memory.sequence(perceptual, cognitive, None, None, None, {})
    assert torch.allclose(fused, perceptual, atol=1e-12) and torch.allclose(thought, cognitive, atol=1e-12)


@torch.no_grad()
def test_a_prefix_keeps_the_current_tokens_as_they_are():
    memory = build("lstm", "prefix")
    perceptual, cognitive = frames(2, 3)
    fused, thought, _ = memory.sequence(perceptual, cognitive, None, None, None, {})
    assert torch.equal(fused[:, :, :P], perceptual) and torch.equal(thought, cognitive)
    assert not torch.allclose(fused[:, :, P:], perceptual)


def test_widths_follow_from_the_tokens():
    with pytest.raises(UsageError, match="expected memory_config.in_dim = 32"):
        build("lstm", in_dim=5)
    with pytest.raises(UsageError, match="expected memory_config.cognitive_dim = 16"):
        build("perceptual_cognitive_bank", cognitive_dim=8)
    with pytest.raises(UsageError, match="did you mean 'lstm'"):
        build("lstmm")
    with pytest.raises(UsageError, match="did you mean 'slots'"):
        build("perceptual_cognitive_bank", slot=3)
