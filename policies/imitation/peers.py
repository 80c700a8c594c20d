"""`Peers`: the processes that learn one run together, each from its own rows of every batch.

Every process holds all weights and the whole optimiser. Gradients are weighted by what each process's loss is the mean
over, and summed in one piece after the backward pass, so all processes make the step that one would make alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn


class Peers(Protocol):
    """Who learns together."""

    rank: int
    """This process's number; the one with 0 writes the files."""
    count: int
    """Processes."""

    def add(self, value: Tensor) -> Tensor:
        """Return the sum of every process's ``value``, which is overwritten; all processes must call it."""

    def join(self, value: Tensor) -> Tensor:
        """Return every process's ``value`` (n, ...) one after another, by rank; all processes must call it."""


class Alone:
    """One process."""

    rank, count = 0, 1

    def add(self, value: Tensor) -> Tensor:
        """Return ``value``."""
        return value

    def join(self, value: Tensor) -> Tensor:
        """Return ``value``."""
        return value


class TorchPeers:
    """The default group of `torch.distributed`, which must be set up."""

    def __init__(self) -> None:
        """Find out which process this is."""
        self.rank, self.count = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def add(self, value: Tensor) -> Tensor:
        """See `Peers.add`."""
        torch.distributed.all_reduce(value)
        return value

    def join(self, value: Tensor) -> Tensor:
        """See `Peers.join`."""
        if value.dtype == torch.bool:
            # gloo sends no bool
            return self.join(value.to(torch.uint8)).bool()
        parts = [torch.empty_like(value) for _ in range(self.count)]
        torch.distributed.all_gather(parts, value.contiguous())
        return torch.cat(parts)


def agree(peers: Peers, answer: bool, device: torch.device) -> bool:
    """Return the answer of the first process, in all of them."""
    if peers.count == 1:
        return answer
    said = torch.tensor(float(answer and peers.rank == 0), device=device)
    return bool(peers.add(said))


def add_gradients(peers: Peers, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
    """Put the sums over all processes into the gradients; return the sum of ``loss`` ()."""
    learned = [item for item in parameters if item.requires_grad]
    parts = [torch.zeros_like(item) if item.grad is None else item.grad for item in learned]
    flat = peers.add(torch.cat([loss.detach().reshape(1), *(part.reshape(-1) for part in parts)]))
    for item, part in zip(learned, flat[1:].split([part.numel() for part in parts])):
        item.grad = part.view_as(item)
    return flat[0]
