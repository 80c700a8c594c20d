"""A4 and A5: nothing crosses a reset, rows are independent, non-finite numbers stay in their episode."""

from __future__ import annotations

import pytest
import torch

from embodied_mem.memory.contract import select

N, T, CUT = 4, 29, 13
BAD = [float("nan"), float("inf"), float("-inf")]
# stepping costs most: one of the bad numbers in every run of the tests, the others in the long forms
FORMS_AND_BAD = [
    pytest.param(form, bad, id=f"{form}-{bad}", marks=[pytest.mark.full] if form == "step" and bad == bad else [])
    for form in ("sequence", "step")
    for bad in BAD
]


def cut_resets():
    resets = torch.zeros(N, T, dtype=torch.bool)
    resets[:, CUT] = True
    return resets


def run(form, memory, tools, x, state, resets):
    return memory.sequence(x, state, resets) if form == "sequence" else tools.loop(memory, x, state, resets)


def zero(gradient):
    return gradient is None or not gradient.any()


@pytest.mark.parametrize("form", ["sequence", "step"])
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_a4_no_gradient_crosses_a_reset(case, tools, form, scale):
    memory = case.build()
    x = tools.inputs(memory, N, T)
    x = x._replace(x=(x.x * scale).requires_grad_())
    state = tools.leaf(tools.warm(memory, N))
    y, after = run(form, memory, tools, x, state, cut_resets())
    carried = tools.floats(after, memory, ("carry", "param_like"))
    loss = y[:, CUT:].square().sum() + sum(value.square().sum() for value in carried)
    dx, *dstate = torch.autograd.grad(loss, [x.x, *tools.floats(state)], allow_unused=True)
    assert not dx[:, :CUT].any()
    assert dx[:, CUT:].any()
    assert all(zero(gradient) for gradient in dstate)


def test_a4_gradient_flows_inside_the_episode(case, tools):
    memory = case.build()
    x = tools.inputs(memory, N, T)
    x = x._replace(x=x.x.requires_grad_())
    state = tools.leaf(tools.warm(memory, N))
    y, _ = memory.sequence(x, state, cut_resets())
    (dx,) = torch.autograd.grad(y[:, CUT - 1].square().sum(), x.x, retain_graph=True)
    assert dx[:, CUT - 1].any()
    assert not dx[:, CUT:].any()
    if "stateless" not in memory.properties:
        assert dx[:, : CUT - 1].any()
        dstate = torch.autograd.grad(y[:, 0].square().sum(), tools.floats(state), allow_unused=True)
        assert any(not zero(gradient) for gradient in dstate)


@pytest.mark.parametrize("form", ["sequence", "step"])
def test_a5_permuted_rows_give_permuted_outputs(case, tools, form):
    memory = case.build()
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, 0.1), tools.warm(memory, N)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        y, after = run(form, memory, tools, x, state, resets)
        found, found_after = run(form, memory, tools, tools.rows(x, order), select(state, order), resets[order])
    tools.close(found, y[order], 1e-12)
    tools.close(found_after, select(after, order), 1e-12, "state")


@pytest.mark.parametrize("form", ["sequence", "step"])
@pytest.mark.parametrize("change", ["reset", "value", "nan"])
def test_a5_one_row_leaves_the_others_alone(case, tools, form, change):
    memory = case.build(torch.float32)
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, 0.1), tools.warm(memory, N)
    features, others, changed = x.x.clone(), [0, 2, 3], resets.clone()
    if change == "reset":
        changed[1, 5:9] = True
    else:
        features[1, 5] = 1e3 if change == "value" else float("nan")
    with torch.no_grad():
        y, after = run(form, memory, tools, x, state, resets)
        found, found_after = run(form, memory, tools, x._replace(x=features), state, changed)
    tools.close(found[others], y[others], 1e-6)
    tools.close(select(found_after, others), select(after, others), 1e-6, "state")
    if change != "reset" or "stateless" not in memory.properties:
        assert not torch.equal(found[1], y[1])


@pytest.mark.parametrize("form", ["sequence", "step"])
def test_a5_causal(case, tools, form):
    memory = case.build()
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, 0.05), tools.warm(memory, N)
    later = x.x.clone()
    later[:, 20:] += 1
    with torch.no_grad():
        y, _ = run(form, memory, tools, x, state, resets)
        found, _ = run(form, memory, tools, x._replace(x=later), state, resets)
    tools.close(found[:, :20], y[:, :20], 1e-12)


@pytest.mark.parametrize(("form", "bad"), FORMS_AND_BAD)
def test_a5_bad_token_stays_in_its_episode(case, tools, form, bad):
    memory = case.build()
    x, resets, state = tools.inputs(memory, N, T), cut_resets(), tools.warm(memory, N)
    features = x.x.clone()
    features[1, 4, 2] = bad
    features[2, 7] = bad
    clean = torch.ones(N, T, dtype=torch.bool)
    clean[1, 4:CUT] = clean[2, 7:CUT] = False
    inputs = features.clone().requires_grad_()
    reference = torch.where(torch.isfinite(features), features, 0.0).requires_grad_()
    leaf, reference_leaf = tools.leaf(state), tools.leaf(state)
    y, after = run(form, memory, tools, x._replace(x=inputs), leaf, resets)
    want, want_after = run(form, memory, tools, x._replace(x=reference), reference_leaf, resets)
    tools.close(y[clean], want[clean], 1e-10)
    tools.close(live(after, memory), live(want_after, memory), 1e-10, "state")
    if bad != bad:
        assert not torch.isfinite(y[1, 4]).any() and not torch.isfinite(y[2, 7]).any()
    # gradients: of everything after the bad episode and of the other rows, in both forms
    after_cut = clean.clone()
    after_cut[1:3, :CUT] = False
    sources = [inputs, *tools.floats(leaf)]
    found = torch.autograd.grad(y[after_cut].square().sum(), sources, allow_unused=True, retain_graph=True)
    expected = torch.autograd.grad(
        want[after_cut].square().sum(), [reference, *tools.floats(reference_leaf)], allow_unused=True, retain_graph=True
    )
    tools.close(found[0][after_cut], expected[0][after_cut], 1e-10, "dx")
    for gradient, reference_gradient in zip(found[1:], expected[1:]):
        if gradient is not None:
            tools.close(gradient[[0, 3]], reference_gradient[[0, 3]], 1e-10, "ds0")
    if form == "sequence" and "stateless" not in memory.properties:
        check_parameter_gradients(memory, tools, y[clean], want[clean])


def live(state, memory):
    """The part of a state that holds no leftovers of earlier episodes."""
    spec = memory.state_spec()
    return {key: value for key, value in state.items() if spec[key].role in ("carry", "param_like")}


def check_parameter_gradients(memory, tools, y, want):
    trained = tools.trained(memory)
    found = torch.autograd.grad(y.square().sum(), list(trained.values()), allow_unused=True)
    expected = torch.autograd.grad(want.square().sum(), list(trained.values()), allow_unused=True)
    for name, gradient, reference in zip(trained, found, expected):
        if reference is not None:
            tools.close(gradient, reference, 1e-10, f"d{name}")


@pytest.mark.parametrize(("form", "bad"), FORMS_AND_BAD)
def test_a5_bad_carried_state_ends_with_its_episode(case, tools, form, bad):
    memory = case.build()
    x, resets, good = tools.inputs(memory, N, T), cut_resets(), tools.warm(memory, N)
    state = {
        key: torch.where(tools.over(torch.arange(N) == 1, value), bad, value) if value.is_floating_point() else value
        for key, value in good.items()
    }
    clean = torch.ones(N, T, dtype=torch.bool)
    clean[1, :CUT] = False
    inputs, reference = x.x.clone().requires_grad_(), x.x.clone().requires_grad_()
    y, _ = run(form, memory, tools, x._replace(x=inputs), state, resets)
    want, _ = run(form, memory, tools, x._replace(x=reference), good, resets)
    tools.close(y[clean], want[clean], 1e-10)
    (dx,) = torch.autograd.grad(y[clean].square().sum(), inputs)
    (dx_want,) = torch.autograd.grad(want[clean].square().sum(), reference)
    tools.close(dx[clean], dx_want[clean], 1e-10, "dx")
