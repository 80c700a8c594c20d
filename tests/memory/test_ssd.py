"""What is special about SSD (Mamba-2); the contract itself is in test_contract_*.py."""

import math

import torch
from torch.nn import functional as F

from embodied_mem.memory.contract import make_memory

H, N, V = 2, 5, 3


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": H, "key_dim": N, "value_dim": V, "conv": 1}
    return make_memory("ssd", **{**base, **config}).double()


def projected(memory, x):
    """x, B, C, gate and dt of one token, before the convolution (of one tap)."""
    pre, gate, dt = (x @ memory.project + memory.bias).split((H * V + 2 * N, H * V, H), -1)
    value, B, C = F.silu(pre).split((H * V, N, N), -1)
    return value.view(len(x), H, V), B, C, gate, F.softplus(dt)


def test_sequence_is_the_equation_with_resets():
    memory = build(learned_init=True)
    with torch.no_grad():
        memory.S_init.normal_()
        memory.D.normal_()
    x, resets = torch.randn(3, 40, 6, dtype=torch.float64), torch.rand(3, 40) < 0.1
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets, chunk=16)
        S, outputs = memory.S_init.expand(3, -1, -1, -1), []
        for t in range(40):
            value, B, C, gate, dt = projected(memory, x[:, t])
            decay = torch.exp(-memory.A_log.exp() * dt).view(3, H, 1, 1)
            S = torch.where(resets[:, t].view(3, 1, 1, 1), memory.S_init, decay * S)
            S = S + torch.einsum("nk,nhv->nhkv", B, dt.unsqueeze(-1) * value)
            o = torch.einsum("nk,nhkv->nhv", C, S) + memory.D.unsqueeze(-1) * value
            read = o.flatten(1) * F.silu(gate)
            read = read / read.square().mean(-1, keepdim=True).sqrt()
            outputs.append(x[:, t] @ memory.skip + read @ memory.out)
    assert torch.allclose(y, torch.stack(outputs, 1), rtol=1e-9, atol=1e-11)
    assert torch.allclose(state["S"], S, rtol=1e-10, atol=1e-12)


def test_without_decay_and_with_steps_of_one_it_is_linear_attention():
    memory = build(mimetic=True)
    with torch.no_grad():
        memory.A_log.fill_(-torch.inf)
        x = torch.randn(2, 30, 6, dtype=torch.float64)
        state = memory.sequence(x)[1]
        value, B, *_ = projected(memory, x.flatten(0, 1))
        want = torch.einsum("btk,bthv->bhkv", B.view(2, 30, N), value.view(2, 30, H, V))
    assert torch.allclose(state["S"], want, rtol=1e-6)


def test_steps_and_rates_start_in_their_ranges():
    memory = build(heads=4000, value_dim=1)
    dt = F.softplus(memory.bias[-4000:])
    assert 1e-3 - 1e-6 <= dt.min() and dt.max() <= 1e-1 + 1e-6
    assert abs((dt < 1e-2).double().mean() - 0.5) < 0.05
    assert memory.A_log.exp().max() <= 16 and abs(memory.A_log.exp().mean() - 8) < 0.5


def test_mimetic_start_reads_what_is_alike_and_passes_its_input():
    memory = build(mimetic=True, conv=4)
    with torch.no_grad():
        _, B, C, _, dt = projected(memory, torch.randn(7, 6, dtype=torch.float64))
        assert torch.equal(B, C)
        assert torch.allclose(dt, torch.ones_like(dt), rtol=1e-6)
        assert torch.equal(memory.conv[0], torch.ones_like(memory.conv[0])) and not memory.conv[1:].any()
        # after 1024 steps half is left
        assert torch.allclose(memory.A_log.exp() * 1024, torch.full((H,), math.log(2), dtype=torch.float64), rtol=1e-5)


def test_mimetic_start_recalls_better_than_the_default():
    """Eight random tokens, then each again: how far the right one stands out before any training."""

    def margin(mimetic):
        scores = []
        for seed in range(5):
            torch.manual_seed(seed)
            memory = make_memory("ssd", in_dim=32, out_dim=32, mimetic=mimetic)
            x = torch.randn(1, 8, 32)
            pre = (x @ memory.project + memory.bias)[..., : memory.sizes[0]]
            B, C = F.silu(pre)[0, :, -128:].split(64, -1)
            weight = C @ B.T
            scores.append((weight.diagonal().mean() - weight.mean()) / weight.std())
        return torch.stack(scores).mean()

    with torch.no_grad():
        assert margin(True) > margin(False) + 0.5
