"""Gated FIFO: attention inside a chunk beside attention over a queue of gated summaries of past chunks.

    layer:   h <- h + w_1 * attention(chunk so far) + w_2 * attention(queue),  (w_1, w_2) = 2 softmax, per channel
    at the end of a chunk, per layer:   c = mean of the layer's inputs,   g = sig(W_g [c; tail] + b)
             push  g * c + (1 - g) * tail,   tail the entry pushed last (0 for the first), the oldest falls out

A reconstruction: the principle of the recurrent memory-augmented transformer (chunked attention, a FIFO memory with
gated writes, learned fusion) is given, its details are not. Positions turn queries and keys inside a chunk; the queue
has none, and reading an empty one gives exactly 0. ``gate="input"`` computes g from c alone.

Limits: entries are means of chunks; there is no push per token and no third branch with attention over everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.segment_policy import SegmentConfig, SegmentMemory
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["GatedFIFO", "GatedFIFOConfig"]


@dataclass(frozen=True)
class GatedFIFOConfig(SegmentConfig):
    """Queue and its gate; ``segment`` is the chunk."""

    entries: int = 16
    """Entries M of the queue of a layer."""
    gate: Literal["tail", "input"] = "tail"
    """What the gate of a push sees: the new summary and the last entry, or the summary alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "entries")


@register(
    "memory",
    "gated_fifo",
    family="segment",
    source="Kashyap 2025, Recurrent memory-augmented transformers, arXiv 2507.00453 (reconstruction)",
    variants=({"segment": 5, "width": 8, "layers": 2, "entries": 3, "gate": "input"},),
)
class GatedFIFO(SegmentMemory):
    """Queue (L, M, D) of summaries of chunks."""

    Config = GatedFIFOConfig

    def __init__(self, config: GatedFIFOConfig) -> None:
        super().__init__(config)
        self.config: GatedFIFOConfig = config
        self.extra_dim = config.layers * config.width
        self.queues = nn.ModuleList(_Queue(config) for _ in range(config.layers))

    def held_spec(self) -> dict[str, StateSpec]:
        """``queue`` (L, M, D), entry j in slot j % M; ``count``: entries pushed in the episode."""
        c = self.config
        return {
            "queue": StateSpec((c.layers, c.entries, c.width), role="ring"),
            "count": StateSpec((), torch.int64, "counter"),
        }

    def starts(self) -> dict[str, Tensor | int]:
        """Return empty queues."""
        return {"queue": 0, "count": 0}

    def memory_macs(self) -> tuple[int, int]:
        """Maps of the query and of what is read, scores and sums of the entries; gates."""
        c = self.config
        gates = sum(linear_macs(queue.gate) for queue in cast(Iterable[_Queue], self.queues))
        maps = linear_macs(self.queues) - gates - 2 * c.layers * c.width
        return maps + 2 * c.layers * c.entries * c.width * c.heads, gates

    def record(self, e: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Keep the inputs of the layers."""
        return inputs

    def mixed(self, layer: int, h: Tensor, local: Tensor, held: State) -> Tensor:
        """Fuse attention over the chunk and over the queue."""
        exists = torch.arange(self.config.entries, device=h.device) < held["count"].unsqueeze(1)
        part = cast(_Queue, self.queues[layer])
        weights = 2 * part.fuse.softmax(0)
        return h + weights[0] * local + weights[1] * part.read(h, held["queue"][:, layer], exists)

    def close(self, held: State, segment: Tensor, length: Tensor) -> State:
        """Push the gated mean of the chunk."""
        c, count = self.config, held["count"]
        inputs = segment[..., -self.extra_dim :].unflatten(2, (c.layers, c.width))
        # beyond its end a segment is 0
        mean = inputs.sum(1) / length.view(-1, 1, 1)
        tail = ((count - 1) % c.entries).view(-1, 1, 1, 1).expand(-1, c.layers, 1, c.width)
        last = held["queue"].gather(2, tail).squeeze(2)
        queues = cast(Iterable[_Queue], self.queues)
        entries = torch.stack([part.push(mean[:, n], last[:, n]) for n, part in enumerate(queues)], 1)
        slot = (count % c.entries).view(-1, 1, 1, 1).expand_as(tail)
        return {"queue": held["queue"].scatter(2, slot, entries.unsqueeze(2)), "count": count + 1}


class _Queue(nn.Module):
    """Maps of one layer."""

    def __init__(self, config: GatedFIFOConfig) -> None:
        super().__init__()
        D, self.heads, self.sees_tail = config.width, config.heads, config.gate == "tail"
        self.norm = nn.LayerNorm(D)
        # entries are read as they are: queries and answers are mapped instead, so that nothing is kept twice
        self.query = nn.Linear(D, self.heads * D)
        self.answer = nn.Linear(self.heads * D, D, bias=False)
        self.gate = nn.Linear(2 * D if self.sees_tail else D, D)
        self.fuse = nn.Parameter(torch.zeros(2, D))

    def read(self, h: Tensor, entries: Tensor, exists: Tensor) -> Tensor:
        """h (R, Q, D), entries (R, M, D), exists (R, M) -> (R, Q, D)."""
        D = h.shape[2]
        q = self.query(self.norm(h)).unflatten(2, (self.heads, D)).transpose(1, 2)
        scores = q @ self.norm(entries).transpose(1, 2).unsqueeze(1) * D**-0.5
        weights = visible_softmax(scores, exists.view(len(exists), 1, 1, -1))
        return self.answer((weights @ entries.unsqueeze(1)).transpose(1, 2).flatten(2))

    def push(self, c: Tensor, tail: Tensor) -> Tensor:
        """Return the new entry (R, D) from the summary and the last entry."""
        g = self.gate(torch.cat([c, tail], -1) if self.sees_tail else c).sigmoid()
        return torch.lerp(tail, c, g)
