"""What is special about MesaNet; the contract itself is in test_contract_*.py."""

import torch
from torch.nn import functional as F

from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.fast_weights import Token

H, K, V = 2, 5, 3
WIDTH = H * (2 * K + V)


def build(**config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 8, "heads": H, "key_dim": K, "value_dim": V, "conv": 1}
    return make_memory("mesa_net", **{**base, **config}).double()


def test_sequence_is_the_equation_with_resets():
    memory = build(learned_init=True)
    with torch.no_grad():
        memory.S_init.normal_()
        memory.ridge.normal_()
    x, resets = torch.randn(3, 40, 6, dtype=torch.float64), torch.rand(3, 40) < 0.1
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets, chunk=16)
        S = memory.S_init.expand(3, -1, -1, -1)
        G, outputs = torch.zeros(3, H, K, K, dtype=torch.float64), []
        lam = torch.diag_embed(0.25 + F.softplus(memory.ridge))
        for t in range(40):
            pre, gate, gates = (x[:, t] @ memory.project + memory.bias).split((WIDTH, H * V, 2 * H), -1)
            q, k, v = F.silu(pre).view(3, H, 2 * K + V).split((K, K, V), -1)
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
            b, decay = gates[:, :H].sigmoid(), torch.exp(-F.softplus(gates[:, H:]))[..., None, None]
            opens = resets[:, t].view(3, 1, 1, 1)
            G = torch.where(opens, 0, decay * G) + torch.einsum("nh,nhk,nhl->nhkl", b, k, k)
            S = torch.where(opens, memory.S_init, decay * S) + torch.einsum("nh,nhk,nhv->nhkv", b, k, v)
            o = torch.einsum("nhk,nhkl,nhlv->nhv", q, torch.linalg.inv(G + lam), S)
            o = o / o.square().mean(-1, keepdim=True).sqrt()
            outputs.append(x[:, t] @ memory.skip + (o.flatten(1) * F.silu(gate)) @ memory.out)
    assert torch.allclose(y, torch.stack(outputs, 1), rtol=1e-8, atol=1e-10)
    assert torch.allclose(state["S"], S, rtol=1e-10, atol=1e-12)
    assert torch.allclose(state["G"], G, rtol=1e-10, atol=1e-12)


def test_read_is_ridge_regression_over_the_episode():
    memory = build(heads=1)
    with torch.no_grad():
        memory.ridge.fill_(-50.0)
    k, v = F.normalize(torch.randn(1, 20, 1, K, dtype=torch.float64), dim=-1), torch.randn(1, 20, 1, V).double()
    token = Token(k, k, v, torch.zeros(1, 20, 1).double(), torch.ones(1, 20, 1).double())
    with torch.no_grad():
        o, _ = memory.run(token, memory.initial_state(1), torch.zeros(1, 20, dtype=torch.bool), None, None, 8)
        # the rows of the regression and, for its ridge of 1/4, K rows of half a unit
        rows = torch.cat([k[0, :, 0], 0.5 * torch.eye(K, dtype=torch.float64)])
        targets = torch.cat([v[0, :, 0], torch.zeros(K, V, dtype=torch.float64)])
        best = torch.linalg.lstsq(rows, targets).solution
    assert torch.allclose(o[0, -1, 0], k[0, -1, 0] @ best, rtol=1e-8)


def test_correlated_keys_are_told_apart_where_linear_attention_mixes_them():
    memory = build(heads=1)
    common = torch.randn(K, dtype=torch.float64)
    keys = F.normalize(common + 0.5 * torch.randn(K, K, dtype=torch.float64), dim=-1).repeat(40, 1)
    values = torch.randn(K, V, dtype=torch.float64).repeat(40, 1)
    shape = (1, 40 * K, 1, -1)
    ones = torch.ones(1, 40 * K, 1, dtype=torch.float64)
    token = Token(keys.view(shape), keys.view(shape), values.view(shape), 0 * ones, ones)
    with torch.no_grad():
        o, state = memory.run(token, memory.initial_state(1), torch.zeros(1, 40 * K, dtype=torch.bool), None, None, 32)
    mesa = (o[0, -K:, 0] - values[:K]).square().mean()
    linear = (keys[:K] @ state["S"][0, 0] / 40 - values[:K]).square().mean()
    assert mesa < linear / 5


def test_gradient_of_the_solve_is_exact():
    memory = build(heads=1)
    x = torch.randn(1, 6, 6, dtype=torch.float64, requires_grad=True)
    resets = torch.tensor([[False, False, False, True, False, False]])
    assert torch.autograd.gradcheck(lambda z: memory.sequence(z, None, resets)[0], (x,), atol=1e-6)
