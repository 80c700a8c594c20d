"""Bench of the memories: every figure is there, peers compute what they stand for, an absent peer is null."""

import importlib.util

import pytest
import torch

from embodied_mem import registry
from embodied_mem.experiments.bench import memory, memory_peers
from embodied_mem.memory.chunk_core import reset_linear_attention


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(memory, "ROWS", 2)
    monkeypatch.setattr(memory, "STEPS", 8)
    monkeypatch.setattr(memory, "WIDTH", 16)


@pytest.fixture
def two(small, monkeypatch):
    """Two memories instead of all: the comparisons with peers take part all the same."""
    monkeypatch.setattr(registry, "names", lambda kind: ["lstm", "none"])


def test_every_figure_is_printed(small):
    result = memory.run(seconds=0.02, quick=True)
    assert set(memory.TARGETS) <= set(result["metrics"])
    for name in registry.names("memory"):
        assert result["metrics"][f"{name}_bytes_per_env"]["mean"] > 0
        assert result["metrics"][f"ratio_{name}_step_over_lstm_cell"]["mean"] > 0
        assert result["metrics"][f"{name}_sequence_ms"]["n"] >= 5
    assert result["command"] == "bench" and result["config"]["quick"]


def test_absent_peer_is_null_with_the_reason(two, monkeypatch):
    monkeypatch.setattr(memory_peers.importlib.util, "find_spec", lambda name: None)
    result = memory.run(seconds=0.02, quick=True)
    assert result["metrics"]["ratio_gated_delta_over_fla_naive"]["mean"] is None
    assert any("flash-linear-attention" in note for note in result["notes"])


def test_missed_targets_are_said(two, monkeypatch):
    monkeypatch.setattr(memory, "TARGETS", {"ratio_lstm_over_cell_loop_2": 0.0})
    assert any("above its target" in note for note in memory.run(seconds=0.02)["notes"])


@pytest.mark.skipif(importlib.util.find_spec("fla") is None, reason="flash-linear-attention is not installed")
def test_the_peer_computes_the_same_op():
    torch.manual_seed(0)
    inputs = memory_peers.delta_inputs(torch.zeros(2, 40, 32), heads=2)
    op = memory_peers._fla_naive_op()
    assert op is not None
    wanted = op(**inputs, scale=1.0, chunk_size=8)[0]
    q, k, v, g, beta = inputs.values()
    found, _ = reset_linear_attention(
        q, k, v, g, beta, reset=torch.zeros(2, 40, dtype=torch.bool), S0=torch.zeros(2, 2, 16, 16)
    )
    assert torch.allclose(found, wanted, atol=1e-5)


def test_lstm_peers_agree_with_the_memory(monkeypatch):
    """The loop and the cut call pass resets as the memory does: same outputs for the same weights."""
    seen = []
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: seen.append(float(self.detach())))
    x, resets = torch.randn(3, 20, 8), torch.rand(3, 20) < 0.2

    def build(make):
        torch.manual_seed(0)
        return make(x, resets)

    build(memory_peers.lstm_cell_loop)()
    build(memory_peers.lstm_cut_fused)()
    assert seen[0] == pytest.approx(seen[1], rel=1e-4)
