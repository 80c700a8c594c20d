"""A10: the numbers do not depend on the autograd mode or on compilation."""

from __future__ import annotations

import pytest
import torch

N, T = 3, 17


@pytest.mark.parametrize("mode", ["no_grad", "inference_mode", "eval"])
def test_a10_modes_give_the_same_numbers(case, tools, mode):
    memory = case.build(torch.float32)
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, 0.1), tools.warm(memory, N)
    want, want_after = memory.sequence(x, state, resets)
    stepped, stepped_after = tools.loop(memory, x, state, resets)
    if mode == "eval":
        memory.eval()
        context = torch.enable_grad()
    else:
        context = torch.no_grad() if mode == "no_grad" else torch.inference_mode()
    with context:
        y, after = memory.sequence(x, state, resets)
        again, again_after = tools.loop(memory, x, state, resets)
    tools.close(y, want, 1e-5)
    tools.close(after, want_after, 1e-5, "state")
    tools.close(again, stepped, 1e-5)
    tools.close(again_after, stepped_after, 1e-5, "state")


def compiled_steps(case, tools, backend):
    memory = case.build(torch.float32)
    if "compilable" not in memory.properties:
        return
    x, resets, state = tools.inputs(memory, N, 5), tools.resets(N, 5, 0.4), tools.warm(memory, N)
    torch._dynamo.reset()
    step = torch.compile(memory.step, backend=backend, fullgraph=True)
    with torch.no_grad():
        found, want = dict(state), dict(state)
        for t in range(5):
            y, found = step(tools.at(x, t), found, resets[:, t])
            y_want, want = memory.step(tools.at(x, t), want, resets[:, t])
            tools.close(y, y_want, 1e-5)
    tools.close(found, want, 1e-5, "state")


def test_a10_step_compiles_whole(compiled_case, tools):
    compiled_steps(compiled_case, tools, "aot_eager")


@pytest.mark.full
def test_a10_step_compiles_with_inductor(case, tools):
    compiled_steps(case, tools, "inductor")


def test_aux_losses_are_scalars_with_gradients(case, tools):
    memory = case.build(torch.float32).train()
    memory.sequence(tools.inputs(memory, N, T), None, tools.resets(N, T, 0.1))
    for name, loss in memory.aux_losses().items():
        assert loss.dim() == 0 and torch.isfinite(loss), name
