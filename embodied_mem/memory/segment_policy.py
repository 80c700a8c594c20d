"""Base of memories that work in segments: attention inside the segment in progress, a memory written when it is full.

    e_t = W x_t;   a causal transformer reads [what the memory shows | e of this segment up to t];   y_t = W LN(h_t)
    at the last step of a segment: memory <- close(memory, segment), and the next segment starts empty

This file owns three rules. Delay: a token sees its own segment directly and everything older through the memory alone,
which changes only between segments. Phase: segments are counted from the start of each episode, so rows may be at
different places in theirs. One form: a step appends one token to the keys and values of the segment (``segment``), and
a sequence runs all pieces of segments of equal depth at once, a piece being the part of a segment that lies in one
call; a piece starts from what the piece before it left, from the carried state, or from the start of an episode.

``soft_reset`` drops the unfinished segment and keeps what was written. With ``jitter`` the length of segments is drawn
once per `sequence` call in training mode with gradients, uniform in ``(1 +- jitter) segment``, so that a policy does
not learn the place of the write; steps, evaluation and calls without gradients use ``segment``.

A subclass writes `held_spec`, `starts` and `close`, and how the memory is read: `prefix` (keys and values before those
of the segment), `before` (added to the input of a layer) or `mixed` (beside the attention of a layer).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.segments import reset_distance, segment_ids
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import check_positive

__all__ = ["Pass", "SegmentConfig", "SegmentMemory", "place_after"]

_ROTARY_BASE = 10_000.0
_RECENCY = 1.0
_MLP_START = 0.1


@dataclass(frozen=True)
class SegmentConfig(MemoryConfig):
    """Segment and transformer."""

    segment: int = 16
    """Steps of a segment."""
    width: int = 32
    """Width D of the transformer."""
    heads: int = 2
    """Attention heads."""
    layers: int = 1
    """Transformer layers."""
    mlp_ratio: int = 2
    """Hidden width of the MLP over D."""
    jitter: float = 0.0
    """Spread of the segment length in training: 0.2 draws it from 0.8 to 1.2 times ``segment``; 0 keeps it fixed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "segment", "width", "heads", "layers", "mlp_ratio")
        if self.width % (2 * self.heads):
            raise UsageError(f"expected width divisible by 2 * heads = {2 * self.heads}, got {self.width}")
        if not 0 <= self.jitter < 1:
            raise UsageError(f"expected 0 <= jitter < 1, got {self.jitter}")

    @property
    def lengths(self) -> tuple[int, int]:
        """Shortest and longest segment."""
        return max(1, round(self.segment * (1 - self.jitter))), round(self.segment * (1 + self.jitter))


class Pass(NamedTuple):
    """What the transformer made of Q tokens of R rows."""

    out: Tensor
    """(R, Q, D), before the last norm."""
    kept: Tensor
    """(R, Q, C), keys and values of every layer, and what `record` adds."""
    layers: list[Tensor]
    """(R, Q, D), the output of every layer."""


class _Pieces(NamedTuple):
    """Parts of segments in a (B, T) batch, in the order of rows and time; all (P,)."""

    start: Tensor
    """int64 place b * T + t of the first token."""
    row: Tensor
    length: Tensor
    """int64 tokens of this call."""
    offset: Tensor
    """int64 tokens of the same segment in the carried state."""
    fresh: Tensor
    """bool, opens an episode."""
    closed: Tensor
    """bool, its last token ends the segment."""
    last: Tensor
    """bool, the last of its row."""
    level: Tensor
    """int64 pieces of the same episode before it."""


class SegmentMemory(MemoryModule):
    """Transformer over the segment in progress, with a memory that changes between segments."""

    Config = SegmentConfig
    properties = frozenset({"compilable", "soft_reset"})
    parallel = "chunk"
    extra_dim = 0

    def __init__(self, config: SegmentConfig) -> None:
        super().__init__(config)
        self.config: SegmentConfig = config
        D = config.width
        self.embed = nn.Linear(config.in_dim, D)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(D)
        self.readout = nn.Linear(D, config.out_dim)
        half = D // config.heads // 2
        self.rates: Tensor
        rates = _ROTARY_BASE ** (-torch.arange(half) / half)
        self.register_buffer("rates", rates, persistent=False)

    @abstractmethod
    def held_spec(self) -> dict[str, StateSpec]:
        """Return the tensors of the memory, without rows."""

    @abstractmethod
    def starts(self) -> dict[str, Tensor | int]:
        """Return what a row holds at the start of an episode: a tensor of the row's shape, or one number for all."""

    @abstractmethod
    def close(self, held: State, segment: Tensor, length: Tensor) -> State:
        """Return the memory after a segment.

        Args:
            held: the memory of R rows.
            segment: (R, W, C) keys and values of the segment, 0 beyond its end.
            length: (R,) int64 tokens of the segment, 1 .. W.
        """

    @abstractmethod
    def memory_macs(self) -> tuple[int, int]:
        """Return multiply-accumulates of reading the memory at a token, and of one `close`."""

    def prefix(self, held: State) -> tuple[Tensor, Tensor] | None:
        """Return keys and values (R, P, 2 L D) to attend to before the segment, and which exist (R, P) bool."""
        return None

    def origin(self, held: State) -> Tensor | int:
        """Return the position (R,) int64 of the first token of a segment, for the rotary code."""
        return 0

    def before(self, layer: int, h: Tensor, held: State) -> Tensor:
        """Return the input (R, Q, D) of a layer."""
        return h

    def mixed(self, layer: int, h: Tensor, local: Tensor, held: State) -> Tensor:
        """Return the input h (R, Q, D) of a layer plus its attention ``local`` (R, Q, D)."""
        return h + local

    def record(self, e: Tensor, inputs: list[Tensor]) -> list[Tensor]:
        """Return what else `close` needs of every token: from e (R, Q, D) and the inputs of the layers."""
        return []

    def state_spec(self) -> dict[str, StateSpec]:
        """``segment`` (W, C): keys and values of the segment, the rest 0; ``pos``: its tokens; and the memory."""
        c = self.config
        return {
            "segment": StateSpec((c.lengths[1], 2 * c.layers * c.width + self.extra_dim), role="ring"),
            "pos": StateSpec((), torch.int64, "counter"),
            **self.held_spec(),
        }

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the start of one tensor, (n, *spec.shape)."""
        start = 0 if key in ("segment", "pos") else self.starts()[key]
        if isinstance(start, Tensor):
            return start.to(device, dtype).expand(n, *spec.shape).clone()
        return torch.full((n, *spec.shape), start, device=device, dtype=dtype)

    def macs_per_token(self, t: int | None = None) -> int:
        """Maps, attention over the segment so far, reading the memory, and the write spread over a segment."""
        c = self.config
        seen = c.segment if t is None else t % c.segment + 1
        maps = sum(linear_macs(part) for part in (self.embed, self.blocks, self.readout))
        read, write = self.memory_macs()
        return maps + 2 * c.layers * seen * c.width + read + write // c.segment

    def forward_step(
        self,
        inputs: MemoryInput,
        state: State,
        reset: Tensor | None,
        *,
        donate: bool,
        soft_reset: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Append one token, and write the memory where that fills a segment; see `MemoryModule.step`."""
        donate = donate and not torch.is_grad_enabled()
        segment, pos, held = state["segment"], state["pos"], self._held(state)
        rows = opened_rows(reset)
        if rows is not None:
            starts = self.starts()
            held = {key: replace_rows(value, rows, starts[key], donate=donate) for key, value in held.items()}
        for gone in (rows, opened_rows(soft_reset)):
            if gone is not None:
                segment = replace_rows(segment, gone, 0, donate=donate)
                pos = replace_rows(pos, gone, 0, donate=donate)
        own = torch.ones(1, 1, dtype=torch.bool, device=pos.device)
        at = pos.unsqueeze(1)
        step = self.attend(self.embed(inputs.x).unsqueeze(1), at, held, segment, pos, own)
        where = at.unsqueeze(2).expand(-1, 1, segment.shape[2])
        segment = segment.scatter_(1, where, step.kept) if donate else segment.scatter(1, where, step.kept)
        pos = pos + 1
        due = pos >= self.config.segment
        if due.device.type != "cpu" or torch.compiler.is_compiling() or bool(due.any()):
            new = self.close(held, segment, pos)
            held = {key: torch.where(_over(due, value), new[key], value) for key, value in held.items()}
            segment, pos = torch.where(_over(due, segment), 0, segment), torch.where(due, 0, pos)
        return self.readout(self.norm(step.out[:, 0])), {"segment": segment, "pos": pos, **held}

    def forward_sequence(
        self,
        inputs: MemoryInput,
        state: State,
        resets: Tensor | None,
        *,
        valid: Tensor | None,
        chunk: int | None,
        soft_resets: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Run all pieces of one level at a time; see `MemoryModule.sequence`."""
        e = self.embed(inputs.x)
        B, T, D = e.shape
        pieces = self._pieces(e, state["pos"], resets, soft_resets, valid)
        e = e.flatten(0, 1)
        final, order, counts = dict(state), torch.argsort(pieces.level, stable=True), []
        if len(order):
            counts = torch.bincount(pieces.level).tolist()
        outs, tokens = [], []
        held: State = {}
        place = torch.empty_like(order)
        begin = 0
        for level, count in enumerate(counts):
            at = order[begin : begin + count]
            begin += count
            now = _Pieces(*(part[at] for part in pieces))
            if level == 0:
                held = self._opened(state, now)
                carried = state["segment"][now.row]
            else:
                # the piece before it in the row, where the level before has put it
                held = {key: value[place[at - 1]] for key, value in held.items()}
                carried = state["segment"].new_zeros(count, 0, state["segment"].shape[2])
            place[at] = torch.arange(count, device=e.device)
            step = torch.arange(int(now.length.max()), device=e.device)
            index = (now.start.unsqueeze(1) + step).clamp(max=B * T - 1)
            own = step.unsqueeze(1) >= step
            run = self.attend(e[index], now.offset.unsqueeze(1) + step, held, carried, now.offset, own)
            real = step < now.length.unsqueeze(1)
            outs.append(run.out[real])
            tokens.append(index[real])
            held, final = self._close_pieces(now, held, carried, run.kept, final)
        h = e.new_zeros(B * T, D)
        if tokens:
            h = h.index_copy(0, torch.cat(tokens), torch.cat(outs))
        return self.readout(self.norm(h)).view(B, T, -1), final

    def attend(self, e: Tensor, place: Tensor, held: State, segment: Tensor, length: Tensor, own: Tensor) -> Pass:
        """Read tokens after those of a segment.

        Args:
            e: (R, Q, D) tokens. place: (R, Q) int64 place in the segment.
            held: the memory.
            segment: (R, W, C), of which the first ``length`` (R,) exist.
            own: (Q, Q) bool, which of the tokens each sees, itself included.
        """
        origin = self.origin(held)
        turned = place + (origin.unsqueeze(1) if isinstance(origin, Tensor) else origin)
        slot = torch.arange(segment.shape[1], device=e.device)
        past, visible, when = segment, slot < length.unsqueeze(1), slot
        prefix = self.prefix(held)
        if prefix is not None:
            past = torch.cat([prefix[0], past[..., : prefix[0].shape[2]]], 1)
            visible = torch.cat([prefix[1], visible], 1)
            # the memory lies just before the segment
            when = torch.cat([slot.new_full((prefix[1].shape[1],), -1), slot])
        when = torch.cat([when.expand(len(place), -1), place], 1)
        return self.transform(e, turned, held, past, visible, own, place.unsqueeze(2) - when.unsqueeze(1))

    def transform(
        self, e: Tensor, place: Tensor, held: State, past: Tensor, visible: Tensor, own: Tensor, age: Tensor
    ) -> Pass:
        """Run the layers over tokens e (R, Q, D) at positions (R, Q), after past keys and values (R, M, C).

        ``visible`` (R, M) says which of the past exist, ``own`` (Q, Q) which of the tokens each sees, and ``age``
        (R, Q, M + Q) how many tokens ago all of them were.
        """
        (R, Q, D), H = e.shape, self.config.heads
        mask = torch.cat([visible.unsqueeze(1).expand(R, Q, -1), own.expand(R, Q, Q)], 2).unsqueeze(1)
        age = age.abs().unsqueeze(1)
        # in float64: positions may grow without bound
        angle = place.unsqueeze(2) * self.rates.double()
        turn = (angle.cos().to(e.dtype).unsqueeze(2), angle.sin().to(e.dtype).unsqueeze(2))
        h, kept, inputs, outputs = e, [], [], []
        for layer, block in enumerate(cast(Iterable[_Block], self.blocks)):
            h = self.before(layer, h, held)
            inputs.append(h)
            q, key, value = block.qkv(block.norm_attention(h)).view(R, Q, 3, H, -1).unbind(2)
            q, key = _turned(q, turn), _turned(key, turn).flatten(2)
            value = value.flatten(2)
            kept += [key, value]
            before_key, before_value = past[..., 2 * layer * D : 2 * (layer + 1) * D].chunk(2, -1)
            keys, values = (
                torch.cat(pair, 1).view(R, -1, H, D // H).transpose(1, 2)
                for pair in ((before_key, key), (before_value, value))
            )
            bias = (-block.recency.view(-1, 1, 1) * age).masked_fill(~mask, -torch.inf)
            local = F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, bias)
            h = self.mixed(layer, h, block.out(local.transpose(1, 2).reshape(R, Q, D)), held)
            h = h + block.mlp(block.norm_mlp(h))
            outputs.append(h)
        return Pass(h, torch.cat([*kept, *self.record(e, inputs)], 2), outputs)

    def encode(self, tokens: Tensor, place: Tensor, past: Tensor, visible: Tensor, own: Tensor) -> Tensor:
        """Return keys and values (R, Q, 2 L D) of memory tokens (R, Q, D), read after a past without a segment."""
        age = tokens.new_zeros(*place.shape, past.shape[1] + place.shape[1])
        kept = self.transform(tokens, place, {}, past, visible, own, age).kept
        return kept[..., : 2 * self.config.layers * self.config.width]

    def encode_macs(self, tokens: int, past: int) -> int:
        """Return multiply-accumulates of the layers over ``tokens`` after a past of that many."""
        return tokens * (linear_macs(self.blocks) + 2 * self.config.layers * (past + tokens) * self.config.width)

    def _held(self, state: State) -> State:
        return {key: value for key, value in state.items() if key not in ("segment", "pos")}

    def _opened(self, state: State, now: _Pieces) -> State:
        """Return the memory that the first pieces of the rows start from: carried, or that of a new episode."""
        starts = self.starts()
        held: State = {}
        for key, value in self._held(state).items():
            start = starts[key]
            start = start.to(value.dtype) if isinstance(start, Tensor) else start
            held[key] = torch.where(_over(now.fresh, value), start, value[now.row])
        return held

    def _length(self) -> int:
        """Return the steps of a segment in this call."""
        shortest, longest = self.config.lengths
        if shortest < longest and self.training and torch.is_grad_enabled():
            return int(torch.randint(shortest, longest + 1, ()))
        return self.config.segment

    def _pieces(
        self, e: Tensor, pos: Tensor, resets: Tensor | None, soft_resets: Tensor | None, valid: Tensor | None
    ) -> _Pieces:
        """List the pieces of segments in tokens e (B, T, D) after carried segments of ``pos`` (B,) tokens."""
        B, T, _ = e.shape
        none = torch.zeros(B, T, dtype=torch.bool, device=e.device)
        resets = none if resets is None else resets
        restart = resets if soft_resets is None else resets | soft_resets
        count = torch.full((B,), T, device=e.device) if valid is None else valid.sum(1)
        size, step = self._length(), torch.arange(T, device=e.device)
        live = segment_ids(restart) == 0
        # a carried segment that is already longer than this call's ends at its next token
        since = torch.where(live, pos.clamp(max=size - 1).unsqueeze(1) + step, reset_distance(restart)) % size
        begins = ((since == 0) | restart | (step == 0)) & (step < count.unsqueeze(1))
        start = begins.view(-1).nonzero().squeeze(1)
        row, first = start // T, start % T
        following = torch.cat([start[1:], start.new_full((1,), B * T)])
        end = torch.minimum(following, row * T + count[row])
        fresh = resets.reshape(-1)[start]
        index = torch.arange(len(start), device=e.device)
        chained = ~fresh & (first > 0)
        opened = torch.where(chained, 0, index).cummax(0).values if len(start) else index
        return _Pieces(
            start=start,
            row=row,
            length=end - start,
            offset=torch.where((first == 0) & live[row, first], pos[row], 0),
            fresh=fresh,
            closed=since.reshape(-1)[end - 1] == size - 1,
            last=end == row * T + count[row],
            level=index - opened,
        )

    def _close_pieces(
        self, now: _Pieces, held: State, carried: Tensor, kept: Tensor, final: State
    ) -> tuple[State, State]:
        """Write the memory where a segment ends, and put what the last piece of each row leaves into ``final``."""
        closed, last = now.closed.nonzero().squeeze(1), now.last.nonzero().squeeze(1)
        if len(closed):
            segment = self._segment(now, closed, carried, kept)
            new = self.close(
                {key: value[closed] for key, value in held.items()}, segment, (now.offset + now.length)[closed]
            )
            held = {key: value.index_copy(0, closed, new[key]) for key, value in held.items()}
        if len(last):
            rows, done = now.row[last], now.closed[last]
            segment = self._segment(now, last, carried, kept)
            left = {key: value[last] for key, value in held.items()}
            left["segment"] = torch.where(_over(done, segment), 0, segment)
            left["pos"] = torch.where(done, 0, (now.offset + now.length)[last])
            final = {key: value.index_copy(0, rows, left[key]) for key, value in final.items()}
        return held, final

    def _segment(self, now: _Pieces, at: Tensor, carried: Tensor, kept: Tensor) -> Tensor:
        """Return the segments (m, W, C) of pieces ``at`` (m,): what was carried, then what was kept, then 0."""
        offset, length = now.offset[at].unsqueeze(1), now.length[at].unsqueeze(1)
        slot = torch.arange(self.config.lengths[1], device=kept.device)
        source = torch.where(slot < offset, slot, carried.shape[1] + (slot - offset).clamp(0, kept.shape[1] - 1))
        items = torch.cat([carried[at], kept[at]], 1)
        found = items.gather(1, source.unsqueeze(2).expand(-1, -1, items.shape[2]))
        return torch.where((slot < offset + length).unsqueeze(2), found, 0)


class _Block(nn.Module):
    """One layer: attention and MLP, norms before each."""

    def __init__(self, config: SegmentConfig) -> None:
        super().__init__()
        D, ratio = config.width, config.mlp_ratio
        self.norm_attention, self.norm_mlp = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.recency = nn.Parameter(torch.linspace(_RECENCY, 0, config.heads))
        last = nn.Linear(ratio * D, D)
        # a small MLP at first: with it at full size, large learning rates lose what attention has found
        last.weight.detach().mul_(_MLP_START)
        self.mlp = nn.Sequential(nn.Linear(D, ratio * D), nn.GELU(), last)


def place_after(length: Tensor, tokens: int) -> Tensor:
    """Return the places of tokens that follow segments: (R,) int64 lengths -> (R, tokens) int64."""
    return length.unsqueeze(1) + torch.arange(tokens, device=length.device)


def _over(rows: Tensor, value: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (value.dim() - 1))


def _turned(v: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate halves of heads (R, Q, H, d) by angles given as cosines and sines (R, Q, 1, d / 2)."""
    first, second = v.chunk(2, -1)
    cos, sin = turn
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)
