"""Random inputs shared by the specs."""

from __future__ import annotations

import torch
from torch import Tensor


class Draw:
    """Random tensors from one seed, drawn in float32 on the device: the same numbers for every dtype."""

    def __init__(self, seed: int, dtype: torch.dtype, device: torch.device) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self._own = torch.Generator(device).manual_seed(seed)
        self.dtype, self.device = dtype, device

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        """Return normal numbers."""
        drawn = torch.randn(*shape, generator=self._own, device=self.device) * scale
        return drawn.to(self.device, self.dtype)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Return numbers of [low, high)."""
        drawn = low + (high - low) * torch.rand(*shape, generator=self._own, device=self.device)
        return drawn.to(self.device, self.dtype)

    def integers(self, low: int, high: int, *shape: int, dtype: torch.dtype = torch.int32) -> Tensor:
        """Return integers of [low, high)."""
        return torch.randint(low, high, shape, generator=self._own, device=self.device).to(self.device, dtype)

    def flags(self, rate: float, *shape: int) -> Tensor:
        """Return flags that are True at a rate."""
        return (torch.rand(*shape, generator=self._own, device=self.device) < rate).to(self.device)


def offset_view(x: Tensor) -> Tensor:
    """Return the same numbers as a view that starts inside its storage and has gaps between rows of its last axis."""
    wide = x.new_full((*x.shape[:-1], x.shape[-1] + 3), float("nan") if x.is_floating_point() else 0)
    wide[..., 2 : 2 + x.shape[-1]] = x
    return wide[..., 2 : 2 + x.shape[-1]]


def numbers(*tensors: Tensor | None) -> int:
    """Return the bytes of tensors, an expanded axis counted once."""
    total = 0
    for tensor in tensors:
        if tensor is not None:
            held = [n for n, stride in zip(tensor.shape, tensor.stride()) if stride != 0]
            count = 1
            for n in held:
                count *= n
            total += count * tensor.element_size()
    return total
