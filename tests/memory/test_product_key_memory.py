"""What is special about product-key memory; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "sub_keys": 6, "heads": 2, "top_k": 3, "key_dim": 8, "value_dim": 4}
    return make_memory("product_key_memory", **{**sizes, **config}).double()


@pytest.mark.parametrize("top_k", [1, 3, 6])
def test_selects_what_a_search_over_all_keys_selects(top_k):
    memory = build(top_k=top_k)
    c, x = memory.config, torch.randn(40, D, dtype=torch.float64)
    with torch.no_grad():
        rows, scores = memory.select(x)
        for n in range(len(x)):
            q = memory.query(x[n]).view(c.heads, -1)
            for h in range(c.heads):
                normed = memory.norm(q[h])
                every = []
                for i in range(c.sub_keys):
                    for j in range(c.sub_keys):
                        key = torch.cat([memory.keys[h, 0, i], memory.keys[h, 1, j]])
                        every.append(float(key @ normed))
                want = sorted(range(len(every)), key=lambda i: -every[i])[:top_k]
                assert rows[n, h].tolist() == want
                assert torch.allclose(scores[n, h], torch.tensor([every[i] for i in want], dtype=torch.float64))


@pytest.mark.parametrize("gate", [True, False])
def test_equals_the_equations(gate):
    memory = build(gate=gate)
    x = torch.randn(7, D, dtype=torch.float64)
    with torch.no_grad():
        rows, scores = memory.select(x)
        for n in range(len(x)):
            read = sum(
                w * memory.values[row]
                for h in range(2)
                for w, row in zip((scores[n, h] - scores[n, h].max()).softmax(0), rows[n, h])
            )
            if gate:
                read = read * torch.nn.functional.silu(memory.gate(x[n]))
            want = memory.out(read) + memory.skip(x[n])
            assert torch.allclose(memory.step(x, memory.initial_state(7))[0][n], want, atol=1e-12)


def test_only_rows_read_get_a_gradient():
    memory = build()
    x = torch.randn(2, D, dtype=torch.float64)
    memory.step(x, memory.initial_state(2))[0].sum().backward()
    touched = memory.values.grad.abs().sum(1).nonzero().flatten().tolist()
    assert set(touched) <= set(memory.select(x)[0].flatten().tolist()) and touched


def test_it_holds_nothing_but_a_counter():
    memory = build()
    x, resets = torch.randn(2, 6, D, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.bool)
    resets[1, 4] = True
    state = memory.sequence(x, None, resets)[1]
    assert state["t"].tolist() == [6, 2] and memory.bytes_per_env() == 4


@pytest.mark.parametrize("config", [{"sub_keys": 0}, {"key_dim": 7}, {"top_k": 7}, {"heads": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
