from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.memory.ring import ring_age, ring_extend, ring_mask, ring_write


def drawn(M, T, seed):
    g = torch.Generator().manual_seed(seed)
    ring, items = torch.randn(3, M, 2, generator=g), torch.randn(3, T, 2, generator=g)
    head, fill = torch.randint(M, (3,), generator=g), torch.randint(M + 1, (3,), generator=g)
    resets, write = torch.rand(3, T, generator=g) < 0.2, torch.rand(3, T, generator=g) < 0.6
    return ring, head.int(), fill.int(), items, resets, write


cases = given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 10_000))


@cases
@settings(max_examples=60, deadline=None)
def test_extend_equals_repeated_writes(M, T, seed):
    ring, head, fill, items, resets, write = drawn(M, T, seed)
    for chosen in (None, write):
        want = ring, head, fill
        for t in range(T):
            now = want[2].masked_fill(resets[:, t], 0)
            want = ring_write(want[0], want[1], now, items[:, t], write=None if chosen is None else chosen[:, t])
        found = ring_extend(ring, head, fill, items, resets, write=chosen)
        for a, b in zip(found, want):
            assert a.dtype == b.dtype and torch.equal(a, b)


@cases
@settings(max_examples=60, deadline=None)
def test_mask_holds_exactly_the_items_of_the_episode(M, T, seed):
    ring, head, fill, items, resets, _ = drawn(M, T, seed)
    kept = [[None] * int(n) for n in fill]
    for t in range(T):
        ring, head, fill = ring_write(ring, head, fill.masked_fill(resets[:, t], 0), items[:, t])
        for row in range(3):
            kept[row] = (([] if resets[row, t] else kept[row]) + [items[row, t]])[-M:]
    valid, age = ring_mask(head, fill, M), ring_age(head, M)
    for row in range(3):
        assert int(valid[row].sum()) == len(kept[row])
        for back, item in enumerate(reversed(kept[row])):
            slot = int((age[row] == back).nonzero()[0, 0])
            assert valid[row, slot]
            assert item is None or torch.equal(ring[row, slot], item)


def test_write_copies_unless_donated():
    ring, head, fill = torch.zeros(1, 4, 2), torch.tensor([3]), torch.tensor([0])
    written, _, _ = ring_write(ring, head, fill, torch.ones(1, 2))
    assert not ring.any() and written[0, 0].all()
    donated, _, _ = ring_write(ring, head, fill, torch.ones(1, 2), donate=True)
    assert donated is ring and ring[0, 0].all()


def test_reset_empties_by_counter_and_gradients_reach_items():
    items = torch.randn(1, 3, 2, requires_grad=True)
    ring, head, fill = ring_extend(torch.zeros(1, 4, 2), torch.tensor([0]), torch.tensor([0]), items)
    assert not ring_mask(head, torch.zeros_like(fill), 4).any()
    ring.sum().backward()
    assert bool((items.grad == 1).all())
