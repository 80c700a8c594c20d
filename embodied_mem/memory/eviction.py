"""Which items a bounded bank holds at every step of a sequence, in parallel.

Rule of the bank, one item per step: the newest item is always taken in; it replaces the held item of lowest `order`. So
after step t the bank holds item t and the M - 1 items of highest order among the earlier ones of the episode, and an
item's stay ends when M - 1 others outrank it: counting outranking items replaces the step loop.

Empty slots are items of negative order, slot 0 the lowest: they are replaced first, in the order of their number.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Stays", "empty_order", "stays"]


class Stays(NamedTuple):
    """What `stays` finds; items are numbered 0 .. M-1 for the carried slots, then M + t for token t."""

    visible: Tensor
    """(B, T, M + T) bool, True where the bank that token t reads (before its own write) holds the item."""
    owner: Tensor
    """(B, M) int64, the item each slot holds after the last real token; -1 for an empty slot of a new episode."""


def empty_order(M: int, device: torch.device | None = None) -> Tensor:
    """Return the order of the slots of an empty bank, (M,) int64."""
    return torch.arange(-M, 0, device=device)


def stays(order: Tensor, carried: Tensor, segment: Tensor, lengths: Tensor) -> Stays:
    """Find who is held when.

    Args:
        order: (B, T) int64 >= 0 of the tokens, distinct within an episode.
        carried: (B, M) int64 order of the carried slots, negative where empty.
        segment: (B, T) int64 episode of each token, 0 for the episode of the carried state.
        lengths: (B,) int64 real tokens of each row; what follows is padding.
    """
    (B, T), M = order.shape, carried.shape[1]
    device = order.device
    orders = torch.cat([carried, order], 1)
    episode = torch.cat([torch.zeros_like(carried), segment], 1)
    outranked = (orders.unsqueeze(1) > orders.unsqueeze(2)) & (episode.unsqueeze(1) == episode.unsqueeze(2))
    by_tokens = outranked[..., M:].to(torch.int32)
    # rank of an item among those that came before step t, for t = 0 .. T-1
    rank = outranked[..., :M].sum(-1, dtype=torch.int32).unsqueeze(-1) + by_tokens.cumsum(-1) - by_tokens
    came = torch.cat([torch.full((M,), -1, device=device), torch.arange(T, device=device)]).unsqueeze(-1)
    step = torch.arange(T, device=device)
    later = (came == step) | ((came < step) & (rank < M - 1))
    # column t: held after step t - 1
    held = torch.cat([(came < 0).expand(B, -1, -1), later], -1)
    live = (segment.unsqueeze(-1) == episode.unsqueeze(1)) & (orders >= 0).unsqueeze(1)
    visible = held[..., :T].transpose(1, 2) & live
    return Stays(visible, _owners(held, came.squeeze(-1), episode, lengths, M))


def _owners(held: Tensor, came: Tensor, episode: Tensor, lengths: Tensor, M: int) -> Tensor:
    """Follow who replaced whom back to a slot number, by pointer doubling."""
    B, items, _ = held.shape
    T, device = items - M, held.device
    number = torch.arange(items, device=device).expand(B, items)
    last = lengths.unsqueeze(1)
    latest = episode.gather(1, (M - 1 + last).clamp(min=0)).where(last > 0, 0)
    ours = (episode == latest) & (came < last)
    column = torch.arange(T + 1, device=device)
    stayed = (held & (column > came.unsqueeze(-1) + 1) & (column <= last.unsqueeze(-1))).sum(-1)
    left = came + 1 + stayed
    replaced = torch.cat([number, number[:, :1]], 1)
    # in a new episode the first M tokens fill the empty slots by number
    position = came - torch.where(episode == latest, came, items).amin(1, keepdim=True)
    fills = ours & (latest > 0) & (position < M)
    replaced[:, :items] = torch.where(fills, position, replaced[:, :items])
    leaves = ours & (left < last)
    replaced = replaced.scatter(1, torch.where(leaves, M + left, items), number)[:, :items]
    for _ in range(max(1, T.bit_length())):
        replaced = replaced.gather(1, replaced)
    final = ours & held.gather(2, last.unsqueeze(-1).expand(B, items, 1)).squeeze(-1)
    owner = torch.full((B, M + 1), -1, device=device)
    return owner.scatter(1, torch.where(final, replaced, M), number)[:, :M]
