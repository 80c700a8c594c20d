from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.memory.null_slot import null_slot_softmax

logits = st.lists(st.floats(-80, 80), min_size=1, max_size=8)


@given(logits, st.data())
@settings(max_examples=80, deadline=None)
def test_equals_softmax_with_an_appended_zero_logit(values, data):
    x = torch.tensor(values, dtype=torch.float64)
    valid = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    kept = torch.cat([x[valid], torch.zeros(1, dtype=torch.float64)])
    weights = null_slot_softmax(x, valid)
    assert torch.allclose(weights[valid], kept.softmax(0)[:-1], rtol=1e-12, atol=1e-300)
    assert not weights[~valid].any()


def test_empty_memory_reads_exactly_zero_with_zero_gradient():
    x = torch.tensor([[float("nan"), 3.0], [1.0, 2.0]], requires_grad=True)
    valid = torch.tensor([[False, False], [True, True]])
    weights = null_slot_softmax(x, valid)
    assert not weights[0].any()
    weights.sum().backward()
    assert not x.grad[0].any() and x.grad[1].all()


def test_a_nan_in_a_slot_that_does_not_exist_changes_nothing():
    valid = torch.tensor([True, False])
    found = null_slot_softmax(torch.tensor([0.5, float("nan")]), valid)
    assert torch.equal(found, null_slot_softmax(torch.tensor([0.5, -9.0]), valid))


def test_a_hopeless_key_takes_nothing_and_large_logits_stay_finite():
    assert float(null_slot_softmax(torch.tensor([0.0, -1e4]))[1]) == 0.0
    assert torch.equal(null_slot_softmax(torch.tensor([1e4, -1e4])), torch.tensor([1.0, 0.0]))


def test_gradient():
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: null_slot_softmax(x, x.detach() > -0.5, dim=0), x)
