"""What LSTM and GRU share: layers, initial state, and the choice of how a sequence runs.

On the CPU a sequence runs as a loop over stairs (`repack`), in which resets cost nothing; on a GPU the same stairs go
to torch's packed kernel. Where torch has a faster fused call without resets (`fused`), it is used between the distinct
reset times as long as these are few.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.repack import Episodes, find_episodes, from_stairs, to_stairs

__all__ = ["RecurrentConfig", "RecurrentMemory"]

# Measured at B=16, T=256, D=128: a cut costs the fused call as much as 12 steps cost the loop.
_STEPS_PER_CUT = 12

Cells = tuple[Tensor, ...]


@dataclass(frozen=True)
class RecurrentConfig(MemoryConfig):
    """Config of the recurrent memories."""

    width: int | None = None
    """Hidden units of a layer; None for out_dim. Another width adds an output projection."""
    layers: int = 1
    """Layers, each reading the one below."""
    learned_init: bool = False
    """Learn the state an episode starts from, instead of zeros."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1 or (self.width is not None and self.width < 1):
            raise UsageError(f"expected layers and width >= 1, got layers={self.layers}, width={self.width}")


class RecurrentMemory(MemoryModule):
    """Base of LSTM and GRU; ``core`` holds the weights under torch's own names."""

    Config = RecurrentConfig
    properties = frozenset({"compilable"})
    parallel = "loop"
    keys: tuple[str, ...]

    def __init__(self, config: RecurrentConfig, core: nn.LSTM | nn.GRU) -> None:
        super().__init__(config)
        self.layers, self.width = config.layers, core.hidden_size
        # not the module itself, which torch.compile refuses to enter
        self.core = nn.ParameterDict(dict(core.named_parameters()))
        self.readout = None if self.width == config.out_dim else nn.Linear(self.width, config.out_dim)
        self.starts = None
        if config.learned_init:
            self.starts = nn.ParameterDict(
                {key: nn.Parameter(torch.zeros(self.layers, self.width)) for key in self.keys}
            )
        for name, weight in self.core.items():
            if name.startswith("weight_hh"):
                for gate in weight.detach().split(self.width):
                    nn.init.orthogonal_(gate)
            elif name.startswith("bias"):
                nn.init.zeros_(weight)

    @abstractmethod
    def cell(self, x: Tensor, state: Cells, layer: int) -> Cells:
        """Advance one layer by one token: x (n, in), state tensors (n, width)."""

    @abstractmethod
    def loop(self, x: Tensor, start: Cells, layer: int, sizes: list[int]) -> tuple[Tensor, Cells]:
        """Run one layer over stairs x (N, in): h (N, width) and the state (E, width) at the end of every episode."""

    @abstractmethod
    def packed(self, x: Tensor, start: Cells, sizes: Tensor) -> tuple[Tensor, Cells]:
        """Run all layers over stairs by torch's packed kernel; states are (layers, E, width)."""

    def fused(self, x: Tensor, start: Cells) -> tuple[Tensor, Cells] | None:
        """Run all layers over x (n, T, in) without resets, states (layers, n, width); None: not faster than `loop`."""
        return None

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the state of every layer."""
        return {key: StateSpec((self.layers, self.width)) for key in self.keys}

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the state of an episode's start, (n, layers, width)."""
        if self.starts is None:
            return super().fresh(key, spec, n, device, dtype)
        return self.starts[key].to(device, dtype).expand(n, -1, -1).contiguous()

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Advance every layer by one token."""
        carried = tuple(state[key] for key in self.keys)
        if reset is not None:
            carried = self._restart(reset.view(-1, 1, 1), carried)
        x = inputs.x
        if self.layers == 1:
            new = self.cell(x, tuple(value.squeeze(1) for value in carried), 0)
            x = new[0]
            after = {key: value.unsqueeze(1) for key, value in zip(self.keys, new)}
        else:
            layers = []
            for layer, below in enumerate(zip(*(value.unbind(1) for value in carried))):
                layers.append(self.cell(x, below, layer))
                x = layers[-1][0]
            after = {key: torch.stack(values, 1) for key, values in zip(self.keys, zip(*layers))}
        return (x if self.readout is None else self.readout(x)), after

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Run the sequence in the fastest of the equal ways."""
        x = inputs.x
        carried = tuple(state[key] for key in self.keys)
        run = self._by_cuts(x, carried, resets) if valid is None else None
        if run is None:
            if resets is None:
                resets = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
            run = self._by_stairs(x, carried, find_episodes(resets, valid))
        y, after = run
        return (y if self.readout is None else self.readout(y)), dict(zip(self.keys, after))

    def _by_cuts(self, x: Tensor, carried: Cells, resets: Tensor | None) -> tuple[Tensor, Cells] | None:
        """One fused call between every two distinct reset times; None where that is not the fastest."""
        steps = x.shape[1]
        cuts: list[int] = [] if resets is None else resets.any(0).nonzero()[:, 0].tolist()
        if len(cuts) * _STEPS_PER_CUT > steps:
            return None
        outputs = []
        for begin, end in zip([0, *(t for t in cuts if t)], [*(t for t in cuts if t), steps]):
            if resets is not None and begin in cuts:
                carried = self._restart(resets[:, begin].view(-1, 1, 1), carried)
            run = self.fused(x[:, begin:end], tuple(value.transpose(0, 1).contiguous() for value in carried))
            if run is None:
                return None
            outputs.append(run[0])
            carried = tuple(value.transpose(0, 1) for value in run[1])
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)), carried

    def _by_stairs(self, x: Tensor, carried: Cells, episodes: Episodes) -> tuple[Tensor, Cells]:
        """Resets become rows of their own, which start from their own state."""
        if not episodes.sizes:
            return x.new_zeros(*x.shape[:2], self.width), carried
        start = self._restart(
            ~episodes.live.view(-1, 1, 1), tuple(value.index_select(0, episodes.row) for value in carried)
        )
        y = to_stairs(x, episodes)
        if x.device.type == "cpu":
            ends = []
            for layer, below in enumerate(zip(*(value.unbind(1) for value in start))):
                y, end = self.loop(y, below, layer, episodes.sizes)
                ends.append(end)
            final = tuple(torch.stack(values, 1) for values in zip(*ends))
        else:
            below = tuple(value.transpose(0, 1).contiguous() for value in start)
            y, packed = self.packed(y, below, torch.tensor(episodes.sizes))
            final = tuple(value.transpose(0, 1) for value in packed)
        last = episodes.last
        after = tuple(value.index_select(0, last.clamp(min=0)) for value in final)
        if episodes.valid is not None:
            idle = (last < 0).view(-1, 1, 1)
            after = tuple(torch.where(idle, old, new) for old, new in zip(carried, after))
        return from_stairs(y, episodes), after

    def _restart(self, reset: Tensor, carried: Cells) -> Cells:
        """Replace the rows that reset by the start state; carried tensors (n, layers, width), reset (n, 1, 1)."""
        if self.starts is None:
            return tuple(value.masked_fill(reset, 0) for value in carried)
        return tuple(
            torch.where(reset, self.starts[key].to(value.dtype), value) for key, value in zip(self.keys, carried)
        )

    def weights(self, layer: int) -> tuple[Tensor, ...]:
        """Return W (gates * width, in), U (gates * width, width) and the two biases of a layer."""
        # not by attribute: four look-ups on a module are 5 % of a step
        held = cast(dict[str, Tensor], self.core._parameters)
        return (
            held[f"weight_ih_l{layer}"],
            held[f"weight_hh_l{layer}"],
            held[f"bias_ih_l{layer}"],
            held[f"bias_hh_l{layer}"],
        )

    def flat_weights(self) -> list[Tensor]:
        """Return the weights of all layers in the order of torch's fused calls."""
        return [weight for layer in range(self.layers) for weight in self.weights(layer)]

    def macs_per_token(self, t: int | None = None) -> int:
        """Return multiply-accumulates of one step."""
        readout = 0 if self.readout is None else self.readout.weight.numel()
        return readout + sum(w.numel() for layer in range(self.layers) for w in self.weights(layer)[:2])
