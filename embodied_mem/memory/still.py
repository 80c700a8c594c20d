"""Features alone for a memory that needs more: everything else is drawn once and held still."""

from __future__ import annotations

import torch
from torch import Tensor

from embodied_mem.memory.contract import EXTRAS, MemoryInput, MemoryModule

__all__ = ["standing_still"]


def standing_still(memory: MemoryModule, x: Tensor) -> MemoryInput:
    """Return ``x`` (n, ...) or (n, T, ...) with what ``memory`` needs besides: one view, the same at every step.

    It is how tasks and benches that know features only run a memory with ``needs``.
    """
    if not memory.needs:
        return MemoryInput(x)
    drawn = memory.sample_input(memory.config, 1, 1, torch.Generator().manual_seed(0))
    lead = x.shape[:-1]
    extras = {}
    for key in EXTRAS:
        value = getattr(drawn, key)
        if value is not None:
            extras[key] = value[0, 0].to(x.device).expand(*lead, *value.shape[2:])
    return MemoryInput(x, **extras)
