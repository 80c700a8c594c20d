"""Memo: summaries of past segments pile up in front of the present one.

    after segment n:   s = LN(output at Q learned queries that follow the segment)
    re-encoding:       s is read again as Q tokens after the older summaries alone; their keys and values are kept
    segment n + 1 attends to [summaries 0 .. n | its own steps]

The steps of a segment are gone once it is summarised. Position n Q + i is that of step i after n summaries, so
positions restart with every segment; a query follows the last step, a summary stands at n' Q + i of its segment n'.

``sets`` bounds what piles up: the oldest summary is dropped ("streaming" in the paper), 24 sets of 32 tokens there.
``accumulate=False`` keeps the newest summary only, re-encoded without a past (the paper's recurrent ablation). The
paper trains with segments of 0.8 to 1.2 times the length, one draw per pass (``jitter=0.2``; off by default, because a
`sequence` call with it is not the step loop), and collects and evaluates at the fixed length. ``soft_reset`` keeps the
summaries over the episodes of one scene. Weights change in an update, so states stored before it hold summaries of the
old weights until their row begins anew.

Limits: the published depth dropout is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.segment_policy import SegmentConfig, SegmentMemory, place_after
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["MemoSummary", "MemoSummaryConfig"]


@dataclass(frozen=True)
class MemoSummaryConfig(SegmentConfig):
    """Summaries. Published scale: segments of 256 steps, 32 queries, 16 sets, 4 layers of width 256."""

    queries: int = 4
    """Summary tokens Q of a segment."""
    sets: int = 8
    """Summaries G that are held."""
    accumulate: bool = True
    """Hold the last ``sets`` summaries, or only the newest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "queries", "sets")

    @property
    def capacity(self) -> int:
        """Summaries that are held."""
        return self.sets if self.accumulate else 1


@register(
    "memory",
    "memo_summary",
    family="segment",
    source="Memo, Gupta et al. 2025, arXiv 2510.19732",
    variants=(
        {"segment": 5, "width": 8, "layers": 2, "queries": 2, "sets": 3},
        {"segment": 4, "width": 8, "queries": 3, "accumulate": False},
    ),
)
class MemoSummary(SegmentMemory):
    """Ring of the keys and values of summaries (G, Q, 2 L D)."""

    Config = MemoSummaryConfig

    def __init__(self, config: MemoSummaryConfig) -> None:
        super().__init__(config)
        self.config: MemoSummaryConfig = config
        self.query = nn.Parameter(torch.randn(config.queries, config.width))

    def held_spec(self) -> dict[str, StateSpec]:
        """``summaries`` (G Q, 2 L D), that of segment n in the n % G-th part; ``count``: summaries of the episode."""
        c = self.config
        return {
            "summaries": StateSpec((c.capacity * c.queries, 2 * c.layers * c.width), role="ring"),
            "count": StateSpec((), torch.int64, "counter"),
        }

    def starts(self) -> dict[str, Tensor | int]:
        """Return no summaries."""
        return {"summaries": 0, "count": 0}

    def memory_macs(self) -> tuple[int, int]:
        """Attention to the summaries; queries, then the re-encoding."""
        c = self.config
        held = c.capacity * c.queries
        read = 2 * c.layers * held * c.width
        past = held if c.accumulate else 0
        return read, self.encode_macs(c.queries, held + c.segment) + self.encode_macs(c.queries, past)

    def prefix(self, held: State) -> tuple[Tensor, Tensor]:
        """Show the summaries that exist."""
        c = self.config
        exists = torch.arange(c.capacity, device=held["count"].device) < held["count"].unsqueeze(1)
        return held["summaries"], exists.repeat_interleave(c.queries, 1)

    def origin(self, held: State) -> Tensor:
        """Segments follow the summaries of the episode."""
        return self._before(held) * self.config.queries

    def close(self, held: State, segment: Tensor, length: Tensor) -> State:
        """Summarise the segment and encode the summary."""
        c, count = self.config, held["count"]
        R, Q = len(count), c.queries
        own = torch.ones(Q, Q, dtype=torch.bool, device=count.device).tril()
        asked = self.query.expand(R, Q, -1)
        summary = self.norm(self.attend(asked, place_after(length, Q), held, segment, length, own).out)
        place = torch.arange(Q, device=count.device).expand(R, Q)
        if c.accumulate:
            past, visible = self.prefix(held)
            kept = self.encode(summary, place + self.origin(held).unsqueeze(1), past, visible, own)
        else:
            kept = self.encode(summary, place, held["summaries"][:, :0], self.prefix(held)[1][:, :0], own)
        slot = ((count % c.capacity) * Q).unsqueeze(1) + torch.arange(Q, device=count.device)
        summaries = held["summaries"].scatter(1, slot.unsqueeze(2).expand_as(kept), kept)
        return {"summaries": summaries, "count": count + 1}

    def _before(self, held: State) -> Tensor:
        """Return the summaries that count for positions."""
        return held["count"] if self.config.accumulate else held["count"].clamp(max=1)
