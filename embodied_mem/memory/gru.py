"""Gated recurrent unit, in the form of torch and cuDNN.

    r, z = sig(W x + b + U h' + b'),   n = tanh(W_n x + b_n + r * (U_n h' + b'_n)),   h = (1 - z) * n + z * h'

U is orthogonal per gate. Weights lie in ``core`` under the names of `torch.nn.GRU`, so either loads the other's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.memory.recurrent import Cells, RecurrentConfig, RecurrentMemory
from embodied_mem.memory.recurrent_loops import gru_loop
from embodied_mem.registry import register

__all__ = ["GRU", "GRUConfig"]


@dataclass(frozen=True)
class GRUConfig(RecurrentConfig):
    """Config of `GRU`."""


@register(
    "memory",
    "gru",
    family="gated",
    source="Cho et al. 2014",
    variants=({"layers": 2, "width": 5, "learned_init": True},),
)
class GRU(RecurrentMemory):
    """GRU with resets inside the sequence; on the CPU its loop also beats torch's own call without resets."""

    Config = GRUConfig
    keys = ("h",)

    def __init__(self, config: GRUConfig) -> None:
        width = config.width or config.out_dim
        super().__init__(config, nn.GRU(config.in_dim, width, config.layers, batch_first=True))

    def cell(self, x: Tensor, state: Cells, layer: int) -> Cells:
        """Advance one layer by one token."""
        return (torch.gru_cell(x, state[0], *self.weights(layer)),)

    def loop(self, x: Tensor, start: Cells, layer: int, sizes: list[int]) -> tuple[Tensor, Cells]:
        """Run one layer over stairs."""
        W, U, b, b_recurrent = self.weights(layer)
        y, h = gru_loop(F.linear(x, W, b), start[0], U, b_recurrent, sizes)
        return y, (h,)

    def packed(self, x: Tensor, start: Cells, sizes: Tensor) -> tuple[Tensor, Cells]:
        """Run all layers over stairs by torch's packed kernel."""
        y, h = torch.gru(x, sizes, start[0], self.flat_weights(), True, self.layers, 0.0, self.training, False)
        return y, (h,)

    def fused(self, x: Tensor, start: Cells) -> tuple[Tensor, Cells] | None:
        """Run all layers without resets by torch's fused call, on a GPU only: on the CPU it is slower than `loop`."""
        if x.device.type == "cpu":
            return None
        y, h = torch.gru(x, start[0], self.flat_weights(), True, self.layers, 0.0, self.training, False, True)
        return y, (h,)
