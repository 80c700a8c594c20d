"""Windows over time as shift registers, against lists of what each token may see."""

import pytest
import torch

from embodied_mem.memory.sliding import Sliding, masked_softmax, skew, slide

N, T, W = 3, 12, 4


def layout(with_valid):
    generator = torch.Generator().manual_seed(0)
    count = torch.tensor([0, 2, 9])
    resets = torch.rand(N, T, generator=generator) < 0.2
    lengths = torch.tensor([T, 7, 0]) if with_valid else torch.full((N,), T)
    valid = torch.arange(T) < lengths.unsqueeze(1) if with_valid else None
    return count, resets if valid is None else resets & valid, lengths, valid


def histories(count, resets, row):
    """Items of the episode up to each token, the oldest first; carried ones are negative."""
    seen = list(range(-min(int(count[row]), W), 0))
    position, found = int(count[row]), []
    for t in range(T):
        if resets[row, t]:
            seen, position = [], 0
        seen = [*seen, t]
        found.append((list(seen), position))
        position += 1
    return found


@pytest.mark.parametrize("size", [1, 5, 64])
def test_blocks_see_the_items_of_their_episode(size):
    count, resets, _, _ = layout(False)
    sliding = Sliding.of(count, W, resets, None, T)
    for row in range(N):
        history = histories(count, resets, row)
        assert sliding.position[row].tolist() == [position for _, position in history]
        asked = []
        for block in sliding.blocks(size):
            visible = block.same & (block.age >= 0) & (block.age <= W)
            names = torch.arange(-W, T)[block.asked]
            asked += [names[row_visible].tolist() for row_visible in visible[row]]
            queries = torch.arange(T)[block.asking]
            assert torch.equal(block.age, queries.unsqueeze(1) - names)
        assert asked == [seen[-1 - W :] for seen, _ in history]


@pytest.mark.parametrize("with_valid", [False, True])
def test_carry_leaves_the_last_items_of_the_last_episode(with_valid):
    count, resets, lengths, valid = layout(with_valid)
    sliding = Sliding.of(count, W, resets, valid, T)
    items = torch.arange(1.0, W + T + 1).expand(N, -1).unsqueeze(2)
    kept = sliding.carry(items)
    for row in range(N):
        end = int(lengths[row])
        seen = (
            histories(count, resets, row)[end - 1]
            if end
            else (list(range(-min(int(count[row]), W), 0)), count[row] - 1)
        )
        want = [float(name + W + 1) for name in seen[0][-W:]]
        assert kept[row, :, 0].tolist() == [0.0] * (W - len(want)) + want
        assert int(sliding.after[row]) == int(seen[1]) + 1


def test_slide_and_skew():
    held = torch.arange(6.0).view(1, 3, 2)
    assert slide(held, torch.tensor([[8.0, 9.0]])).tolist() == [[[2, 3], [4, 5], [8, 9]]]
    by_age = torch.arange(1.0, 10).view(3, 3)
    assert skew(by_age).tolist() == [[1, 2, 3, 0, 0], [0, 4, 5, 6, 0], [0, 0, 7, 8, 9]]


def test_softmax_is_exactly_zero_where_masked_whatever_stands_there():
    scores = torch.tensor([[1.0, float("nan"), 2.0]])
    weights = masked_softmax(scores, torch.tensor([[True, False, True]]))
    assert weights[0, 1] == 0 and torch.allclose(weights[0, [0, 2]], torch.tensor([1.0, 2.0]).softmax(0))
