"""What a state holds, tensor by tensor: shape, bytes, size of the numbers, and items with their ages where it has any.

    memory = make_memory("hybrid", in_dim=8, out_dim=8)
    _, state = memory.sequence(x)
    print(state_report(state, memory))

The shape alone says nothing about when something was written, so ages come from the memory (`MemoryModule.ages`);
without it the report holds what the tensors themselves tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryModule
from embodied_mem.memory.state import Role

__all__ = ["Held", "StateReport", "state_report"]


@dataclass(frozen=True)
class Held:
    """One tensor of a state. Ranges are (least, most) over all rows."""

    key: str
    """Its name in the state."""
    shape: tuple[int, ...]
    """Shape of one row."""
    dtype: str
    """Type of its numbers."""
    bytes_per_row: int
    """Bytes of one row."""
    range: tuple[float, float]
    """Smallest and largest number."""
    role: Role | None = None
    """carry, ring, counter or param_like; None without the memory."""
    items: tuple[int, int] | None = None
    """Items held by a row; None for a tensor that holds none."""
    age: tuple[int, int] | None = None
    """Steps since the newest and since the oldest item was written; None where no row holds an item."""


@dataclass(frozen=True)
class StateReport:
    """What a state holds; ``print`` it for a table."""

    rows: int
    """Rows (environments)."""
    bytes_per_row: int
    """Bytes of one row of all tensors."""
    held: tuple[Held, ...]
    """Every tensor."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able form."""
        return asdict(self)

    def __str__(self) -> str:
        """Return one line per tensor."""
        lines = [("key", "shape", "type", "role", "bytes", "numbers", "items", "age in steps")]
        for item in self.held:
            low, high = item.range
            lines.append(
                (
                    item.key,
                    "x".join(map(str, item.shape)) or "1",
                    item.dtype,
                    item.role or "-",
                    f"{item.bytes_per_row:,}",
                    f"{low:.3g} .. {high:.3g}",
                    _span(item.items),
                    _span(item.age),
                )
            )
        widths = [max(map(len, column)) for column in zip(*lines)]
        table = ["  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines]
        return "\n".join([f"{self.rows} rows of {self.bytes_per_row:,} bytes", *table])


def state_report(state: Mapping[str, Tensor], memory: MemoryModule | None = None) -> StateReport:
    """Return what ``state`` holds.

    Args:
        state: tensors with the rows first.
        memory: the memory it belongs to, for roles, items and ages.

    Raises:
        UsageError: the state is empty or not one of that memory.

    >>> import torch
    >>> print(state_report({"h": torch.zeros(2, 3)}))
    2 rows of 12 bytes
    key  shape  type     role  bytes  numbers  items  age in steps
    h    3      float32  -     12     0 .. 0   -      -
    """
    if not state:
        raise UsageError("expected a state with at least one tensor, got an empty dict")
    spec = memory.state_spec() if memory is not None else {}
    if memory is not None and spec.keys() != state.keys():
        raise UsageError(f"expected a state with the keys {sorted(spec)}, got {sorted(state)}; pass its own memory")
    ages = memory.ages(dict(state)) if memory is not None else {}
    held = []
    for key, value in state.items():
        items = age = None
        if key in ages:
            exists = ages[key] >= 0
            found = ages[key][exists]
            items = _range(exists.sum(1))
            age = _range(found) if len(found) else None
        row, value = value[:1], value.detach()
        held.append(
            Held(
                key=key,
                shape=tuple(value.shape[1:]),
                dtype=str(value.dtype).removeprefix("torch."),
                bytes_per_row=row.numel() * row.element_size(),
                range=(float(value.min()), float(value.max())),
                role=spec[key].role if spec else None,
                items=items,
                age=age,
            )
        )
    rows = len(next(iter(state.values())))
    return StateReport(rows, sum(item.bytes_per_row for item in held), tuple(held))


def _range(values: Tensor) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _span(values: tuple[int, int] | None) -> str:
    if values is None:
        return "-"
    low, high = values
    return str(low) if low == high else f"{low} .. {high}"
