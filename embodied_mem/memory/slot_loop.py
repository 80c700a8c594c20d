"""Base of memories that advance token by token: what the reset, the padding and the loop have in common.

A subclass writes what one token does to one row (`advance`) and, for speed, what needs no memory: `prepare` reads all
tokens of a sequence at once, `emit` writes all outputs at once. Rows that reset get the start of every tensor before
the token is read, by replacement, so neither a value nor a gradient crosses.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from embodied_mem.memory.contract import MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.rows import opened_rows, replace_rows

__all__ = ["SlotLoop", "linear_macs"]

Token = tuple[Tensor, ...]


class SlotLoop(MemoryModule):
    """Memory whose sequence form is the loop over its step."""

    properties = frozenset({"compilable"})
    parallel = "loop"

    @abstractmethod
    def starts(self) -> dict[str, Tensor | float]:
        """Return what a row holds at the start of an episode: a tensor of the row's shape, or one number for all."""

    @abstractmethod
    def prepare(self, inputs: MemoryInput) -> Token:
        """Return what can be computed from the input (..., in_dim) alone, tensors (..., k)."""

    @abstractmethod
    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Read and write one token (n, k) per row: what is read (n, r), and the new state."""

    @abstractmethod
    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Return the output (..., out_dim) for what was prepared (..., k) and read (..., r)."""

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the start of one tensor, (n, *spec.shape)."""
        start = self.starts()[key]
        if isinstance(start, Tensor):
            return start.to(device, dtype).expand(n, *spec.shape).clone()
        return torch.full((n, *spec.shape), start, device=device, dtype=dtype)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance one token; see `MemoryModule.step`."""
        donate = donate and not torch.is_grad_enabled()
        token = self.prepare(inputs)
        rows = opened_rows(reset)
        if rows is not None:
            state = self._restarted(state, rows, self.starts(), donate)
        read, new = self.advance(token, state, donate=donate)
        return self.emit(token, read), new

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Advance T tokens one by one; see `MemoryModule.sequence`."""
        token = self.prepare(inputs)
        starts = self.starts()
        reads = []
        for t in range(inputs.x.shape[1]):
            rows = opened_rows(None if resets is None else resets[:, t])
            if rows is not None:
                state = self._restarted(state, rows, starts, False)
            read, new = self.advance(tuple(part[:, t] for part in token), state, donate=False)
            reads.append(read)
            if valid is not None:
                real = valid[:, t]
                new = {k: torch.where(real.view(-1, *[1] * (v.dim() - 1)), v, state[k]) for k, v in new.items()}
            state = new
        return self.emit(token, torch.stack(reads, 1)), state

    def _restarted(self, state: State, rows: Tensor, starts: dict[str, Tensor | float], donate: bool) -> State:
        return {key: replace_rows(value, rows, starts[key], donate=donate) for key, value in state.items()}


def linear_macs(module: nn.Module) -> int:
    """Return multiply-accumulates of one token through every linear layer and matrix of ``module``."""
    return sum(weight.numel() for weight in module.parameters() if weight.dim() >= 2)
