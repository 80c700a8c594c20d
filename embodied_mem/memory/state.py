"""The state of a memory: a plain flat dict of tensors, rows (environments) first, and what one may do with it.

Nested modules join their names with a slash (``state["layer0/h"]``), so the dict stays flat. There are no state
classes: everything below works on any such dict, of any memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from embodied_mem.errors import UsageError

__all__ = [
    "Role",
    "State",
    "StateSpec",
    "detach",
    "from_numpy",
    "merge",
    "pack",
    "reset_where",
    "select",
    "to_numpy",
    "unpack",
]

State = dict[str, Tensor]
Role = Literal["carry", "ring", "counter", "param_like"]

_HALF_MAX = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class StateSpec:
    """One tensor of a state, without its leading row axis."""

    shape: tuple[int, ...]
    """Shape of one row."""
    dtype: torch.dtype = torch.float32
    """Type at rest; floats are float32 whatever the activations are."""
    role: Role = "carry"
    """carry: recurrent value, follows casts; ring: stored items; counter: clock or fill; param_like: fast weight."""

    def __post_init__(self) -> None:
        if self.role == "counter" and self.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"expected int32 or int64 for a counter, got {self.dtype}")

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.dtype.itemsize

    def dtype_under(self, dtype: torch.dtype) -> torch.dtype:
        """Return the type of this tensor in a state cast to ``dtype``.

        Only "carry" follows a cast, except that widening to float64 is lossless and takes every float along.
        """
        if self.dtype.is_floating_point and (self.role == "carry" or dtype == torch.float64):
            return dtype
        return self.dtype


def select(state: Mapping[str, Tensor], index: Tensor | Sequence[int]) -> State:
    """Return the rows ``index`` (m,) int64 of every tensor, as copies (m, ...)."""
    first = next(iter(state.values()))
    rows = torch.as_tensor(index, device=first.device)
    if rows.dim() != 1 or rows.dtype not in (torch.int64, torch.int32):
        raise UsageError(
            f"expected row numbers (m,) int64 to select, got {tuple(rows.shape)} {rows.dtype}; "
            "turn a mask into row numbers with mask.nonzero()[:, 0]"
        )
    return {key: value.index_select(0, rows) for key, value in state.items()}


def merge(states: Sequence[Mapping[str, Tensor]]) -> State:
    """Join states with the same keys along the rows.

    Raises:
        UsageError: there is no state, or the keys differ.
    """
    if not states:
        raise UsageError("expected at least one state to merge, got none")
    keys = states[0].keys()
    for state in states[1:]:
        if state.keys() != keys:
            raise UsageError(f"expected states with the keys {sorted(keys)} to merge, got {sorted(state)}")
    return {key: torch.cat([state[key] for state in states]) for key in keys}


def detach(state: Mapping[str, Tensor]) -> State:
    """Return the same values without their gradient history."""
    return {key: value.detach() for key, value in state.items()}


def to_numpy(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Return the state as arrays of the same dtypes (lossless; copies when on a device).

    Raises:
        UsageError: a tensor is bfloat16, which numpy cannot hold.
    """
    for key, value in state.items():
        if value.dtype == torch.bfloat16:
            raise UsageError(f"expected a state without bfloat16 for numpy, got {key!r} bfloat16; states are float32")
    return {key: value.detach().cpu().numpy() for key, value in state.items()}


def from_numpy(arrays: Mapping[str, np.ndarray], device: torch.device | str | None = None) -> State:
    """Return the state held by arrays (n, ...); the tensors own their memory."""
    return {key: torch.tensor(np.asarray(array), device=device) for key, array in arrays.items()}


def pack(state: Mapping[str, Tensor]) -> State:
    """Return the state with floats as float16 (saturated, not infinite), half the bytes for stored training batches."""
    return {
        key: value.clamp(-_HALF_MAX, _HALF_MAX).to(torch.float16) if value.is_floating_point() else value
        for key, value in state.items()
    }


def unpack(state: Mapping[str, Tensor], spec: Mapping[str, StateSpec]) -> State:
    """Undo `pack`: every tensor back in the dtype of its spec (rounded to float16 on the way)."""
    return {key: value.to(spec[key].dtype) for key, value in state.items()}


def reset_where(reset: Tensor, fresh: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> State:
    """Replace the rows ``reset`` (n,) bool of ``state`` by those of ``fresh`` (n or 1 rows).

    By ``where``, never by multiplication: a NaN of the old episode crosses neither in the value nor in the gradient.
    """
    return {
        key: torch.where(reset.view(-1, *[1] * (value.dim() - 1)), fresh[key], value) for key, value in state.items()
    }
