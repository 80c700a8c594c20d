"""What is particular to reading a bank: order, emptiness, ties."""

import pytest
import torch

from embodied_mem.kernels import bank_read


def draw(B=3, M=6, Q=2, H=2, d=4):
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(B, n, H, d, generator=g) for n in (Q, M, M))
    return q, k, v, torch.tensor([M, 2, 0], dtype=torch.int32)[:B]


def test_slots_may_lie_in_any_order():
    q, k, v, _ = draw()
    ts, pe = torch.arange(6, dtype=torch.int32).expand(3, 6), torch.randn(6, 2, 4)
    full = torch.full((3,), 6, dtype=torch.int32)
    order = torch.randperm(6)
    found = bank_read(q, k, v, full, ts, pe)
    moved = bank_read(q, k[:, order], v[:, order], full, ts[:, order], pe)
    torch.testing.assert_close(moved.out, found.out, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(moved.lse, found.lse, rtol=1e-5, atol=1e-6)


def test_an_empty_memory_reads_zero_and_its_gradient_is_clean():
    q, k, v, length = draw()
    q, k, v = (z.requires_grad_() for z in (q, k, v))
    read = bank_read(q, k, v, length)
    assert not read.out[2].any() and (read.lse[2] == -torch.inf).all()
    read.out.square().sum().backward()
    for z in (q, k, v):
        assert torch.isfinite(z.grad).all() and not z.grad[2].any()
    assert not k.grad[1, 2:].any() and not v.grad[1, 2:].any()


def test_what_lies_in_empty_slots_does_not_count():
    q, k, v, length = draw()
    wanted = bank_read(q, k, v, length).out
    k[1, 2:], v[1, 2:] = torch.nan, torch.inf
    assert torch.equal(bank_read(q, k, v, length).out, wanted)
    assert torch.equal(bank_read(q, k, v, length, topk=6).out[1], bank_read(q, k, v, length, topk=2).out[1])


def test_equal_scores_go_to_the_lower_slot():
    q, k, v, _ = draw(B=1)
    read = bank_read(torch.zeros_like(q), k, v, torch.tensor([5]), topk=2)
    assert read.indices.flatten(0, 2).tolist() == [[0, 1]] * 4
    assert torch.equal(read.weight, torch.full_like(read.weight, 0.5))


def test_all_slots_by_topk_equal_the_plain_read():
    q, k, v, length = draw()
    torch.testing.assert_close(bank_read(q, k, v, length, topk=6).out, bank_read(q, k, v, length).out)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"length": torch.zeros(2)}, "length of shape"),
        ({"ts": torch.zeros(3, 6, dtype=torch.int32)}, "ts and pe together"),
        ({"tokens_per_slot": 4}, "divides 6"),
        ({"valid": torch.ones(3, 2, 5, dtype=torch.bool)}, "valid of shape"),
        ({"v_bank": torch.zeros(3, 6, 2, 5)}, "expected q"),
    ],
)
def test_wrong_arguments_are_named(change, words):
    q, k, v, length = draw()
    with pytest.raises(ValueError, match=words):
        bank_read(**{"q": q, "k_bank": k, "v_bank": v, "length": length, **change})
