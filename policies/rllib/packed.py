"""Rows for the learner: fixed-length slices of vector rollouts, episode resets inside, memory state at row starts only.

A `PackedBatch` holds columns with leading axes (rows, S): what a runner returns and Ray transports. RLlib passes it
around wherever it would pass an Episode (it has the same counters). A `RowBatch` is the learner's tensor form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Columns = dict[str, Any]


def map_columns(function: Any, *columns: Mapping[str, Any]) -> Columns:
    """Apply ``function`` to the leaves of one or several nested dicts of the same keys."""
    first = columns[0]
    return {
        key: map_columns(function, *(c[key] for c in columns))
        if isinstance(value, Mapping)
        else function(*(c[key] for c in columns))
        for key, value in first.items()
    }


class PackedBatch:
    """Rows sampled by one runner: nested dict of arrays (rows, S, ...), `state_in` leaves (rows, ...).

    Args:
        columns: arrays (numpy, or tensors where runner and learner share a process).
        env_steps: real environment steps in the rows (dummy reset steps are not counted).
    """

    def __init__(self, columns: Columns, env_steps: int) -> None:
        self.columns = columns
        self._env_steps = env_steps

    @property
    def rows(self) -> int:
        """Number of learner rows."""
        return len(self.columns["loss_mask"])

    def __len__(self) -> int:
        return self._env_steps

    def env_steps(self) -> int:
        """Return the number of real environment steps (RLlib's name)."""
        return self._env_steps

    def agent_steps(self) -> int:
        """Return the number of real environment steps (RLlib's name)."""
        return self._env_steps

    def slice(self, start: int, stop: int) -> PackedBatch:
        """Return rows [start, stop) as views."""
        columns = map_columns(lambda leaf: leaf[start:stop], self.columns)
        return PackedBatch(columns, int(columns["loss_mask"].sum()))

    def shards(self, n: int) -> list[PackedBatch]:
        """Return ``n`` batches of equally many rows (rows that do not divide are left out), one per learner."""
        size = self.rows // n
        if size == 0:
            raise ValueError(f"expected at least {n} rows for {n} learners, got {self.rows}")
        return [self.slice(i * size, (i + 1) * size) for i in range(n)]

    def __repr__(self) -> str:
        shapes = map_columns(lambda leaf: f"{tuple(leaf.shape)} {leaf.dtype}", self.columns)
        return f"PackedBatch(env_steps={self._env_steps}, {shapes})"


def concat(batches: Sequence[PackedBatch]) -> PackedBatch:
    """Return one batch with the rows of all; a single batch is returned as it is."""
    if len(batches) == 1:
        return batches[0]
    columns = map_columns(_concat, *(batch.columns for batch in batches))
    return PackedBatch(columns, sum(batch.env_steps() for batch in batches))


class RowBatch:
    """The learner's form of packed rows: tensors on one device, under RLlib's module id."""

    def __init__(self, module_id: str, columns: Columns, env_steps: int) -> None:
        self.policy_batches = {module_id: columns}
        self._env_steps = env_steps
        self._module_id = module_id

    @classmethod
    def from_packed(cls, module_id: str, batch: PackedBatch, device: torch.device) -> RowBatch:
        """Move a packed batch to ``device``."""
        return cls(module_id, map_columns(lambda leaf: _to_tensor(leaf, device), batch.columns), batch.env_steps())

    @property
    def columns(self) -> Columns:
        """The nested dict of tensors."""
        return self.policy_batches[self._module_id]

    @property
    def rows(self) -> int:
        """Number of learner rows."""
        return len(self.columns["loss_mask"])

    def env_steps(self) -> int:
        """Return the number of real environment steps (RLlib's name)."""
        return self._env_steps

    def to_device(self, device: torch.device, **_: Any) -> RowBatch:
        """Return the batch on ``device`` (called by RLlib's GPU loader threads)."""
        columns = map_columns(lambda leaf: leaf.to(device, non_blocking=True), self.columns)
        return RowBatch(self._module_id, columns, self._env_steps)

    def minibatches(self, size: int, epochs: int, generator: torch.Generator | None) -> Iterator[RowBatch]:
        """Yield minibatches of ``size`` rows, every row once per epoch, in a fresh order per epoch.

        Args:
            size: rows per minibatch; the last of an epoch is smaller where it does not divide.
            epochs: passes over the rows.
            generator: CPU generator of the order; None keeps the order of the rows.
        """
        rows, columns = self.rows, self.columns
        device = columns["loss_mask"].device
        share = self._env_steps / rows
        for _ in range(epochs):
            if size >= rows:
                yield self
                continue
            order = torch.randperm(rows, generator=generator) if generator is not None else torch.arange(rows)
            for index in order.to(device).split(size):
                part = map_columns(lambda leaf, index=index: leaf.index_select(0, index), columns)
                yield RowBatch(self._module_id, part, round(share * len(index)))


def _concat(*leaves: Any) -> Any:
    return torch.cat(leaves) if isinstance(leaves[0], Tensor) else np.concatenate(leaves)


def _to_tensor(leaf: Any, device: torch.device) -> Tensor:
    if isinstance(leaf, Tensor):
        return leaf.to(device, non_blocking=True)
    if not leaf.flags.writeable:
        leaf = leaf.copy()
    return torch.from_numpy(leaf).to(device, non_blocking=True)
