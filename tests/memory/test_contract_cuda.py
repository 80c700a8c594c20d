"""The suite's core on a GPU: both forms agree there and with the CPU, and a step never waits for the device."""

from __future__ import annotations

import pytest
import torch

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

N, T = 5, 70


def to_cuda(memory, tools, rate):
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, rate), tools.warm(memory, N)
    memory.cuda()
    x = x._replace(**{k: v.cuda() for k, v in x._asdict().items() if v is not None})
    return x, resets.cuda(), {key: value.cuda() for key, value in state.items()}


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.2])
def test_forms_agree_in_value_and_gradient(case, tools, rate):
    memory = case.build()
    x, resets, state = to_cuda(memory, tools, rate)
    gradients = []
    for form in (memory.sequence, lambda *a: tools.loop(memory, *a)):
        leaf = x.x.clone().requires_grad_()
        y, after = form(x._replace(x=leaf), state, resets)
        loss = y.square().sum() + sum(value.square().sum() for value in tools.floats(after))
        gradients.append(
            (y, after, torch.autograd.grad(loss, [leaf, *tools.trained(memory).values()], allow_unused=True))
        )
    (y, after, found), (y_want, after_want, want) = gradients
    tools.close(y, y_want, 1e-9)
    tools.close(after, after_want, 1e-9, "state")
    for a, b in zip(found, want):
        assert (a is None and b is None) or tools.error(a, b) < 1e-8


def test_gpu_equals_cpu(case, tools):
    memory = case.build()
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, 0.1), tools.warm(memory, N)
    with torch.no_grad():
        want, _ = memory.sequence(x, state, resets)
        x, resets, state = to_cuda(memory, tools, 0.1)
        found, _ = memory.sequence(x, state, resets)
    tools.close(found.cpu(), want, 1e-9)


def test_step_never_synchronises(case, tools):
    memory = case.build(torch.float32)
    x, resets, state = to_cuda(memory, tools, 0.2)
    with torch.no_grad():
        _, state = memory.step(tools.at(x, 0), state, resets[:, 0])
        torch.cuda.set_sync_debug_mode("error")
        try:
            for t in range(1, 6):
                _, state = memory.step(tools.at(x, t), state, resets[:, t], donate=True)
        finally:
            torch.cuda.set_sync_debug_mode("default")
