"""Replacing the rows that reset, at the price of the rows that do.

``torch.where`` reads a whole state to change a few rows. On the CPU, where looking at ``reset`` costs no
synchronisation, a step in which nothing resets replaces nothing, and otherwise only the rows concerned are written.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["opened_rows", "replace_rows"]


def opened_rows(reset: Tensor | None) -> Tensor | None:
    """Return which rows reset: row numbers (m,) int64 on the CPU, None if there are none, else ``reset`` itself.

    ``reset`` (n,) bool is not looked at on a GPU (it would be a synchronisation) nor under `torch.compile`.
    """
    if reset is None or reset.device.type != "cpu" or torch.compiler.is_compiling():
        return reset
    rows = reset.nonzero().squeeze(1)
    return rows if len(rows) else None


def replace_rows(value: Tensor, rows: Tensor, fresh: Tensor | float, *, donate: bool = False) -> Tensor:
    """Return ``value`` (n, ...) with ``rows`` (of `opened_rows`) replaced by ``fresh``, (...) or a number.

    With ``donate`` the result may be written into ``value``.
    """
    if rows.dtype is torch.bool:
        return torch.where(rows.view(-1, *[1] * (value.dim() - 1)), fresh, value)
    value = value if donate else value.clone()
    if isinstance(fresh, Tensor):
        return value.index_copy_(0, rows, fresh.to(value.dtype).expand(len(rows), *fresh.shape))
    return value.index_fill_(0, rows, fresh)
