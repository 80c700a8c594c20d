"""Numbers as distributions over bins: exact back and forth, one mode out of several, finer than the bins."""

import pytest
import torch

from embodied_mem.policies.vla import bins


@pytest.mark.parametrize("count", [2, 9, 33])
def test_shares_sum_to_one_and_have_the_number_as_mean(count):
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    shared = bins.share(x, count)
    assert torch.allclose(shared.sum(-1), torch.ones_like(x)) and (shared >= 0).all()
    assert torch.allclose(shared @ torch.linspace(-1, 1, count, dtype=torch.float64), x)
    assert torch.allclose(bins.read((shared + 1e-30).log()), x, atol=1e-9)


def test_on_a_square_the_first_number_is_the_row():
    g = torch.Generator().manual_seed(0)
    xy = 2 * torch.rand(50, 2, generator=g, dtype=torch.float64) - 1
    shared = bins.share_square(xy, 7)
    assert torch.allclose(shared.sum(-1), torch.ones(50, dtype=torch.float64))
    assert torch.allclose(bins.read_square((shared + 1e-30).log(), 7), xy, atol=1e-9)
    corner = bins.share_square(torch.tensor([[1.0, -1.0]]), 3)
    assert corner[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0]


def test_of_two_modes_the_likelier_is_read_not_their_mean():
    logits = torch.tensor([[5.0, 0, 0, 0, 0, 0, 0, 0, 5.1]])
    assert bins.read(logits).item() > 0.9
    square = torch.zeros(1, 9, 9)
    square[0, 1, 1], square[0, 7, 7] = 9.0, 8.0
    assert (bins.read_square(square.flatten(1), 9) < -0.7).all()


def test_cross_entropy_is_least_at_the_wanted_distribution():
    wanted = bins.share(torch.tensor([0.3]), 9)
    logits = (wanted + 1e-9).log().requires_grad_()
    bins.cross_entropy(logits, wanted).sum().backward()
    assert logits.grad.abs().max() < 1e-6
