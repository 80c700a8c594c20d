"""What is particular to the scan: nothing crosses a reset, and a sequence may be cut."""

import torch

from embodied_mem.kernels import reset_scan


def test_two_halves_equal_the_whole():
    torch.manual_seed(0)
    a, x, h0 = torch.rand(2, 9, 4), torch.randn(2, 9, 4), torch.randn(2, 4)
    reset = torch.rand(2, 9) < 0.3
    whole = reset_scan(a, x, reset, h0, torch.ones(4))
    first = reset_scan(a[:, :5], x[:, :5], reset[:, :5], h0, torch.ones(4))
    second = reset_scan(a[:, 5:], x[:, 5:], reset[:, 5:], first[:, -1], torch.ones(4))
    assert torch.equal(torch.cat([first, second], 1), whole)


def test_a_nan_of_the_old_episode_stays_there():
    a, x, h0 = torch.full((1, 4, 2), 0.5), torch.ones(1, 4, 2), torch.full((1, 2), float("nan"))
    a[0, 1] = torch.inf
    a.requires_grad_()
    h = reset_scan(a, x, torch.tensor([[False, False, True, False]]), h0, torch.zeros(2))
    assert h[0, :2].isnan().all() and torch.equal(h[0, 2:], torch.tensor([[1.0, 1.0], [1.5, 1.5]]))
    h[:, 2:].sum().backward()
    assert not a.grad[0, 2].any() and torch.equal(a.grad[0, 3], torch.ones(2))


def test_float16_accumulates_in_float32():
    x = torch.full((1, 3000, 1), 0.25, dtype=torch.float16)
    h = reset_scan(torch.ones_like(x), x, None, x.new_zeros(1, 1))
    assert h[0, -1].item() == 750.0
