"""Attention of several heads over the last W tokens of the episode, the present one included, beside persistent tokens.

The window is a shift register, oldest first, so that what it computes does not depend on when the episode began; the
sequence form attends in blocks of one window. Recency is a slope per head on the age instead of rotary positions: it
needs no clock. Persistent tokens are parameters that every read sees, without age.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.segments import segment_ids

__all__ = ["SlidingWindow", "as_array"]


class SlidingWindow(nn.Module):
    """The parameters of the attention; the state, `spec`, belongs to the memory that uses it."""

    def __init__(self, heads: int, key_dim: int, value_dim: int, window: int, persistent: int) -> None:
        """Build attention of ``heads`` over ``window`` tokens and ``persistent`` learned ones."""
        super().__init__()
        self.heads, self.key_dim, self.value_dim, self.window = heads, key_dim, value_dim, window
        # slopes 1/2, 1/4, ... as in ALiBi, kept positive
        self.slope_log = nn.Parameter(torch.log(2.0 ** -torch.linspace(1, 8, heads)))
        self.keys = nn.Parameter(torch.randn(heads, persistent, key_dim))
        self.values = nn.Parameter(torch.randn(heads, persistent, value_dim))

    def spec(self) -> dict[str, StateSpec]:
        """Keys and values of the last W tokens, and how many of them exist."""
        return {
            "keys": StateSpec((self.window, self.heads, self.key_dim), role="ring"),
            "values": StateSpec((self.window, self.heads, self.value_dim), role="ring"),
            "fill": StateSpec((), torch.int64, "counter"),
        }

    def macs(self) -> int:
        """Multiply-accumulates of one read."""
        return self.heads * (self.window + self.keys.shape[1]) * (self.key_dim + self.value_dim)

    def step(self, q: Tensor, k: Tensor, v: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one token, q, k (n, H, K) and v (n, H, V), itself included: (n, H, V)."""
        keys = torch.cat([state["keys"][:, 1:], k.unsqueeze(1)], 1)
        values = torch.cat([state["values"][:, 1:], v.unsqueeze(1)], 1)
        fill = (state["fill"] + 1).clamp(max=self.window)
        age = torch.arange(self.window - 1, -1, -1, device=keys.device)
        held = age < fill.unsqueeze(1)
        read = self._attend(q.unsqueeze(1), keys, values, age.unsqueeze(0), held.unsqueeze(1)).squeeze(1)
        return read, {"keys": keys, "values": values, "fill": fill}

    def step_compiled(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int, state: dict[str, np.ndarray], o: np.ndarray
    ) -> None:
        """`step` for the heads from ``first`` on of q, k and v (n, heads, *), on the CPU without gradients.

        Changes keys, values and fill of ``state`` in place and writes these heads of ``o`` (n, heads, V).
        """
        # here: numba is heavy
        from embodied_mem.kernels.compiled.window_step import window_step

        slopes, always_k, always_v = as_array(self.slope_log), as_array(self.keys), as_array(self.values)
        window_step(q, k, v, first, state["keys"], state["values"], state["fill"], slopes, always_k, always_v, o)

    def sequence(
        self, q: Tensor, k: Tensor, v: Tensor, state: State, resets: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, State]:
        """Read T tokens, q, k (n, T, H, K) and v (n, T, H, V): (n, T, H, V)."""
        (n, T), W = resets.shape, self.window
        keys, values = torch.cat([state["keys"], k], 1), torch.cat([state["values"], v], 1)
        segment = segment_ids(resets)
        exists = torch.arange(W, device=resets.device) >= W - state["fill"].unsqueeze(1)
        owner = torch.cat([torch.where(exists, 0, -1), segment], 1)
        reads = []
        for start in range(0, T, W):
            asking = slice(start, min(start + W, T))
            asked = slice(start, asking.stop + W)
            now = torch.arange(asking.start, asking.stop, device=resets.device) + W
            age = now.unsqueeze(1) - torch.arange(asked.start, asked.stop, device=resets.device)
            held = (owner[:, None, asked] == segment[:, asking, None]) & (age >= 0) & (age < W)
            reads.append(self._attend(q[:, asking], keys[:, asked], values[:, asked], age, held))
        end = torch.full((n,), T, device=resets.device) if valid is None else valid.sum(1)
        last = end.unsqueeze(1) + torch.arange(W, device=resets.device)
        owners = owner.gather(1, last)
        kept = owners == torch.cat([torch.zeros_like(segment[:, :1]), segment], 1).gather(1, end.unsqueeze(1))
        new: State = {}
        for key, items in (("keys", keys), ("values", values)):
            taken = items.gather(1, last.view(n, W, 1, 1).expand(-1, -1, *items.shape[2:]))
            new[key] = torch.where(kept.view(n, W, 1, 1), taken, 0)
        new["fill"] = kept.sum(1)
        return torch.cat(reads, 1), new

    def _attend(self, q: Tensor, keys: Tensor, values: Tensor, age: Tensor, held: Tensor) -> Tensor:
        """q (n, T, H, K), keys (n, S, H, K), values (n, S, H, V), age (T, S), held (n, T, S) -> read (n, T, H, V)."""
        q = (q * q.shape[-1] ** -0.5).transpose(1, 2)
        near = q @ keys.permute(0, 2, 3, 1) - self.slope_log.exp().view(-1, 1, 1) * age
        near = near.masked_fill(~held.unsqueeze(1), -torch.inf)
        weight = torch.cat([q @ self.keys.transpose(-1, -2), near], -1).softmax(-1)
        always, recent = weight.split_with_sizes((self.keys.shape[1], keys.shape[1]), -1)
        return (always @ self.values + recent @ values.transpose(1, 2)).transpose(1, 2)


def as_array(x: Tensor) -> np.ndarray:
    """Return the CPU tensor's own numbers as an array; a call less where nothing has to be detached."""
    return x.detach().numpy() if x.requires_grad else x.numpy()
