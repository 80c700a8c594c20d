from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.memory.quarantine import quarantine, release


@given(st.integers(1, 16), st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 1.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_poison_lasts_from_the_bad_token_to_the_end_of_its_episode(T, seed, rate, with_resets):
    g = torch.Generator().manual_seed(seed)
    x, resets = torch.randn(4, T, 2, generator=g), torch.rand(4, T, generator=g) < rate
    x[torch.rand(4, T, generator=g) < 0.15] = float("nan")
    h = torch.randn(4, 1, 3, generator=g)
    h[1, 0, 2] = float("inf")
    state = {"h": h, "t": torch.arange(4)}
    clean, carried, poisoned = quarantine(x, resets if with_resets else None, state)
    assert torch.isfinite(clean).all() and torch.isfinite(carried["h"]).all()
    assert torch.equal(carried["t"], state["t"]) and not carried["h"][1].any()
    for row in range(4):
        bad = row == 1
        for t in range(T):
            if with_resets and resets[row, t]:
                bad = False
            bad = bad or bool(torch.isnan(x[row, t]).any())
            assert bool(poisoned[row, t]) == bad
    y, after = release(torch.zeros(4, T, 2), carried, poisoned)
    assert torch.equal(torch.isnan(y).all(-1), poisoned) and not y[~poisoned].any()
    assert torch.equal(torch.isnan(after["h"]).flatten(1).all(1), poisoned[:, -1])
    assert torch.equal(after["t"], state["t"])


def test_finite_input_passes_untouched():
    x, state = torch.randn(2, 3, 4), {"h": torch.randn(2, 1)}
    clean, carried, poisoned = quarantine(x, None, state)
    assert clean is x and carried["h"] is state["h"] and poisoned is None
    assert release(x, state, None)[0] is x


def test_a_sum_that_overflows_is_not_mistaken_for_bad_input():
    x = torch.full((1, 3, 2), 3e38)
    _, _, poisoned = quarantine(x, None, {})
    assert not poisoned.any()


def test_gradient_passes_clean_tokens_only():
    x = torch.randn(1, 4, 2)
    x[0, 2] = float("nan")
    x.requires_grad_()
    clean, _, poisoned = quarantine(x, None, {})
    y, _ = release(clean * 2, {}, poisoned)
    (dx,) = torch.autograd.grad(y[~poisoned].sum(), x)
    assert torch.equal(dx[0, :2], torch.full((2, 2), 2.0)) and not dx[0, 2:].any()


def test_a_state_of_one_number_per_row_is_quarantined_too():
    x, state = torch.randn(3, 2, 4), {"level": torch.tensor([1.0, float("nan"), 2.0])}
    _, carried, poisoned = quarantine(x, None, state)
    assert carried["level"].tolist() == [1.0, 0.0, 2.0]
    assert poisoned is not None and poisoned.tolist() == [[False, False], [True, True], [False, False]]
    _, after = release(torch.zeros(3, 2, 4), carried, poisoned)
    assert torch.isnan(after["level"]).tolist() == [False, True, False]
