"""Any memory of the library over a stream: one row, one step per frame.

The memory reads the mean of a frame's tokens. Reading it with a query is a step whose state is thrown away, so a
question leaves no trace; without a query the answer is the output at the latest frame. Either gives one token of width
D that stands for the whole stream.

The weights are those of ``seed`` unless a trained module is given; they are not part of the state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryModule, make_memory
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry
from embodied_mem.stream.evidence import Evidence, Snapshot, Span
from embodied_mem.stream.memory import StreamMemory, check_at_least


@dataclass(frozen=True)
class FromMemoryConfig:
    """Which memory, and how it is built."""

    memory: str = "gru"
    """Name of a registered memory."""
    options: dict[str, Any] = field(default_factory=dict)
    """Its config, without in_dim and out_dim: both are the width of the tokens."""
    seed: int = 0
    """Of its weights."""

    def __post_init__(self) -> None:
        check_at_least(self, seed=0)


@register("stream_memory", "from_memory", family="wrapped", source="any memory of the library")
class FromMemory(StreamMemory):
    """A memory of the library, stepped once per frame."""

    Config = FromMemoryConfig

    def __init__(self, config: FromMemoryConfig, module: MemoryModule | None = None) -> None:
        """Wrap a memory.

        Args:
            config: which one.
            module: a trained one to use instead of a fresh one; its in_dim must be the width of the tokens.

        Raises:
            UsageError: there is no such memory, or it reads more than features.
        """
        super().__init__(config)
        self._given = None if module is None else module.eval().requires_grad_(False)
        self._built: dict[int, MemoryModule] = {}
        if module is None:
            self._make(8)

    def start(self) -> None:
        """Begin without a state: the width is not known yet."""
        self.arrays = {}

    def absorb(self, entry: Entry) -> None:
        """Step the memory."""
        module = self._make(len(entry.key))
        state = {name: torch.from_numpy(self.arrays[f"state/{name}"]) for name in module.state_spec() if self.arrays}
        with torch.no_grad():
            x = torch.from_numpy(entry.key).unsqueeze(0)
            y, state = module.step(x, state or module.initial_state(1, "cpu"))
        self.arrays = {
            "output": y[0].numpy(),
            "first": np.array([self.arrays["first"][0] if self.arrays else entry.t0]),
            **{f"state/{name}": value.numpy() for name, value in state.items()},
        }

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of one row of the state, of one output, and of a time."""
        module = self._make(width)
        return module.bytes_per_env() + 4 * module.out_dim + 8

    def _recall(self) -> Any:
        # arrays are replaced by a write, never changed
        module = self._make(self._shape[1]) if self.arrays else None
        return partial(_read_state, module, dict(self.arrays))

    def _make(self, width: int) -> MemoryModule:
        if self._given is not None:
            if self._given.in_dim != width:
                raise UsageError(f"expected tokens of width {self._given.in_dim} for the module given, got {width}")
            return self._given
        if width not in self._built:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.config.seed)
                module = make_memory(self.config.memory, **{"in_dim": width, "out_dim": width, **self.config.options})
            if module.needs:
                raise UsageError(
                    f"memory {self.config.memory!r} needs {', '.join(sorted(module.needs))}, a stream has features only"
                )
            self._built[width] = module.eval().requires_grad_(False)
        return self._built[width]


def _read_state(
    module: MemoryModule | None,
    arrays: dict[str, np.ndarray],
    snapshot: Snapshot,
    query: np.ndarray | None,
    budget: int | None,
) -> Evidence:
    if module is None or not arrays:
        return Evidence(torch.zeros(0, snapshot.width), torch.zeros(0, 2).double(), (), (), snapshot.version, -math.inf)
    answer = torch.tensor(arrays["output"]).unsqueeze(0)
    if query is not None:
        state = {key[6:]: torch.from_numpy(array) for key, array in arrays.items() if key.startswith("state/")}
        with torch.no_grad():
            answer, _ = module.step(torch.from_numpy(query).unsqueeze(0), state)
    first = float(arrays["first"][0])
    times = torch.tensor([[first, snapshot.until_s]], dtype=torch.float64)
    said = f"{snapshot.version} frames from {first:.2f} s to {snapshot.until_s:.2f} s"
    return Evidence(answer, times, (), (Span(said, first, snapshot.until_s),), snapshot.version, snapshot.until_s)


def from_memory(name: str, module: MemoryModule | None = None, seed: int = 0, **options: Any) -> FromMemory:
    """Wrap the registered memory ``name`` as a stream memory.

    >>> memory = from_memory("gru")
    >>> memory.write(torch.ones(4, 8), 0.5)
    >>> memory.read().tokens.shape
    torch.Size([1, 8])
    """
    return FromMemory(FromMemoryConfig(name, options, seed), module)
