"""What is special about LRU; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory


def build(**config):
    torch.manual_seed(0)
    return make_memory("lru", **{"in_dim": 6, "out_dim": 8, "states": 5, "layers": 1, **config}).double()


def test_layer_is_the_complex_equation_with_resets():
    memory = build(learned_init=True)
    with torch.no_grad():
        memory.start.normal_()
    x, resets = torch.randn(2, 40, 6, dtype=torch.float64), torch.rand(2, 40) < 0.1
    ssm = memory.ssms[0]
    lam = torch.exp(torch.complex(-ssm.nu.exp(), ssm.theta.exp()))
    gamma, B, C = ssm.gamma_log.exp(), torch.view_as_complex(ssm.B), ssm.C
    start = torch.view_as_complex(memory.start[0])
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets)
        inner = memory.encoder(x)
        u = memory.norms[0](inner)
        s, outputs = start.expand(2, -1), []
        for t in range(40):
            s = torch.where(resets[:, t, None], start, lam * s) + gamma * (u[:, t].to(B.dtype) @ B)
            # C holds the real part of its product with s, so its imaginary part has the sign turned
            out = (s @ torch.complex(C[:, 0], -C[:, 1])).real + ssm.D * u[:, t]
            value, gate = memory.mixes[0](torch.nn.functional.gelu(out)).chunk(2, -1)
            outputs.append(inner[:, t] + value * gate.sigmoid())
    assert torch.allclose(y, torch.stack(outputs, 1), rtol=1e-10, atol=1e-12)
    assert torch.allclose(torch.view_as_complex(state["s"][:, 0].contiguous()), s, rtol=1e-10, atol=1e-12)


def test_eigenvalues_start_on_the_ring_with_inputs_normalised():
    ssm = build(states=4000, r_min=0.5, r_max=0.9, max_phase=0.25).ssms[0]
    lam = torch.view_as_complex(ssm.discretise()[0].contiguous()).detach()
    assert lam.abs().min() >= 0.5 - 1e-6 and lam.abs().max() <= 0.9 + 1e-6
    # uniform by area: half of them lie outside the radius that halves the ring
    assert abs((lam.abs() > math.sqrt((0.25 + 0.81) / 2)).double().mean() - 0.5) < 0.05
    assert lam.angle().min() >= 0 and lam.angle().max() <= math.pi / 2 + 1e-6
    assert torch.allclose(ssm.gamma_log.exp().square(), 1 - lam.abs().square(), rtol=1e-5)


def test_reset_replaces_the_state_instead_of_scaling_it():
    memory = build(learned_init=True)
    with torch.no_grad():
        memory.start.fill_(3.0)
        carried = {"s": torch.full((1, 1, 5, 2), 1e9, dtype=torch.float64)}
        x, opens = torch.randn(1, 6, dtype=torch.float64), torch.ones(1, dtype=torch.bool)
        _, found = memory.step(x, carried, opens)
        u = memory.norms[0](memory.encoder(x))
        want = memory.start[0] + torch.einsum("nd,dpc->npc", u, memory.ssms[0].discretise()[1])
    assert torch.allclose(found["s"][:, 0], want)


@pytest.mark.parametrize("config", [{"r_min": 0.9, "r_max": 0.9}, {"r_max": 1.0}, {"max_phase": 0.0}, {"layers": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
