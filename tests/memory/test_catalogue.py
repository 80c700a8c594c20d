"""The record of every memory comes from the memory itself."""

import sys
import types

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from embodied_mem import registry
from embodied_mem.memory.catalogue import describe, fidelity
from embodied_mem.memory.contract import make_memory

KEYS = ["name", "family", "source", "bytes_per_env", "macs_per_token", "parallel", "fidelity"]


@pytest.mark.parametrize("name", registry.names("memory"))
def test_records_are_computed_and_complete(name):
    found = describe(name)
    assert list(found) == KEYS and found["family"] and found["source"]
    assert found["parallel"] in ("scan", "chunk", "attend", "loop") and found["fidelity"] in ("exact", "reconstruction")
    memory = make_memory(name, in_dim=128, out_dim=128)
    state = memory.initial_state(2)
    assert 2 * found["bytes_per_env"] == sum(value.numel() * value.element_size() for value in state.values())
    assert found["macs_per_token"] == memory.macs_per_token() > 0


def test_the_width_counts():
    assert describe("gru", 64)["bytes_per_env"] == 256 and describe("gru")["bytes_per_env"] == 512
    assert describe("gru")["macs_per_token"] == 6 * 128 * 128


def linear_products(memory, x, state):
    """Multiply-accumulates of one step as torch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        memory.step(x, state)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "name", ["gru", "lstm", "none", "stack", "residual", "hybrid", "frozen", "hierarchical", "dnc"]
)
def test_macs_agree_with_what_torch_counts(name):
    """The count of matrix products; elementwise work and gathers are in neither, or in the memory's only."""
    memory = make_memory(name, in_dim=128, out_dim=128)
    state = memory.sequence(torch.randn(1, 80, 128))[1]
    counted = linear_products(memory, torch.randn(1, 128), memory.detach(state))
    assert 0.75 * counted <= memory.macs_per_token() <= 1.35 * counted


@pytest.mark.parametrize(
    "text,want",
    [
        ("Sparse codes. Reconstruction: the paper leaves the rule open.", "reconstruction"),
        ("A memory trained by a reconstruction loss.", "exact"),
        ("Follows the paper.", "exact"),
    ],
)
def test_a_docstring_says_what_is_a_reconstruction(text, want, monkeypatch):
    module = types.ModuleType("a_memory", text)
    monkeypatch.setitem(sys.modules, "a_memory", module)
    cls = type("Memory", (), {"__doc__": "A memory.", "__module__": "a_memory"})
    assert fidelity(cls) == want
