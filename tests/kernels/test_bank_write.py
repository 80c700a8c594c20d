"""What is particular to writing: the ring over many steps, and merging beside the published functional form."""

import pytest
import torch

from embodied_mem.kernels import bank_write
from embodied_mem.memory.perceptual_cognitive_bank import consolidate


def test_a_ring_holds_the_last_items():
    bank, ts = torch.full((2, 3, 2), torch.nan), torch.zeros(2, 3)
    length, cursor = (torch.zeros(2, dtype=torch.int32) for _ in range(2))
    for step in range(7):
        mask = torch.tensor([True, step < 2])
        item = torch.full((2, 2), float(step))
        bank_write(bank, length, cursor, ts, item, torch.full((2,), float(step)), mask)
    assert sorted(bank[0, :, 0].tolist()) == sorted(ts[0].tolist()) == [4, 5, 6]
    assert length.tolist() == [3, 2] and cursor.tolist() == [1, 2]
    assert bank[1, :2, 0].tolist() == [0, 1] and bank[1, 2].isnan().all()


@pytest.mark.parametrize("weighted", [False, True])
def test_merging_equals_the_memory_that_shifts_its_entries(weighted):
    torch.manual_seed(0)
    B, M, N, D = 5, 4, 2, 6
    bank, length = torch.full((B, M, N, D), torch.nan), torch.zeros(B, dtype=torch.int32)
    order = torch.arange(M, dtype=torch.int32).repeat(B, 1)
    sims, count, ts = torch.zeros(B, M), torch.zeros(B, M, dtype=torch.int32), torch.zeros(B, M)
    plain, time = torch.zeros(B, M, N, D), torch.zeros(B, M)
    merged, clock = torch.zeros(B, M, dtype=torch.int64), torch.zeros(B, dtype=torch.int64)
    for step in range(12):
        item = torch.randn(B, N, D)
        bank_write(
            bank, length, None, ts, item, torch.full((B,), float(step)), None, "merge_adjacent",
            order=order, sims=sims, count=count, weighted=weighted,
        )  # fmt: skip
        way = "weighted" if weighted else "average"
        plain, time, merged = consolidate(plain, time, merged, clock, item, way)
        clock = clock + 1
        held = min(step + 1, M)
        at = order.long()
        in_order = bank.gather(1, at.view(B, M, 1, 1).expand_as(bank))
        torch.testing.assert_close(in_order[:, :held], plain[:, :held])
        assert torch.equal(ts.gather(1, at)[:, :held], time[:, :held])
        assert torch.equal(count.gather(1, at)[:, :held].long(), merged[:, :held])


def test_a_reset_is_a_length_of_zero():
    torch.manual_seed(0)
    bank, length = torch.randn(1, 3, 1, 4), torch.tensor([3], dtype=torch.int32)
    order = torch.tensor([[2, 0, 1]], dtype=torch.int32)
    sims, count = torch.full((1, 3), torch.nan), torch.full((1, 3), 9, dtype=torch.int32)
    length.zero_()
    items = torch.randn(3, 1, 1, 4)
    for item in items:
        bank_write(bank, length, None, None, item, policy="merge_adjacent", order=order, sims=sims, count=count)
    assert torch.equal(bank[0, [2, 0, 1]], items[:, 0]) and count.tolist() == [[1, 1, 1]]
    assert torch.isfinite(sims[0, :2]).all()


def test_wrong_arguments_are_named():
    bank, length = torch.zeros(2, 3, 4), torch.zeros(2, dtype=torch.int32)
    with pytest.raises(ValueError, match="expected a cursor"):
        bank_write(bank, length, None, None, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="expected order, sims and count"):
        bank_write(bank, length, None, None, torch.zeros(2, 4), policy="merge_adjacent")
    with pytest.raises(ValueError, match="item"):
        bank_write(bank, length, length, None, torch.zeros(2, 5))
    with pytest.raises(ValueError, match="ts and time together"):
        bank_write(bank, length, length, torch.zeros(2, 3), torch.zeros(2, 4))
