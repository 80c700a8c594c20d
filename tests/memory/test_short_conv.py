"""The short convolution against a loop over tokens, shorter and longer than the filter, resets and padding inside."""

import pytest
import torch

from embodied_mem.memory.short_conv import short_conv, short_conv_step


def loop(x, state, weight, resets, valid):
    """One token at a time; rows keep their state on padding."""
    outputs = []
    for t in range(x.shape[1]):
        state = torch.where(resets[:, t, None, None], 0, state)
        y, after = short_conv_step(x[:, t], state, weight)
        real = valid[:, t, None]
        state = torch.where(real[..., None], after, state)
        outputs.append(torch.where(real, y, 0))
    return torch.stack(outputs, 1), state


@pytest.mark.parametrize("taps", [2, 4])
@pytest.mark.parametrize("T", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("padded", [False, True])
def test_values_and_gradients_of_the_loop(T, taps, padded):
    g = torch.Generator().manual_seed(T)
    B, C = 5, 3
    x = torch.randn(B, T, C, generator=g, dtype=torch.float64, requires_grad=True)
    state = torch.randn(B, taps - 1, C, generator=g, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(taps, C, generator=g, dtype=torch.float64, requires_grad=True)
    valid = torch.arange(T) < torch.randint(0, T + 1, (B, 1), generator=g) if padded else torch.ones(B, T, dtype=bool)
    resets = (torch.rand(B, T, generator=g) < 0.3) & valid
    y, after = short_conv(x, state, weight, resets, valid if padded else None)
    expected, last = loop(x, state, weight, resets, valid)
    y = torch.where(valid.unsqueeze(-1), y, 0)
    assert torch.allclose(y, expected, atol=1e-12) and torch.allclose(after, last, atol=1e-12)
    probe = torch.randn(B, T, C, generator=g, dtype=torch.float64)
    tail = torch.randn(after.shape, generator=g, dtype=torch.float64)
    found = torch.autograd.grad((y * probe).sum() + (after * tail).sum(), (x, state, weight))
    wanted = torch.autograd.grad((expected * probe).sum() + (last * tail).sum(), (x, state, weight))
    for a, b in zip(found, wanted):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_overflowed_does_not_cross_a_reset(bad):
    x = torch.ones(2, 6, 3)
    x[0, 2] = bad
    resets = torch.zeros(2, 6, dtype=bool)
    resets[:, 3] = True
    y, after = short_conv(x, torch.zeros(2, 3, 3), torch.ones(4, 3), resets)
    assert torch.equal(y[0, 3:], y[1, 3:]) and torch.equal(after[0], after[1])
    assert not y[0, 2].isfinite().any()


def test_rows_in_blocks_equal_rows_at_once(monkeypatch):
    x, state, weight = torch.randn(5, 7, 3), torch.randn(5, 3, 3), torch.randn(4, 3)
    resets = torch.rand(5, 7) < 0.3
    whole = short_conv(x, state, weight, resets)
    monkeypatch.setattr("embodied_mem.memory.short_conv._BLOCK_BYTES", 2 * 7 * 3 * 4)
    for a, b in zip(short_conv(x, state, weight, resets), whole):
        torch.testing.assert_close(a, b)
