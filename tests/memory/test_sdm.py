"""What is special about sparse distributed memory; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.sdm import activation, sdm_beta

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "locations": 30, "bits": 8, "radius": 2, "value_dim": 3}
    return make_memory("sdm", **{**sizes, **config}).double()


def by_hand(memory, x, resets):
    c = memory.config
    outputs = []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            C = [torch.zeros(c.value_dim, dtype=torch.float64) for _ in range(c.locations)]
        code = memory.address(token)
        code = torch.where(code >= 0, 1.0, -1.0).double() if c.hard else code.tanh()
        active = []
        for place in memory.places:
            distance = (c.bits - place @ code) / 2
            soft = ((c.radius + 0.5 - distance) / c.softness).sigmoid()
            active.append((distance <= c.radius).double() if c.hard else soft)
        read = sum(w * row for w, row in zip(active, C))
        read = read / (read.norm() + 1e-3)
        strength, forget = (1.0, 0.0) if c.hard else memory.gates(token).sigmoid()
        C = [(1 - forget * w) * row + strength * w * memory.value(token) for w, row in zip(active, C)]
        outputs.append(memory.out(read) + memory.skip(token))
    return torch.stack(outputs), torch.stack(C)


@pytest.mark.parametrize("hard", [True, False])
def test_equals_the_equations(hard):
    memory = build(hard=hard)
    x, resets = torch.randn(9, D, dtype=torch.float64), torch.tensor([0] * 5 + [1, 0, 1, 0]).bool()
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        want, C = by_hand(memory, x, resets)
    assert torch.allclose(y[0], want, atol=1e-12) and torch.allclose(state["C"][0], C, atol=1e-12)


def test_a_write_forgets_only_where_it_falls():
    memory = build(softness=0.02)
    C = torch.randn(1, 30, 3, dtype=torch.float64)
    with torch.no_grad():
        # whole bits, so that a location is either active or not
        memory.address.weight.mul_(1e3)
        x = torch.randn(1, D, dtype=torch.float64)
        active = memory.active(x)[0] > 0.5
        after = memory.step(x, {"C": C})[1]["C"]
    assert active.any() and not active.all()
    assert torch.allclose(after[0, ~active], C[0, ~active], atol=1e-9)
    assert not torch.allclose(after[0, active], C[0, active])


def test_share_of_active_locations_is_the_binomial_tail():
    torch.manual_seed(0)
    places = torch.randint(2, (20_000, 64)) * 2.0 - 1
    address = torch.randint(2, (64,)) * 2.0 - 1
    found = ((64 - places @ address) / 2 <= 26).double().mean()
    assert abs(float(found) - activation(64, 26)) < 0.006


def test_a_larger_radius_is_a_softer_attention():
    betas = [sdm_beta(64, radius) for radius in (18, 22, 26, 29)]
    assert betas == sorted(betas, reverse=True)
    # 64 bits, 8 % active: measured best beta 2.5
    assert 2.0 < sdm_beta(64, 26) < 3.2


def test_reads_as_softmax_attention_does():
    """24 patterns in 20 000 locations, read at addresses with 12 % of the bits flipped."""
    torch.manual_seed(0)
    bits, radius, patterns = 64, 26, 24
    places = torch.randint(2, (20_000, bits)) * 2.0 - 1
    addresses = torch.randint(2, (patterns, bits)) * 2.0 - 1
    flips = torch.where(torch.rand(patterns, bits) < 0.12, -1.0, 1.0)
    queries = addresses * flips
    near = lambda a: ((bits - a @ places.T) / 2 <= radius).float()  # noqa: E731
    weights = near(queries) @ near(addresses).T
    weights = weights / weights.sum(1, keepdim=True)
    attention = (sdm_beta(bits, radius) * queries @ addresses.T / bits).softmax(1)
    values = torch.randn(patterns, 16)
    both = torch.stack([(weights @ values).flatten(), (attention @ values).flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95


@pytest.mark.parametrize("config", [{"locations": 0}, {"radius": 8}, {"radius": -1}, {"softness": 0.0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
    with pytest.raises(UsageError, match="expected 0 <= radius"):
        sdm_beta(8, 8)
