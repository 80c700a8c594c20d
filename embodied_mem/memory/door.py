"""Checks of what enters a memory: one clear error at the door instead of a shape error inside.

Everything here looks at shapes and dtypes only, so it costs microseconds and no device synchronisation; the one look at
data (is ``valid`` right padding?) is made for tensors on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from embodied_mem.errors import UsageError

__all__ = ["check_input", "check_reset", "check_resets", "check_state", "check_valid"]

_FLOATS = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})

Door = tuple[tuple[str, tuple[int, ...], torch.dtype], ...]


def check_input(x: Tensor, rank: int, in_dim: int) -> None:
    """Raise unless ``x`` is a float tensor (n, in_dim) for rank 2, (n, T >= 1, in_dim) for rank 3."""
    shape = x.shape
    if len(shape) != rank or shape[-1] != in_dim:
        axes = "(n, T, {})" if rank == 3 else "(n, {})"
        other = "; sequence() takes (n, T, in_dim), step() takes (n, in_dim)" if len(shape) != rank else ""
        hint = other or f"; the memory was built with in_dim={in_dim}"
        raise UsageError(f"expected x of shape {axes.format(in_dim)}, got {tuple(shape)}{hint}")
    if x.dtype not in _FLOATS:
        raise UsageError(f"expected x of a float dtype, got {x.dtype}; convert it with x.float()")
    if shape[0] < 1 or (rank == 3 and shape[1] < 1):
        raise UsageError(f"expected at least one row and one step in x, got shape {tuple(shape)}")


def check_state(state: Mapping[str, Tensor], rows: int, door: Door) -> None:
    """Raise unless ``state`` has the keys, shapes (rows, ...) and dtypes in ``door`` (or float64 for a float)."""
    if len(state) != len(door):
        raise _wrong_keys(state, door)
    for key, shape, dtype in door:
        value = state.get(key)
        if value is None:
            raise _wrong_keys(state, door)
        if value.shape != (rows, *shape):
            raise UsageError(
                f"expected state[{key!r}] of shape {(rows, *shape)}, got {tuple(value.shape)}; "
                "take the state from initial_state(n) and change its rows with select and merge only"
            )
        # float64 is the state of a memory cast with .double()
        if value.dtype is not dtype and not (dtype.is_floating_point and value.dtype is torch.float64):
            hint = "undo pack() with unpack()" if value.is_floating_point() else "do not cast the state"
            hint = hint if dtype.is_floating_point else "do not cast counters"
            raise UsageError(f"expected state[{key!r}] of dtype {dtype}, got {value.dtype}; {hint}")


def check_reset(reset: Tensor, rows: int) -> None:
    """Raise unless ``reset`` is (rows,) bool."""
    if reset.dtype is not torch.bool or reset.shape != (rows,):
        raise UsageError(
            f"expected reset of shape ({rows},) bool, got {tuple(reset.shape)} {reset.dtype}{_bool_hint(reset)}"
        )


def check_resets(resets: Tensor, rows: int, steps: int, name: str = "resets") -> None:
    """Raise unless ``resets`` is (rows, steps) bool."""
    if resets.dtype is not torch.bool or resets.shape != (rows, steps):
        raise UsageError(
            f"expected {name} of shape ({rows}, {steps}) bool, got {tuple(resets.shape)} {resets.dtype}"
            f"{_bool_hint(resets)}"
        )


def check_valid(valid: Tensor, rows: int, steps: int) -> None:
    """Raise unless ``valid`` is (rows, steps) bool and marks right padding (no real token after a padded one)."""
    check_resets(valid, rows, steps, "valid")
    if valid.device.type == "cpu" and bool((valid[:, 1:] & ~valid[:, :-1]).any()):
        raise UsageError("expected right padding in valid (True ... True False ... False per row), got a gap")


def _bool_hint(found: Tensor) -> str:
    return "" if found.dtype is torch.bool else "; convert it with .bool()"


def _wrong_keys(state: Mapping[str, Tensor], door: Door) -> UsageError:
    want = sorted(key for key, _, _ in door)
    return UsageError(f"expected a state with the keys {want}, got {sorted(state)}; take it from initial_state(n)")
