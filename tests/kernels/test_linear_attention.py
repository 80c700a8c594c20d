"""What is particular to linear attention: a sequence may be cut, a hidden state may be anything."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.kernels import reset_linear_attention


def draw(T=11, **kinds):
    g = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(2, T, 2, 4, generator=g) for name in ("q", "k", "v")}
    inputs["k"] = F.normalize(inputs["k"], dim=-1)
    inputs["log_decay"] = -torch.rand(2, T, 2, *((4,) if kinds.get("channel") else ()), generator=g)
    if kinds.get("delta"):
        inputs["beta"] = torch.rand(2, T, 2, generator=g)
    inputs["reset"] = torch.rand(2, T, generator=g) < 0.3
    return inputs, torch.randn(2, 2, 4, 4, generator=g), torch.randn(2, 4, 4, generator=g)


@pytest.mark.parametrize("kinds", [{}, {"delta": True}, {"channel": True}])
def test_two_parts_equal_the_whole(kinds):
    inputs, S0, S_init = draw(**kinds)
    o, S = reset_linear_attention(**inputs, S0=S0, S_init=S_init)
    first, middle = reset_linear_attention(**{n: z[:, :4] for n, z in inputs.items()}, S0=S0, S_init=S_init)
    second, last = reset_linear_attention(**{n: z[:, 4:] for n, z in inputs.items()}, S0=middle, S_init=S_init)
    torch.testing.assert_close(torch.cat([first, second], 1), o, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, S, rtol=1e-4, atol=1e-5)


def test_the_operator_saves_states_only_for_a_gradient():
    inputs, S0, _ = draw()
    order = ("q", "k", "v", "log_decay", "beta", "reset")
    given = [inputs.get(name) for name in order]
    for save, count in ((True, 1), (False, 0)):
        states = torch.ops.embodied_mem.reset_linear_attention(*given, S0, None, save)[2]
        assert states.shape == (2, 2, count, 4, 4)


@pytest.mark.parametrize("kinds", [{}, {"delta": True}, {"channel": True}])
def test_a_nan_state_ends_with_its_episode(kinds):
    inputs, S0, S_init = draw(**kinds)
    inputs["reset"] = torch.zeros(2, 11, dtype=torch.bool)
    inputs["reset"][:, 5] = True
    want, _ = reset_linear_attention(**inputs, S0=S0, S_init=S_init)
    broken = S0.clone()
    broken[1, 0, 2, 3] = torch.nan
    leaf = inputs["v"].requires_grad_()
    o, S = reset_linear_attention(**inputs, S0=broken, S_init=S_init)
    torch.testing.assert_close(o[0], want[0])
    torch.testing.assert_close(o[1, 5:], want[1, 5:])
    assert o[1, :5].isnan().all() and S.isfinite().all()
    (after,) = torch.autograd.grad(o[1, 5:].sum(), leaf)
    assert after.isfinite().all()
    inputs["reset"][:] = False
    _, S = reset_linear_attention(**inputs, S0=broken, S_init=S_init)
    assert S[1].isnan().all() and S[0].isfinite().all()
