"""A6 and A9: gradients equal autograd through the step loop; a detached state starts a new graph."""

from __future__ import annotations

import pytest
import torch

N, T = 3, 21


def gradients(form, memory, tools, resets, valid=None):
    """Gradients of a random functional of outputs and final state, by name: x, s0, parameters.

    The state counts by what it holds and by what three more steps read from it: slots that a ring has given up hold
    leftovers which nobody reads.
    """
    x = tools.inputs(memory, N, T)
    leaf = x.x.detach().clone().requires_grad_()
    state = tools.leaf(tools.warm(memory, N))
    x = x._replace(x=leaf)
    if form == "sequence":
        y, after = memory.sequence(x, state, resets, valid=valid)
    else:
        y, after = tools.loop(memory, x, state, resets)
    generator = torch.Generator().manual_seed(7)
    weigh = lambda v: (v * torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.dtype)).sum()  # noqa: E731
    more, _ = tools.loop(memory, tools.inputs(memory, N, 3, seed=8), after)
    held = tools.floats(after, memory, ("carry", "param_like"))
    loss = weigh(y) + weigh(more) + sum(weigh(value) for value in held)
    names = {"x": leaf, **{f"s0[{k}]": v for k, v in state.items() if v.requires_grad}}
    names.update(tools.trained(memory))
    found = torch.autograd.grad(loss, list(names.values()), allow_unused=True)
    return {n: torch.zeros_like(v) if g is None else g for (n, v), g in zip(names.items(), found)}


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("dtype,tolerance", [(torch.float64, 1e-8), (torch.float32, 1e-3)], ids=["float64", "float32"])
def test_a6_gradients_equal_the_float64_loop(case, tools, rate, dtype, tolerance):
    resets = tools.resets(N, T, rate)
    want = gradients("step", case.build(torch.float64), tools, resets)
    found = gradients("sequence", case.build(dtype), tools, resets)
    assert found.keys() == want.keys()
    for name in want:
        error = tools.error(found[name], want[name])
        assert error <= tolerance, f"d{name}: relative error {error:.2e}"
    assert want["x"].any()


def test_a6_padding_gets_no_gradient(case, tools):
    memory = case.build()
    valid = torch.arange(T) < torch.tensor([[T], [4], [0]])
    found = gradients("sequence", memory, tools, tools.resets(N, T, 0.1), valid)
    assert not found["x"][~valid].any()
    assert all(torch.isfinite(gradient).all() for gradient in found.values())


def test_a9_detach_cuts_the_graph_and_keeps_the_values(case, tools):
    memory = case.build()
    x, resets = tools.inputs(memory, N, T), tools.resets(N, T, 0.1)
    leaf = x.x.clone().requires_grad_()
    first, state = memory.sequence(x._replace(x=leaf), None, resets)
    first.square().sum().backward()
    cut = memory.detach(state)
    assert all(value.grad_fn is None and not value.requires_grad for value in cut.values())
    assert tools.equal(cut, {key: value.detach() for key, value in state.items()})
    before = leaf.grad.clone()
    second, _ = memory.sequence(x, cut, resets)
    second.square().sum().backward()
    assert torch.equal(leaf.grad, before)
