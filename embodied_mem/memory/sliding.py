"""A sliding window over time as a shift register: the last W items of the episode, the oldest first.

What is computed from such a window does not depend on when the episode began, and an item's age is its place. The
sequence form lines up the carried items and the sequence's own, ``W + T`` in all, and takes queries block by block:
item j of a block is ``W + i - j`` steps old for query i. Items that do not exist are 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.memory.segments import reset_distance, segment_ids

__all__ = ["Block", "Sliding", "masked_softmax", "skew", "slide"]


class Block(NamedTuple):
    """Some consecutive queries of a sequence and the items that reach them."""

    asking: slice
    """The Q queries, in 0 .. T."""
    asked: slice
    """The K = W + Q items, in 0 .. W + T."""
    age: Tensor
    """(Q, K) int64 steps from an item to a query; negative: still to come."""
    same: Tensor
    """(n, Q, K) bool, True where item and query belong to one episode and the item exists."""


class Sliding(NamedTuple):
    """Who belongs together in a window of W carried items and T tokens."""

    segment: Tensor
    """(n, T) int64 episode of every token, 0 for the carried one."""
    owner: Tensor
    """(n, W + T) int64 episode of every item, -1 where it does not exist."""
    position: Tensor
    """(n, T) int64 tokens before each one in its episode."""
    lengths: Tensor
    """(n,) int64 real tokens."""
    after: Tensor
    """(n,) int64 tokens of the episode after the last real one."""

    @classmethod
    def of(cls, count: Tensor, window: int, resets: Tensor | None, valid: Tensor | None, steps: int) -> Sliding:
        """Lay out a sequence.

        Args:
            count: (n,) int64 tokens of the carried episode so far.
            window: W.
            resets, valid: (n, T) bool or None.
            steps: T.
        """
        n, device = len(count), count.device
        if resets is None:
            resets = torch.zeros(n, steps, dtype=torch.bool, device=device)
        lengths = torch.full((n,), steps, device=device) if valid is None else valid.sum(1)
        segment = segment_ids(resets)
        position = torch.where(
            segment == 0, count.unsqueeze(1) + torch.arange(steps, device=device), reset_distance(resets)
        )
        exists = torch.arange(window, 0, -1, device=device) <= count.unsqueeze(1)
        owner = torch.cat([torch.where(exists, 0, -1), segment], 1)
        after = torch.cat([count.unsqueeze(1), position + 1], 1).gather(1, lengths.unsqueeze(1)).squeeze(1)
        return cls(segment, owner, position, lengths, after)

    def blocks(self, size: int) -> Iterator[Block]:
        """Yield the queries ``size`` at a time."""
        T, device = self.segment.shape[1], self.segment.device
        W = self.owner.shape[1] - T
        for start in range(0, T, size):
            stop = min(start + size, T)
            age = torch.arange(W, W + stop - start, device=device).unsqueeze(1)
            age = age - torch.arange(W + stop - start, device=device)
            asking, asked = slice(start, stop), slice(start, stop + W)
            same = self.owner[:, None, asked] == self.segment[:, asking, None]
            yield Block(asking, asked, age, same)

    def carry(self, items: Tensor) -> Tensor:
        """Return what the window holds after the last real token: items (n, W + T, ...) -> (n, W, ...)."""
        W = items.shape[1] - self.segment.shape[1]
        last = self.lengths.unsqueeze(1) + torch.arange(W, device=items.device)
        shape = (len(last), W, *[1] * (items.dim() - 2))
        taken = items.gather(1, last.view(shape).expand(-1, -1, *items.shape[2:]))
        kept = torch.arange(W, 0, -1, device=items.device) <= self.after.unsqueeze(1)
        return torch.where(kept.view(shape), taken, 0)


def slide(held: Tensor, item: Tensor) -> Tensor:
    """Drop the oldest item and append one: (n, W, ...), (n, ...) -> (n, W, ...)."""
    return torch.cat([held[:, 1:], item.unsqueeze(1)], 1)


def skew(by_age: Tensor) -> Tensor:
    """Lay numbers given by age along the items of a block: (..., Q, W + 1), oldest first -> (..., Q, W + Q).

    Row i is shifted by i, so that its last number meets the query's own item; 0 elsewhere.

    >>> skew(torch.tensor([[1, 2], [3, 4]])).tolist()
    [[1, 2, 0], [0, 3, 4]]
    """
    Q, ages = by_age.shape[-2:]
    K = ages - 1 + Q
    padded = torch.nn.functional.pad(by_age, (0, Q)).flatten(-2)
    return padded[..., : Q * K].unflatten(-1, (Q, K))


def masked_softmax(scores: Tensor, visible: Tensor) -> Tensor:
    """Softmax over the last axis where ``visible``, exactly 0 elsewhere; every query sees something."""
    return scores.masked_fill(~visible, -torch.inf).softmax(-1)
