"""What is special about the gated associative memory; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.memory.contract import make_memory


def build(**config):
    torch.manual_seed(0)
    memory = make_memory("gated_associative_memory", **{"in_dim": 8, "out_dim": 8, "taps": 3, "slots": 5, **config})
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return memory.double()


def test_sequence_is_the_equation_with_resets():
    memory = build()
    x, resets = torch.randn(2, 12, 8, dtype=torch.float64), torch.rand(2, 12) < 0.2
    with torch.no_grad():
        y, _ = memory.sequence(x, None, resets)
        for row in range(2):
            for t in range(12):
                h = memory.norm(x[row])
                start = max([s for s in range(t + 1) if resets[row, s]], default=0)
                local = sum(memory.taps[j] * h[t - j] for j in range(3) if t - j >= start)
                known = F.softmax(memory.bank @ h[t], 0) @ memory.bank
                z = x[row, t] + memory.local_gate.sigmoid() * local + memory.bank_gate.sigmoid() * known
                first, _, second = memory.feed
                want = z + second(F.gelu(first(memory.norm_out(z))))
                assert torch.allclose(y[row, t], want, rtol=1e-9, atol=1e-11)


def test_nothing_reaches_further_than_the_taps():
    memory = build(taps=4)
    x = torch.randn(1, 10, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(memory.sequence(x)[0][:, -1].sum(), x)
    assert not gradient[:, :6].any() and gradient[:, 6:].any(-1).all()


def test_bad_config():
    with pytest.raises(ValueError, match="expected taps >= 2"):
        build(taps=1)
