"""Chunks that count from the start of each episode, with a carried state that stands inside one."""

import pytest
import torch

from embodied_mem.memory.episode_chunks import find_chunks, from_chunks, to_chunks


def slow(resets, phase, C, valid):
    """Per chain (row, first token): its chunks as lists of (slot, token)."""
    chains = {}
    for b in range(len(resets)):
        count, name = int(phase[b]), None
        for t in range(resets.shape[1]):
            if valid is not None and not valid[b, t]:
                break
            if resets[b, t]:
                count, name = 0, None
            name = (b, t) if name is None else name
            chains.setdefault(name, {}).setdefault(count // C, []).append((count % C, t))
            count += 1
    return chains


@pytest.mark.parametrize("seed", range(12))
def test_every_token_lies_in_the_chunk_and_slot_of_a_count(seed):
    torch.manual_seed(seed)
    B, T, C = 1 + seed % 4, 1 + 3 * seed % 19, 1 + seed % 5
    resets, phase = torch.rand(B, T) < 0.2, torch.randint(C, (B,))
    valid = torch.arange(T) < torch.randint(T + 1, (B, 1)) if seed % 2 else None
    resets = resets if valid is None else resets & valid
    chunks, chains = find_chunks(resets, phase, C, valid), slow(resets, phase, C, valid)
    found, collected, offset = {}, [], 0
    for j, n in enumerate(chunks.sizes):
        for e in range(n):
            slots = [
                (slot, int(chunks.token[(offset + e) * C + slot])) for slot in range(C) if chunks.real[offset + e, slot]
            ]
            found.setdefault(e, {})[j] = [(slot, place % T) for slot, place in slots]
            assert all(place // T == int(chunks.row[e]) for _, place in slots)
        on = chunks.sizes[j + 1] if j + 1 < len(chunks.sizes) else 0
        collected += range(on, on + chunks.last_sizes[j])
        offset += n
    by_start = {(int(chunks.row[e]), next(iter(blocks.values()))[0][1]): blocks for e, blocks in found.items()}
    assert by_start == chains
    for b in range(B):
        latest = max((start for row, start in chains if row == b), default=None)
        if latest is None:
            assert int(chunks.last[b]) == -1
            continue
        e = collected[int(chunks.last[b])]
        blocks = chains[b, latest]
        assert found[e] == blocks and int(chunks.filled[e]) == blocks[max(blocks)][-1][0] + 1
        assert bool(chunks.live[e]) == (latest == 0 and not resets[b, 0])


def test_there_and_back_with_gradients():
    resets = torch.rand(3, 11, generator=torch.Generator().manual_seed(0)) < 0.2
    valid = torch.arange(11) < torch.tensor([[11], [0], [5]])
    chunks = find_chunks(resets & valid, torch.tensor([2, 0, 1]), 3, valid)
    x = torch.randn(3, 11, 2, dtype=torch.float64, requires_grad=True)
    back = from_chunks(to_chunks(x, chunks), chunks)
    assert torch.equal(back, torch.where(valid.unsqueeze(-1), x, 0))
    weight = torch.randn(3, 11, 2, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((back * weight).sum(), x)
    assert torch.equal(gradient, torch.where(valid.unsqueeze(-1), weight, 0))


def test_nothing_real_makes_no_chunk():
    chunks = find_chunks(
        torch.zeros(2, 3, dtype=torch.bool), torch.zeros(2, dtype=torch.int64), 4, torch.zeros(2, 3).bool()
    )
    assert chunks.sizes == [] and chunks.last.tolist() == [-1, -1]
