"""Row operations on an agent's state: nested dicts, lists or tuples of arrays or tensors, rows first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def row_leaves(state: Any) -> list[Any]:
    """Return the arrays and tensors of a state; anything else in it comes back as it is."""
    if isinstance(state, dict):
        return [leaf for value in state.values() for leaf in row_leaves(value)]
    if isinstance(state, list | tuple):
        return [leaf for value in state for leaf in row_leaves(value)]
    return [] if state is None else [state]


def why_not_rows(state: Any, n: int) -> str | None:
    """Return why a state cannot be wiped or exchanged row by row, or None if it can.

    Args:
        state: what the agent's ``initial_state(n, seed)`` returned.
        n: number of rows B.
    """
    leaves = row_leaves(state)
    if not leaves:
        return "the agent keeps no local memory state"
    for leaf in leaves:
        if not isinstance(leaf, np.ndarray | torch.Tensor):
            return f"the agent's state holds a {type(leaf).__name__}, not arrays with a leading row axis"
        if leaf.ndim == 0 or leaf.shape[0] != n:
            return f"the agent's state holds an array of shape {tuple(leaf.shape)}, expected {n} rows first"
    return None


def take_rows(state: Any, index: np.ndarray) -> Any:
    """Return the state whose row i is row ``index[i]`` of ``state``; ``index`` is (B,) int64."""
    return _map(state, lambda leaf: leaf[torch.as_tensor(index, device=leaf.device)], lambda leaf: leaf[index])


def replace_rows(state: Any, fresh: Any, replaced: np.ndarray) -> Any:
    """Return ``state`` with the rows of ``replaced`` (B,) bool taken from ``fresh``; selected, so no NaN crosses."""
    if isinstance(state, dict):
        return {name: replace_rows(value, fresh[name], replaced) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(replace_rows(value, new, replaced) for value, new in zip(state, fresh, strict=True))
    if isinstance(state, torch.Tensor):
        shape = (-1,) + (1,) * (state.ndim - 1)
        return torch.where(torch.as_tensor(replaced, device=state.device).view(shape), fresh, state)
    if isinstance(state, np.ndarray):
        return np.where(replaced.reshape((-1,) + (1,) * (state.ndim - 1)), fresh, state)
    return state


def put_rows(state: Any, index: np.ndarray, new: Any) -> None:
    """Write the rows of ``new`` over the rows ``index`` (b,) int64 of ``state``, in place."""
    if isinstance(state, dict):
        for name, value in state.items():
            put_rows(value, index, new[name])
    elif isinstance(state, list | tuple):
        for value, item in zip(state, new, strict=True):
            put_rows(value, index, item)
    elif isinstance(state, torch.Tensor):
        state[torch.as_tensor(index, device=state.device)] = new
    elif isinstance(state, np.ndarray):
        state[index] = new


def own_rows(state: Any) -> Any:
    """Return a copy of ``state`` that can be written in place (`put_rows`)."""
    return _map(state, lambda leaf: leaf.clone(memory_format=torch.contiguous_format), lambda leaf: leaf.copy())


def _map(state: Any, tensor: Callable[[torch.Tensor], Any], array: Callable[[np.ndarray], Any]) -> Any:
    if isinstance(state, dict):
        return {name: _map(value, tensor, array) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_map(value, tensor, array) for value in state)
    if isinstance(state, torch.Tensor):
        return tensor(state)
    return array(state) if isinstance(state, np.ndarray) else state
