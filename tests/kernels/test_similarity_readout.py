"""What is particular to the readout: emptiness, usage, far keys, and what lies beyond the length."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.kernels import similarity_readout


def draw(B=2, N=20, Q=4, C=6, V=3):
    g = torch.Generator().manual_seed(0)
    return torch.randn(B, N, C, generator=g), torch.randn(B, Q, C, generator=g), torch.randn(B, N, V, generator=g)


def test_plain_readout_of_all_is_a_softmax_of_distances():
    key, query, value = draw()
    weight = F.softmax(-torch.cdist(query, key).square() * 6**-0.5, -1)
    torch.testing.assert_close(similarity_readout(key, query, value, None).out, weight @ value, rtol=1e-4, atol=1e-5)
    read = similarity_readout(key, query, value, 20)
    torch.testing.assert_close(read.out, weight @ value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(read.usage, weight.sum(1), rtol=1e-4, atol=1e-5)


def test_usage_adds_up_to_the_queries_that_read():
    key, query, value = draw()
    read = similarity_readout(key, query, value, 5, length=torch.tensor([20, 0], dtype=torch.int32))
    torch.testing.assert_close(read.usage.sum(1), torch.tensor([4.0, 0.0]))
    assert (read.indices[1] == -1).all() and not read.out[1].any() and not read.weight[1].any()


def test_entries_beyond_the_length_are_not_read():
    key, query, value = draw()
    length = torch.tensor([7, 3], dtype=torch.int32)
    wanted = similarity_readout(key, query, value, 5, length=length)
    key[0, 7:], key[1, 3:] = query[0, 0], query[1, 0]
    found = similarity_readout(key, query, value, 5, length=length)
    assert torch.equal(found.out, wanted.out) and torch.equal(found.indices, wanted.indices)
    assert int(found.indices[1].max()) < 3


def test_far_keys_read_finite_numbers_with_finite_gradients():
    key, query, value = draw()
    key = (key * 1e3).requires_grad_()
    read = similarity_readout(key, query, value, 5)
    read.out.sum().backward()
    assert torch.isfinite(read.out).all() and torch.isfinite(key.grad).all()
    torch.testing.assert_close(read.weight.sum(-1), torch.ones(2, 4))


def test_shrinkage_sharpens():
    key, query, value = draw()
    sharp = similarity_readout(key, query, value, 5, shrink=torch.full((2, 20), 4.0))
    assert (sharp.weight[..., 0] > similarity_readout(key, query, value, 5).weight[..., 0]).all()


def test_wrong_arguments_are_named():
    key, query, value = draw()
    with pytest.raises(ValueError, match="expected key"):
        similarity_readout(key, query[..., :5], value)
    with pytest.raises(ValueError, match="topk >= 1"):
        similarity_readout(key, query, value, 0)
    with pytest.raises(ValueError, match="shrink of shape"):
        similarity_readout(key, query, value, shrink=torch.ones(2, 19))
