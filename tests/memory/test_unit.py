"""The written-out gradients of the linear family: unit vectors, and decays between the tokens of a chunk."""

import pytest
import torch

from embodied_mem.kernels.reference.reset_linear_attention import PairDecay
from embodied_mem.memory.fast_weights import unit

FLOOR = 0.5


def plain_unit(x: torch.Tensor) -> torch.Tensor:
    """As `unit`, by operations that autograd differentiates."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(FLOOR)


@pytest.mark.parametrize("length", [0.0, 0.1, 3.0])
def test_unit_has_the_gradient_of_its_formula_above_and_below_the_floor(length: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    x[0] *= length / torch.linalg.vector_norm(x[0], dim=-1, keepdim=True)
    weight = torch.randn(5, 3, 4, generator=generator, dtype=torch.float64)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = unit(ours, FLOOR), plain_unit(theirs)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-15)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-12, atol=1e-12)


def test_decays_between_tokens_have_the_gradient_of_their_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    G = -torch.rand(2, 3, 6, generator=generator, dtype=torch.float64).cumsum(-1)
    visible = torch.ones(6, 6, dtype=torch.bool).tril() & (torch.rand(2, 3, 6, 6, generator=generator) < 0.7)
    G.requires_grad_()
    assert torch.autograd.gradcheck(lambda gates: PairDecay.apply(gates, visible, torch.float64), (G,))
