"""What is special about S5; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.s5 import hippo_normal


def build(**config):
    torch.manual_seed(0)
    return make_memory("s5", **{"in_dim": 6, "out_dim": 8, "states": 5, "layers": 1, **config}).double()


def test_layer_is_the_zero_order_hold_with_resets():
    memory = build(learned_init=True)
    with torch.no_grad():
        memory.start.normal_()
    x, resets = torch.randn(2, 40, 6, dtype=torch.float64), torch.rand(2, 40) < 0.1
    ssm = memory.ssms[0]
    A, dt = torch.complex(-ssm.A_log.exp(), ssm.A_imag), ssm.dt_log.exp()
    lam, B = torch.exp(A * dt), torch.view_as_complex(ssm.B)
    start = torch.view_as_complex(memory.start[0])
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets)
        inner = memory.encoder(x)
        u = memory.norms[0](inner)
        s, outputs = start.expand(2, -1), []
        for t in range(40):
            s = torch.where(resets[:, t, None], start, lam * s) + (lam - 1) / A * (u[:, t].to(B.dtype) @ B)
            out = (s @ torch.complex(ssm.C[:, 0], -ssm.C[:, 1])).real + ssm.D * u[:, t]
            value, gate = memory.mixes[0](torch.nn.functional.gelu(out)).chunk(2, -1)
            outputs.append(inner[:, t] + value * gate.sigmoid())
    assert torch.allclose(y, torch.stack(outputs, 1), rtol=1e-10, atol=1e-12)
    assert torch.allclose(torch.view_as_complex(state["s"][:, 0].contiguous()), s, rtol=1e-10, atol=1e-12)


def test_hippo_eigenpairs_rebuild_the_legs_matrix_up_to_its_low_rank_part():
    A, V = hippo_normal(4)
    n = torch.arange(8, dtype=torch.float64)
    root = (2 * n + 1).sqrt()
    legs = -(root.unsqueeze(1) * root).tril(-1) - torch.diag(n + 1)
    p = (n + 0.5).sqrt()
    assert torch.allclose(2 * (V * A @ V.mH).real, legs + p.unsqueeze(1) * p, atol=1e-10)
    assert (A.imag > 0).all() and torch.equal(A.real, torch.full((4,), -0.5, dtype=torch.float64))


def test_hold_is_accurate_at_tiny_steps_in_float32():
    memory = build(states=64, dt_min=1e-6, dt_max=1e-5).float()
    ssm = memory.ssms[0]
    with torch.no_grad():
        found = ssm.discretise()[1]
        A = torch.complex(-ssm.A_log.double().exp(), ssm.A_imag.double())
        hold = torch.expm1(A * ssm.dt_log.double().exp()) / A
        want = torch.view_as_real(hold * torch.view_as_complex(ssm.B.double()))
    assert (found - want).norm() / want.norm() < 1e-6


def test_states_start_with_half_lives_over_the_decades():
    ssm = build(states=256).ssms[0]
    half_life = 0.6931 / (ssm.A_log.exp() * ssm.dt_log.exp())
    assert half_life.min() > 13 and half_life.max() < 1400
    assert 100 < half_life.median() < 180


@pytest.mark.parametrize("config", [{"dt_min": 0.0}, {"dt_min": 0.2}, {"states": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
