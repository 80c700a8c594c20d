"""Long short-term memory, forget bias 1.

    i, f, o = sig(W x + U h' + b),  g = tanh(W_g x + U_g h' + b_g)
    c = f * c' + i * g,             h = o * tanh(c)

The defaults that the LSTM search-space study found robust: all gates, forget bias 1; U orthogonal per gate. Weights
lie in ``core`` under the names of `torch.nn.LSTM`, so either loads the other's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.memory.recurrent import Cells, RecurrentConfig, RecurrentMemory
from embodied_mem.memory.recurrent_loops import lstm_loop
from embodied_mem.registry import register

__all__ = ["LSTM", "LSTMConfig"]


@dataclass(frozen=True)
class LSTMConfig(RecurrentConfig):
    """Config of `LSTM`."""


@register(
    "memory",
    "lstm",
    family="gated",
    source="Hochreiter and Schmidhuber 1997; Greff et al. 2017 (defaults)",
    variants=({"layers": 2, "width": 5, "learned_init": True},),
)
class LSTM(RecurrentMemory):
    """LSTM with resets inside the sequence."""

    Config = LSTMConfig
    keys = ("h", "c")

    def __init__(self, config: LSTMConfig) -> None:
        width = config.width or config.out_dim
        super().__init__(config, nn.LSTM(config.in_dim, width, config.layers, batch_first=True))
        for layer in range(config.layers):
            nn.init.ones_(self.weights(layer)[2].detach()[width : 2 * width])

    def cell(self, x: Tensor, state: Cells, layer: int) -> Cells:
        """Advance one layer by one token."""
        return torch.lstm_cell(x, state, *self.weights(layer))

    def loop(self, x: Tensor, start: Cells, layer: int, sizes: list[int]) -> tuple[Tensor, Cells]:
        """Run one layer over stairs."""
        W, U, b, b_recurrent = self.weights(layer)
        y, h, c = lstm_loop(F.linear(x, W, b + b_recurrent), start[0], start[1], U, sizes)
        return y, (h, c)

    def packed(self, x: Tensor, start: Cells, sizes: Tensor) -> tuple[Tensor, Cells]:
        """Run all layers over stairs by torch's packed kernel."""
        y, h, c = torch.lstm(x, sizes, start, self.flat_weights(), True, self.layers, 0.0, self.training, False)
        return y, (h, c)

    def fused(self, x: Tensor, start: Cells) -> tuple[Tensor, Cells] | None:
        """Run all layers without resets by torch's fused call."""
        y, h, c = torch.lstm(x, start, self.flat_weights(), True, self.layers, 0.0, self.training, False, True)
        return y, (h, c)
