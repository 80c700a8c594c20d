"""Memories on a GPU with kernels on and off: the same step and the same training step. Skipped without a GPU."""

import pytest
import torch

from embodied_mem.kernels import reset_stats, stats, use_backend
from embodied_mem.memory.contract import make_memory

NAMES = ("min_gru", "lru", "s5", "ffm", "gated_delta", "gla", "ssd", "hcam", "perceptual_cognitive_bank", "titans")


def training_step(name, backend, device):
    torch.manual_seed(0)
    memory = make_memory(name, in_dim=16, out_dim=16).to(device)
    x = torch.randn(4, 40, 16, device=device)
    resets = torch.rand(4, 40, device=device) < 0.1
    with use_backend(backend):
        y, state = memory.sequence(x, memory.initial_state(4), resets)
        y.square().mean().backward()
        with torch.no_grad():
            after, _ = memory.step(x[:, 0], state)
    grads = torch.cat([p.grad.flatten() for p in memory.parameters() if p.grad is not None])
    return y.detach(), after, grads


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_kernels_change_no_result(name):
    on, off = (training_step(name, backend, "cuda") for backend in ("auto", "reference"))
    for found, wanted in zip(on, off):
        assert float((found - wanted).norm() / wanted.norm()) < 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_memories_call_the_operations(name):
    reset_stats()
    training_step(name, "auto", "cpu")
    assert stats(), "no operation was called"
