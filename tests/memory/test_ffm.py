"""What is special about FFM; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

M, C, D = 5, 3, 8


def build(**config):
    torch.manual_seed(0)
    return make_memory("ffm", **{"in_dim": 6, "out_dim": D, "traces": M, "contexts": C, **config}).double()


def gamma(memory):
    return torch.exp(torch.complex(-memory.decay_log.exp().unsqueeze(1).expand(-1, C), memory.frequency.expand(M, -1)))


def test_sequence_is_the_complex_equation_with_resets():
    memory = build()
    x, resets = torch.randn(2, 40, 6, dtype=torch.float64), torch.rand(2, 40) < 0.1
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets)
        S, outputs = torch.zeros(2, M, C, dtype=torch.complex128), []
        for t in range(40):
            v, thru, g_in, g_out = memory.pre(x[:, t]).split((M, D, M, D), -1)
            S = torch.where(resets[:, t].view(2, 1, 1), 0, gamma(memory) * S) + (v * g_in.sigmoid()).unsqueeze(-1)
            z = F.layer_norm(memory.mix(torch.view_as_real(S).flatten(1)), (D,))
            outputs.append(z * g_out.sigmoid() + thru * (1 - g_out.sigmoid()))
    assert torch.allclose(y, torch.stack(outputs, 1), rtol=1e-9, atol=1e-11)
    assert torch.allclose(torch.view_as_complex(state["s"]), S, rtol=1e-10, atol=1e-12)


def test_traces_equal_the_closed_form_of_the_authors_over_a_thousand_steps():
    """Theirs scales by exp(-a t), sums, and scales back, in float64; ours runs in float32."""
    memory = build()
    with torch.no_grad():
        # their form overflows unless every decay leaves something after all steps
        memory.decay_log.clamp_(max=math.log(300 / 1024))
        x = torch.randn(1, 1024, 6, dtype=torch.float64)
        v, _, g_in, _ = memory.pre(x).split((M, D, M, D), -1)
        power = torch.arange(1024, dtype=torch.float64).view(-1, 1, 1) * torch.log(gamma(memory))
        scaled = (v * g_in.sigmoid())[0].unsqueeze(-1) * torch.exp(-power)
        want = (scaled.cumsum(0) * torch.exp(power))[-1]
        found = torch.view_as_complex(memory.float().sequence(x.float())[1]["s"][0])
    assert (found.to(want.dtype) - want).abs().max() < 1e-4 * want.abs().max()


def test_traces_start_with_one_percent_left_after_one_to_longest_steps():
    memory = build(longest=100)
    left = torch.exp(-memory.decay_log.exp() * torch.linspace(1, 100, M).double())
    assert torch.allclose(left, torch.full((M,), 0.01, dtype=torch.float64), rtol=1e-5)
    period = 2 * math.pi / memory.frequency
    assert torch.allclose(period, torch.linspace(1, 100, C).double(), rtol=1e-5)


def test_state_is_one_kibibyte_at_the_size_of_the_paper():
    assert make_memory("ffm").bytes_per_env() == 1024


def test_impossible_configs_are_refused():
    with pytest.raises(UsageError, match="expected traces, contexts and longest >= 1"):
        build(contexts=0)
