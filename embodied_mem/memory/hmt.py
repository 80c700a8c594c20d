"""Hierarchical memory transformer: a few past tokens and a recall from a queue of embeddings before each segment.

    layer 0 of a segment:   [p | last k tokens of the segment before | e_1 .. e_L | write token]
    at its end:   m = LN(output at the write token) joins a queue of the last N
                  s = LN(output at the end of [t | last half of the segment | t]),  t a learned token, nothing before it
                  p = softmax over the queue of (W_q s . W_k m_j / sqrt(D)) times m_j    for the next segment

Three levels: sensory (k tokens), short (the newest embedding, in the queue too) and long term (the queue). An empty
queue gives a learned p, and the first segment has no sensory tokens.

The paper asks the queue by a summary of the *first* half of the segment that is about to run. A policy has to act
before that half is seen, so the end of the segment before it asks instead; everything else follows the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.segment_policy import Pass, SegmentConfig, SegmentMemory
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["HMT", "HMTConfig"]


@dataclass(frozen=True)
class HMTConfig(SegmentConfig):
    """Queue and sensory tokens. Published scale: 300 embeddings, 32 to 128 sensory tokens."""

    queue: int = 32
    """Memory embeddings N that are held."""
    sensory: int = 4
    """Tokens k of the segment before that are shown again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "queue", "sensory")
        if self.sensory > self.lengths[0]:
            raise UsageError(f"expected sensory <= the shortest segment, {self.lengths[0]}, got {self.sensory}")


@register(
    "memory",
    "hmt",
    family="segment",
    source="He et al. 2024, HMT: Hierarchical Memory Transformer, arXiv 2405.06067",
    variants=({"segment": 5, "width": 8, "layers": 2, "queue": 3, "sensory": 2},),
)
class HMT(SegmentMemory):
    """Queue of memory embeddings (N, D), and the keys and values of what is shown."""

    Config = HMTConfig

    def __init__(self, config: HMTConfig) -> None:
        super().__init__(config)
        self.config: HMTConfig = config
        D = config.width
        self.extra_dim = D
        self.null, self.writer, self.prompt = (nn.Parameter(torch.randn(1, D)) for _ in range(3))
        self.query, self.key = nn.Linear(D, D), nn.Linear(D, D, bias=False)

    def held_spec(self) -> dict[str, StateSpec]:
        """``queue`` (N, D), embedding j in slot j % N; ``count`` of the episode; ``front`` (1 + k, 2 L D): p and k."""
        c = self.config
        return {
            "queue": StateSpec((c.queue, c.width), role="ring"),
            "front": StateSpec((1 + c.sensory, 2 * c.layers * c.width)),
            "count": StateSpec((), torch.int64, "counter"),
        }

    def starts(self) -> dict[str, Tensor | int]:
        """Return an empty queue and the learned recall."""
        nothing = self.null.new_zeros(1, self.config.sensory, self.config.width)
        absent = torch.zeros(1, self.config.sensory, dtype=torch.bool, device=nothing.device)
        return {"queue": 0, "count": 0, "front": self._front(self.null.unsqueeze(0), nothing, absent).squeeze(0)}

    def memory_macs(self) -> tuple[int, int]:
        """Attention to the front; write token, summary, recall, and the next front."""
        c = self.config
        half = (c.segment + 1) // 2
        write = self.encode_macs(1, c.segment + 1 + c.sensory) + self.encode_macs(half + 2, 0)
        recall = linear_macs(self.query) + c.queue * (linear_macs(self.key) + 2 * c.width)
        return 2 * c.layers * (1 + c.sensory) * c.width, write + recall + self.encode_macs(1 + c.sensory, 0)

    def record(self, e: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Keep the embedded tokens."""
        return [e]

    def prefix(self, held: State) -> tuple[Tensor, Tensor]:
        """Show the recall, and the sensory tokens after the first segment."""
        front = held["front"]
        place = torch.arange(front.shape[1], device=front.device)
        return front, (place == 0) | (held["count"] > 0).unsqueeze(1)

    def origin(self, held: State) -> int:
        """Segments follow the recall and the sensory tokens."""
        return 1 + self.config.sensory

    def close(self, held: State, segment: Tensor, length: Tensor) -> State:
        """Queue an embedding of the segment, and recall for the next."""
        c, count = self.config, held["count"]
        R = len(count)
        own = torch.ones(1, 1, dtype=torch.bool, device=count.device)
        written = self.attend(self.writer.expand(R, 1, -1), length.unsqueeze(1), held, segment, length, own).out
        slot = (count % c.queue).view(-1, 1, 1).expand(-1, 1, c.width)
        queue = held["queue"].scatter(1, slot, self.norm(written))
        exists = torch.arange(c.queue, device=count.device) < (count + 1).unsqueeze(1)
        asked = self.query(self._summary(segment, length)).unsqueeze(1)
        scores = (asked @ self.key(queue).transpose(1, 2)) * c.width**-0.5
        recall = visible_softmax(scores, exists.unsqueeze(1), null_slot=False) @ queue
        tail, real = self._tail(segment, length, c.sensory)
        return {"queue": queue, "count": count + 1, "front": self._front(recall, tail, real)}

    def _tail(self, segment: Tensor, length: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        """Return the last tokens (R, tokens, D) of segments, right-aligned, and which exist (R, tokens) bool."""
        place = length.unsqueeze(1) - tokens + torch.arange(tokens, device=length.device)
        D = self.config.width
        found = segment[..., -D:].gather(1, place.clamp(min=0).unsqueeze(2).expand(-1, -1, D))
        return found, place >= 0

    def _summary(self, segment: Tensor, length: Tensor) -> Tensor:
        """Return the summary (R, D) of the last half of segments (R, W, C)."""
        tail, real = self._tail(segment, length, (self.config.segment + 1) // 2)
        prompt = self.prompt.expand(len(tail), 1, -1)
        return self.norm(self._alone(torch.cat([prompt, tail, prompt], 1), _framed(real, 1)).out[:, -1])

    def _front(self, recall: Tensor, tail: Tensor, real: Tensor) -> Tensor:
        """recall (R, 1, D), tail (R, k, D), which exist (R, k) -> keys and values (R, 1 + k, 2 L D)."""
        kept = self._alone(torch.cat([recall, tail], 1), _framed(real, 0)).kept
        return kept[..., : 2 * self.config.layers * self.config.width]

    def _alone(self, tokens: Tensor, exists: Tensor) -> Pass:
        """Run the layers over tokens (R, Q, D) with nothing before them; the first one always exists."""
        R, Q, _ = tokens.shape
        place = torch.arange(Q, device=tokens.device)
        own = (place.unsqueeze(1) >= place) & exists.unsqueeze(1)
        past = tokens.new_zeros(R, 0, 2 * self.config.layers * self.config.width)
        age = (place.unsqueeze(1) - place).expand(R, Q, Q)
        return self.transform(tokens, place.expand(R, Q), {}, past, exists[:, :0], own, age)


def _framed(real: Tensor, after: int) -> Tensor:
    """Return (R, 1 + k + after) bool: ``real`` (R, k) between tokens that always exist."""
    return torch.cat([real.new_ones(len(real), 1), real, real.new_ones(len(real), after)], 1)
