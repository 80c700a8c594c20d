"""Who is held when: the parallel count against a bank that is filled step by step."""

import pytest
import torch

from embodied_mem.memory.eviction import empty_order, stays


def play(order, carried, resets, length, M):
    """Slots after every step, as numbers of items; -1 for an empty slot of a new episode. Yields what a read sees."""
    held, owner, seen = carried.clone(), list(range(M)), []
    for t in range(length):
        if resets[t]:
            held, owner = empty_order(M), [-1] * M
        seen.append({owner[j] for j in range(M) if held[j] >= 0})
        slot = int(held.argmin())
        held[slot], owner[slot] = order[t], M + t
    return seen, owner


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("M", [1, 2, 5])
@pytest.mark.parametrize("T", [1, 6, 17])
def test_parallel_count_equals_the_step_loop(T, M, rate):
    g = torch.Generator().manual_seed(T * 10 + M)
    B, before = 4, 7
    # distinct, in random order: later items do not always rank higher
    ranks = torch.stack([torch.randperm(before + T, generator=g) for _ in range(B)])
    carried = empty_order(M).repeat(B, 1)
    for row, fill in enumerate((0, 1, 3, before)):
        for t in range(fill):
            carried[row, int(carried[row].argmin())] = ranks[row, t]
    order, resets = ranks[:, before:], torch.rand(B, T, generator=g) < rate
    lengths = torch.tensor([T, T // 2, 0, T])
    resets &= torch.arange(T) < lengths.unsqueeze(1)
    found = stays(order, carried, resets.cumsum(1), lengths)
    for row in range(B):
        seen, owner = play(order[row], carried[row], resets[row], int(lengths[row]), M)
        assert found.owner[row].tolist() == owner
        for t, items in enumerate(seen):
            assert set(found.visible[row, t].nonzero().squeeze(1).tolist()) == items


def test_rising_order_is_a_ring_of_the_last_items():
    T, M = 10, 3
    found = stays(
        torch.arange(T).unsqueeze(0), empty_order(M).unsqueeze(0), torch.zeros(1, T).long(), torch.tensor([T])
    )
    own = found.visible[0, :, M:]
    age = torch.arange(T).unsqueeze(1) - torch.arange(T)
    assert torch.equal(own, (age >= 1) & (age <= M))
    assert found.owner.tolist() == [[M + 9, M + 7, M + 8]]
