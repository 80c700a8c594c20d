"""What is special about the gated delta memory; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory


def build(**config):
    torch.manual_seed(0)
    return make_memory("gated_delta", **{"in_dim": 6, "out_dim": 8, **config})


def half_lives(memory):
    """Steps after which each head has forgotten half, at an input of zero."""
    with torch.no_grad():
        *_, log_decay, _ = memory._token(torch.zeros(1, memory.sizes[0]), memory.bias[-memory.config.heads * 2 :])
    return (math.log(2) / -log_decay).view(-1)


def test_heads_start_with_half_lives_spaced_in_the_logarithm_and_some_never_forget():
    found = half_lives(build(heads=5, persistent_heads=2, shortest_half_life=4.0, longest_half_life=400.0))
    assert torch.isinf(found[:2]).all()
    assert torch.allclose(found[2:], torch.tensor([4.0, 40.0, 400.0]), rtol=1e-4)


def test_persistent_head_holds_what_it_holds_while_nothing_is_written():
    memory = build(heads=2, persistent_heads=1, conv=1)
    with torch.no_grad():
        state = memory.sequence(torch.randn(1, 5, 6))[1]
        # an input of zero has a key of zero: it decays, but writes nothing
        later = memory.sequence(torch.zeros(1, 3000, 6), state)[1]
    assert torch.allclose(later["S"][:, 0], state["S"][:, 0], rtol=1e-5)
    assert later["S"][:, 1].abs().max() < 1e-3 + state["S"][:, 1].abs().max() / 2


def test_cue_shown_once_is_told_apart_after_a_thousand_equal_steps():
    """The fast weights forget only what is overwritten, so untrained weights still hold the first input."""
    memory = build()
    blank = torch.randn(6)
    x = blank.expand(2, 1001, 6).clone()
    x[:, 0] = torch.randn(2, 6)
    with torch.no_grad():
        y = memory.sequence(x)[0][:, -1]
    x[:, 0] = x[:1, 0]
    with torch.no_grad():
        same = memory.sequence(x)[0][:, -1]
    assert (y[0] - y[1]).abs().max() > 1e-2
    assert torch.equal(same[0], same[1])


def test_saturated_gates_stay_finite_in_both_directions():
    memory = build()
    with torch.no_grad():
        memory.bias[-4:] = 200.0
    x = torch.randn(2, 50, 6, requires_grad=True)
    y, state = memory.sequence(x, None, torch.rand(2, 50) < 0.1)
    (y.sum() + state["S"].sum()).backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in memory.parameters())


def test_learned_start_gets_gradient_from_every_reset():
    memory = build(learned_init=True)
    x = torch.randn(1, 12, 6)
    resets = torch.zeros(1, 12, dtype=torch.bool)
    resets[0, [4, 9]] = True
    carried = {key: value.detach() for key, value in memory.initial_state(1).items()}
    memory.sequence(x, carried, resets)[0].square().sum().backward()
    assert memory.S_init.grad.abs().sum() > 0


def test_negative_eigenvalues_double_the_write_strength():
    plain, negative = build(), build(neg_eigval=True)
    negative.load_state_dict(plain.state_dict())
    gates = torch.randn(3, 8)
    with torch.no_grad():
        beta = plain._token(torch.zeros(3, plain.sizes[0]), gates)[-1]
        assert torch.allclose(negative._token(torch.zeros(3, plain.sizes[0]), gates)[-1], 2 * beta)


@pytest.mark.parametrize(
    "config",
    [{"heads": 0}, {"conv": 0}, {"persistent_heads": 5}, {"shortest_half_life": 9.0, "longest_half_life": 8.0}],
)
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)


@pytest.mark.parametrize("conv", [1, 4])
def test_tied_keys_start_equal_to_the_queries(conv):
    memory = build(tied_keys=True, conv=conv)
    pre = (torch.randn(3, 6) @ memory.project)[:, : memory.sizes[0]]
    if memory.conv is not None:
        pre = pre * memory.conv[1]
    q, k, *_ = memory._token(pre, torch.zeros(3, 8))
    assert torch.equal(q, k)
