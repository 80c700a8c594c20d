"""Addressing by content, erase-and-add and the controller: what the memories with a writing head share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["content_weights", "cosine", "erase_add", "lstm_cell"]

_EPS = 1e-6


def cosine(M: Tensor, keys: Tensor) -> Tensor:
    """Return the cosine of every key and slot: M (n, N, W), keys (n, R, W) -> (n, R, N).

    The product of the norms is increased by 1e-6, so that an empty slot has cosine 0 and a finite gradient.
    """
    norms = _norm(keys).unsqueeze(2) * _norm(M).unsqueeze(1)
    return torch.bmm(keys, M.transpose(1, 2)) / (norms + _EPS)


def content_weights(M: Tensor, keys: Tensor, strength: Tensor) -> Tensor:
    """Return softmax over slots of ``strength * cosine``: M (n, N, W), keys (n, R, W), strength (n, R) -> (n, R, N)."""
    return (strength.unsqueeze(-1) * cosine(M, keys)).softmax(-1)


def erase_add(M: Tensor, weight: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """Return ``M * (1 - w e^T) + w a^T``: M (n, N, W), weight (n, N), erase and add (n, W) -> (n, N, W)."""
    weight = weight.unsqueeze(2)
    return M * (1 - weight * erase.unsqueeze(1)) + weight * add.unsqueeze(1)


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return h and c of an LSTM for its summed gates i, f, g, o (n, 4 C) and the cell before (n, C)."""
    i, f, g, o = gates.chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1)
