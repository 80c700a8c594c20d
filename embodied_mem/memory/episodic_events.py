"""Episodic events: past steps grouped by surprise, recalled as whole events with their neighbours in time.

    surprise   s_t = 1 - cos(x_t, mean),  mean the moving average of the event's inputs
    boundary   s_t > mu + gamma sigma over the last ``window`` surprises, once an event has ``min_len`` steps,
               or the event has ``max_len``
    similar    the ``similar`` events of the highest q . (mean key of the event)
    contiguous for every hit, best first, the event after it, then the one before it, up to ``contiguous`` more
    y = skip(x) + W attention(q, steps of these events and of the present one),  keys and values mapped from e = W x

EM-LLM's memory for a stream of features: its surprise is the negative log-likelihood of a language model, here it is
the error of predicting that nothing changes, of the input itself and without gradient. Steps lie in a ring of N, with
one bit that says whether they opened an event, so the oldest event may be cut. Attention has a null slot and a learned
code of age per head.

Limits: boundaries are final when they are made: the refinement by modularity needs steps after them (it is off by
default in the published code). The key of an event is the mean over all its steps, not over the four most attended.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, WindowMemory, check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["EpisodicEvents", "EpisodicEventsConfig", "contiguous_events"]

# Surprises closer than this to the threshold are rounding.
_MARGIN = 1e-4
_EPS = 1e-6


@dataclass(frozen=True)
class EpisodicEventsConfig(MemoryConfig):
    """Events and how they are recalled."""

    slots: int = 64
    """Steps N that are held."""
    width: int = 32
    """Width of what is stored of a step."""
    heads: int = 2
    """Attention heads."""
    similar: int = 4
    """Events recalled by similarity."""
    contiguous: int = 2
    """Events recalled as their neighbours in time."""
    gamma: float = 1.0
    """Standard deviations above the mean surprise that make a boundary."""
    window: int = 32
    """Surprises that mean and deviation are taken over."""
    min_len: int = 2
    """Shortest event."""
    max_len: int = 16
    """Longest event."""
    smoothing: float = 0.5
    """Weight of the newest input in the prediction."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "width", "heads", "similar", "window", "min_len")
        if self.width % self.heads:
            raise UsageError(f"expected width divisible by heads = {self.heads}, got {self.width}")
        if self.max_len < self.min_len:
            raise UsageError(f"expected max_len >= min_len = {self.min_len}, got {self.max_len}")
        if self.contiguous < 0 or not 0 < self.smoothing <= 1:
            raise UsageError(
                f"expected contiguous >= 0 and 0 < smoothing <= 1, got {self.contiguous} and {self.smoothing}"
            )


@register(
    "memory",
    "episodic_events",
    family="events",
    source="EM-LLM: Fountas et al. 2024, arXiv 2407.09450",
    variants=({"slots": 9, "width": 6, "similar": 1, "contiguous": 1, "max_len": 4, "window": 5, "gamma": 0.5},),
)
class EpisodicEvents(WindowMemory):
    """Ring of steps with their boundaries."""

    Config = EpisodicEventsConfig
    properties = frozenset({"compilable", "hard_write"})
    queries = 64

    def __init__(self, config: EpisodicEventsConfig) -> None:
        super().__init__(config)
        self.config: EpisodicEventsConfig = config
        D, H = config.width, config.heads
        self.slots, self.entry_dim = config.slots, D + 1
        self.embed, self.query = nn.Linear(config.in_dim, D), nn.Linear(config.in_dim, D)
        self.key = nn.Parameter(torch.randn(H, D // H, D) * D**-0.5)
        self.value = nn.Parameter(torch.randn(H, D, D // H) * D**-0.5)
        self.code = nn.Parameter(-0.1 * torch.log1p(torch.arange(config.slots, dtype=torch.float32)).repeat(H, 1))
        self.out = nn.Linear(D, config.out_dim)
        self.skip = nn.Linear(config.in_dim, config.out_dim, bias=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """``ring`` (N, D + 1) steps and whether they opened an event, ``count``; ``mean``, ``surprises``, ``length``.

        The surprise of step p of an episode is in slot (p - 1) % window; ``length`` counts steps of the present event.
        """
        return {
            **super().state_spec(),
            "mean": StateSpec((self.in_dim,)),
            "surprises": StateSpec((self.config.window,), role="ring"),
            "length": StateSpec((), torch.int64, "counter"),
        }

    def macs_per_token(self, t: int | None = None) -> int:
        """Maps, scores and sums over the steps held, and the surprise."""
        c = self.config
        maps = sum(linear_macs(part) for part in (self.embed, self.query, self.out, self.skip))
        read = self.key.numel() + self.value.numel() + 2 * self.held(t) * c.width * c.heads
        return maps + read + 3 * c.in_dim + 2 * c.window

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Segment, read, write one step; see `MemoryModule.step`."""
        seen = {key: state[key] for key in ("mean", "surprises", "length", "count")}
        rows = opened_rows(reset)
        if rows is not None:
            seen = {key: replace_rows(value, rows, 0) for key, value in seen.items()}
        opens, seen = self.segment(inputs.x, seen)
        marked = inputs._replace(x=torch.cat([inputs.x, opens.unsqueeze(1).to(inputs.x.dtype)], 1))
        y, held = super().forward_step(marked, {key: state[key] for key in ("ring", "count")}, reset, donate=donate)
        return y, {**held, **{key: seen[key] for key in ("mean", "surprises", "length")}}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Segment step by step, then attend `chunk` steps at a time; see `MemoryModule.sequence`."""
        x = inputs.x
        seen = {key: state[key] for key in ("mean", "surprises", "length", "count")}
        marks = []
        for t in range(x.shape[1]):
            rows = opened_rows(None if resets is None else resets[:, t])
            if rows is not None:
                seen = {key: replace_rows(value, rows, 0) for key, value in seen.items()}
            opens, new = self.segment(x[:, t], seen)
            if valid is not None:
                real = valid[:, t]
                new = {k: torch.where(real.view(-1, *[1] * (v.dim() - 1)), v, seen[k]) for k, v in new.items()}
            marks.append(opens)
            seen = new
        marked = inputs._replace(x=torch.cat([x, torch.stack(marks, 1).unsqueeze(2).to(x.dtype)], 2))
        held = {key: state[key] for key in ("ring", "count")}
        y, held = super().forward_sequence(marked, held, resets, valid=valid, chunk=chunk)
        return y, {**held, **{key: seen[key] for key in ("mean", "surprises", "length")}}

    @torch.no_grad()
    def segment(self, x: Tensor, seen: State) -> tuple[Tensor, State]:
        """Return whether inputs x (n, in_dim) open an event, (n,) bool, and ``seen`` after them.

        ``seen`` has ``mean``, ``surprises``, ``length`` and ``count`` of the state.
        """
        c, count, length, past = self.config, seen["count"], seen["length"], seen["surprises"]
        size = torch.linalg.vector_norm(x, dim=-1) * torch.linalg.vector_norm(seen["mean"], dim=-1)
        surprise = 1 - (x * seen["mean"]).sum(-1) / (size + _EPS)
        known = (count - 1).clamp(min=0, max=c.window)
        exists = torch.arange(c.window, device=x.device) < known.unsqueeze(1)
        past = torch.where(exists, past, 0)
        total = known.clamp(min=1)
        mu = past.sum(1) / total
        sigma = (torch.where(exists, past - mu.unsqueeze(1), 0).square().sum(1) / total).sqrt()
        surprised = (surprise > mu + c.gamma * sigma + _MARGIN) & (known > 1)
        first = count == 0
        opens = first | (surprised & (length >= c.min_len)) | (length >= c.max_len)
        slot = ((count - 1) % c.window).unsqueeze(1)
        written = past.scatter(1, slot, surprise.unsqueeze(1))
        return opens, {
            "mean": torch.where(opens.unsqueeze(1), x, torch.lerp(seen["mean"], x, c.smoothing)),
            "surprises": torch.where(first.unsqueeze(1), past, written),
            "length": torch.where(opens, 1, length + 1),
            "count": count + 1,
        }

    def entry(self, x: Tensor) -> Tensor:
        """Embed an input, and keep whether it opened an event (the last number of x)."""
        return torch.cat([self.embed(x[..., :-1]), x[..., -1:]], -1)

    def read(self, x: Tensor, window: Window) -> Tensor:
        """Recall events and attend to their steps."""
        features, opens = x[..., :-1], x[..., -1:].long()
        (n, Q, N), H = window.place.shape, self.config.heads
        items, marks = window.items[..., :-1], window.items[..., -1]
        q = self.query(features).view(n, Q, H, -1).transpose(1, 2)
        asked = q @ self.key * q.shape[-1] ** -0.5
        scores = window.scores(asked @ items.transpose(1, 2).unsqueeze(1))
        # events back from the present one: 0 for its own steps
        # a comparison, because a NaN of a broken episode has no whole number
        opened = (window.visible & (marks.gather(1, window.place.flatten(1)).view(n, Q, N) > 0.5)).long()
        event = opens + opened.cumsum(2) - opened
        chosen = self.recalled(scores.detach().sum(1), event, window.visible)
        weights = visible_softmax(scores + self.code.unsqueeze(1), (window.visible & chosen).unsqueeze(1))
        found = window.mix(weights, items) @ self.value
        return self.skip(features) + self.out(found.transpose(1, 2).flatten(2))

    def recalled(self, scores: Tensor, event: Tensor, visible: Tensor) -> Tensor:
        """Return which steps are attended to, (n, Q, N) bool.

        Args:
            scores: (n, Q, N) of every step. event: (n, Q, N) int64 events back from the present one.
            visible: (n, Q, N) bool steps that exist.
        """
        n, Q, N = scores.shape
        shape = (n, Q, N + 1)
        size = scores.new_zeros(shape).scatter_add(2, event, visible.to(scores.dtype))
        total = scores.new_zeros(shape).scatter_add(2, event, torch.where(visible, scores, 0))
        exists = size > 0
        exists[..., 0] = False
        mean = (total / size.clamp(min=1)).masked_fill(~exists, -torch.inf)
        hits = mean.topk(min(self.config.similar, N), -1).indices
        found = exists.gather(2, hits)
        near, kept = contiguous_events(hits, found, exists, self.config.contiguous)
        chosen = torch.zeros(shape, dtype=torch.int64, device=scores.device)
        chosen = chosen.scatter_add(2, torch.cat([hits, near], 2), torch.cat([found, kept], 2).long()) > 0
        # the present event is always attended to
        chosen[..., 0] = True
        return chosen.gather(2, event)


def contiguous_events(hits: Tensor, found: Tensor, exists: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the neighbours in time of events, for every hit in order the later one, then the earlier one.

    Args:
        hits: (..., k) int64 events, counted back from the present one. found: (..., k) bool hits that count.
        exists: (..., E) bool events that may be recalled.
        most: neighbours to keep.

    Returns:
        Neighbours (..., 2 k) int64, and which are kept (..., 2 k) bool: no hit, no repetition, at most ``most``.

    >>> hits = torch.tensor([5, 9])
    >>> near, kept = contiguous_events(hits, hits > 0, torch.ones(12, dtype=torch.bool), 3)
    >>> near[kept].tolist()
    [4, 6, 8]
    """
    near = torch.stack([hits - 1, hits + 1], -1).flatten(-2)
    inside = (near >= 0) & (near < exists.shape[-1]) & found.repeat_interleave(2, -1)
    near = near.clamp(0, exists.shape[-1] - 1)
    inside = inside & exists.gather(-1, near)
    is_hit = ((near.unsqueeze(-1) == hits.unsqueeze(-2)) & found.unsqueeze(-2)).any(-1)
    same = (near.unsqueeze(-1) == near.unsqueeze(-2)) & inside.unsqueeze(-2)
    repeated = same.tril(-1).any(-1)
    kept = inside & ~is_hit & ~repeated
    return near, kept & (kept.cumsum(-1) <= most)
