from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.memory.segments import (
    decay_matrix,
    episode_causal_mask,
    live_weight,
    reset_distance,
    segment_ids,
)

flags = st.lists(st.booleans(), min_size=1, max_size=24)


def drawn(resets, seed=0, heads=None):
    resets = torch.tensor([resets, resets[::-1]])
    shape = resets.shape if heads is None else (2, heads, resets.shape[1])
    gates = -torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return resets, gates


@given(flags)
@settings(max_examples=50, deadline=None)
def test_ids_count_resets_and_distance_restarts(resets):
    ids, distance = segment_ids(torch.tensor([resets]))[0], reset_distance(torch.tensor([resets]))[0]
    number, since = 0, 0
    for t, reset in enumerate(resets):
        number, since = number + reset, 0 if reset else since + 1
        assert (int(ids[t]), int(distance[t])) == (number, since)


@given(flags, st.sampled_from([None, 3]))
@settings(max_examples=40, deadline=None)
def test_decay_matrix_and_live_weight_equal_the_loop(resets, heads):
    resets, gates = drawn(resets, heads=heads)
    D, live = decay_matrix(gates, resets), live_weight(gates, resets)
    T = resets.shape[1]
    rows = gates.flatten(0, -2)
    flat = resets if heads is None else resets.repeat_interleave(heads, 0)
    D, live = D.reshape(-1, T, T), live.reshape(-1, T)
    for row in range(len(rows)):
        # one decayed accumulator per source token, and one for the carried state
        weights, carried = torch.zeros(T, dtype=torch.float64), 1.0
        for t in range(T):
            gate = float(rows[row, t].exp())
            weights, carried = (weights * 0, 0.0) if flat[row, t] else (weights * gate, carried * gate)
            weights[t] = 1.0
            assert torch.allclose(D[row, t], weights, rtol=1e-12, atol=1e-300)
            assert abs(float(live[row, t]) - carried) <= 1e-12


@pytest.mark.parametrize("strong", [-200.0, -1e4])
def test_one_strong_gate_costs_no_precision_after_it(strong):
    gates = torch.full((1, 32), -1e-3)
    gates[0, 3] = strong
    resets = torch.zeros(1, 32, dtype=torch.bool)
    want = torch.exp(torch.tensor(-1e-3, dtype=torch.float64) * 20).float()
    assert torch.isclose(decay_matrix(gates, resets)[0, 31, 11], want, rtol=1e-6)


def test_gradient_is_exactly_zero_across_a_reset():
    resets = torch.zeros(2, 20, dtype=torch.bool)
    resets[:, 9] = True
    gates = (-torch.rand(2, 3, 20)).requires_grad_()
    weights = torch.randn(2, 3, 20, 20)
    (decay_matrix(gates, resets) * weights)[..., 9:, :].sum().backward()
    assert not gates.grad[..., :10].any() and gates.grad[..., 10:].any()


@given(flags, st.integers(1, 6), st.integers(0, 6))
@settings(max_examples=40, deadline=None)
def test_causal_mask_equals_a_walk_over_items(resets, window, fill):
    fill = min(fill, window)
    found = episode_causal_mask(torch.tensor([resets]), torch.tensor([fill]), window)[0]
    items = list(range(window - fill, window))
    for t, reset in enumerate(resets):
        items = ([] if reset else items) + [window + t]
        items = items[-window:]
        assert found[t].nonzero()[:, 0].tolist() == items
