from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.memory.repack import find_episodes, from_stairs, repack_episodes, to_stairs, unpack_episodes


def drawn(T, seed, rate, padded):
    g = torch.Generator().manual_seed(seed)
    x, resets = torch.randn(4, T, 3, generator=g, dtype=torch.float64), torch.rand(4, T, generator=g) < rate
    valid = None
    if padded:
        valid = torch.arange(T) < torch.randint(T + 1, (4, 1), generator=g)
        resets &= valid
    return x, resets, valid


cases = given(st.integers(1, 20), st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 1.0]), st.booleans())


def listed(resets, valid):
    """Every episode as (row, tokens in order), by walking the rows."""
    found = []
    for row in range(resets.shape[0]):
        for t in range(resets.shape[1]):
            if valid is not None and not valid[row, t]:
                break
            if t == 0 or resets[row, t]:
                found.append((row, []))
            found[-1][1].append(t)
    return found


@cases
@settings(max_examples=80, deadline=None)
def test_episodes_are_those_of_a_walk(T, seed, rate, padded):
    _, resets, valid = drawn(T, seed, rate, padded)
    found, want = find_episodes(resets, valid), listed(resets, valid)
    assert found.length.tolist() == sorted((len(tokens) for _, tokens in want), reverse=True)
    assert found.sizes == [sum(len(tokens) > p for _, tokens in want) for p in range(len(found.sizes))]
    offset = 0
    tokens = [[] for _ in want]
    for size in found.sizes:
        for episode in range(size):
            tokens[episode].append(int(found.tokens[offset + episode]))
        offset += size
    assert sorted(tokens) == sorted([row * T + t for t in steps] for row, steps in want)
    for episode, flat in enumerate(tokens):
        assert flat[0] // T == int(found.row[episode])
        assert bool(found.live[episode]) == (flat[0] % T == 0 and not bool(resets[flat[0] // T, 0]))
    for row in range(4):
        last = int(found.last[row])
        ends = [steps[-1] for owner, steps in want if owner == row]
        assert (last < 0) == (not ends)
        assert not ends or tokens[last][-1] == row * T + ends[-1]


@cases
@settings(max_examples=60, deadline=None)
def test_both_layouts_come_back_in_value_and_gradient(T, seed, rate, padded):
    x, resets, valid = drawn(T, seed, rate, padded)
    x.requires_grad_()
    real = torch.ones(4, T, dtype=torch.bool) if valid is None else valid
    rows, kept, episodes = repack_episodes(x, resets, valid)
    assert int(kept.sum()) == int(real.sum()) and not rows[~kept].any()
    weights = torch.randn(4, T, 3, dtype=torch.float64)
    if len(episodes.sizes):
        stairs = from_stairs(to_stairs(x, episodes), episodes)
        assert torch.equal(stairs[real], x[real])
        (dx,) = torch.autograd.grad((stairs[real] * weights[real]).sum(), x)
        assert torch.equal(dx, weights * real.unsqueeze(-1))
        back = unpack_episodes(rows, episodes)
        assert torch.equal(back, torch.where(real.unsqueeze(-1), x, 0))
        (dx,) = torch.autograd.grad((back * weights).sum(), x)
        assert torch.equal(dx, weights * real.unsqueeze(-1))


def test_reset_flags_may_have_any_memory_layout():
    resets = torch.rand(5, 12) < 0.3
    want = find_episodes(resets)
    for view in (resets.t().contiguous().t(), torch.cat([resets, resets], 1)[:, :12]):
        found = find_episodes(view)
        assert found.sizes == want.sizes and torch.equal(found.tokens, want.tokens)
