"""Perceptual-cognitive bank of MemoryVLA: two streams of past tokens, retrieved by attention, gated, merged when full.

Perceptual tokens (``perceptual_tokens`` of them, from the features or from a frame's patch tokens) and one cognitive
token each have a bank of L entries (t, tokens). Per stream and step, with x the current tokens:

    ``blocks`` times from q = x:  a = softmax(W_q q (W_k (M + TE(t)))^T / sqrt d) W_v M,
                                  h = LN(q + a),  q <- LN(h + FFN(h))
    g = sig(W [x, q] + b),   fused = g * x + (1 - g) * q          y = W [fused perceptual, fused cognitive] + b
    write (t, x) or (t, fused);  above L entries the most similar adjacent pair is merged, the earlier on a tie

g is the share of the *current* tokens, as in the published code; the paper writes the opposite. Similarity is the mean
over tokens of the cosine. TE is on keys only. The two published variants differ as follows.

    | | openvla | dexbotic |
    |---|---|---|
    | empty bank | retrieved = x, so fused = x exactly | attends to x itself |
    | heads; width of the time code | 1; D / 4 | 4; 256 |
    | writes (``update_fused``) | x | fused |
    | time of a merged entry | the earlier | the mean |

``merge="average"`` is the published mean of two entries, under which an entry merged often decays towards the newest;
``"weighted"`` counts what was merged; ``"fifo"`` drops the oldest instead. ``grad_memory="none"`` is the published
bank: entries carry no gradient. "sequence" (default) keeps it within a call.

Ablations: ``streams`` leaves one stream without a bank (its tokens pass unchanged), ``fusion="add"`` is x + q instead
of the gate, ``time_code=False`` drops TE. ``projections=False`` reads the tokens themselves, perceptual ones first, and
returns the fused ones in the same order: what a policy uses whose perception makes the tokens.

A sequence whose writes are the current tokens (not ``update_fused``) is read in chunks: a loop without gradients
decides which tokens every entry is made of, as weights over the bank before the chunk and the chunk's own tokens; then
all banks are one product of these weights, and all steps attend at once. Decisions are those of the step loop.

Limits: with ``update_fused`` no parallel form. Dropout is left out. ``pack`` keeps the times in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.kernels import bank_read
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["PerceptualCognitiveBank", "PerceptualCognitiveBankConfig", "consolidate"]

_GATE_STD = 1e-3
_NORM_FLOOR = 1e-6
_TIE = 1e-6
_LONGEST = 10_000.0
_DEXBOTIC_CODE = 256
_CHUNK = 32


@dataclass(frozen=True)
class PerceptualCognitiveBankConfig(MemoryConfig):
    """Streams, retrieval and consolidation. Published scale: 256 tokens of 256, one of 4096, L = 16 to 256."""

    slots: int = 16
    """Entries L of a stream."""
    perceptual_tokens: int = 4
    """Perceptual tokens of a step."""
    perceptual_dim: int = 32
    """Width of a perceptual token."""
    cognitive_dim: int = 64
    """Width of the cognitive token."""
    token_dim: int = 0
    """Width of the frame's patch tokens, read as perceptual tokens; 0 makes these from the features."""
    blocks: int = 2
    """Retrieval blocks."""
    variant: Literal["openvla", "dexbotic"] = "openvla"
    """Which published code is followed where the two differ."""
    update_fused: bool | None = None
    """Write the fused tokens instead of the current ones; None for the variant's way."""
    merge: Literal["average", "weighted", "fifo"] = "average"
    """How a full bank makes room."""
    grad_memory: Literal["sequence", "none"] = "sequence"
    """Keep gradients through entries within a call, or cut them."""
    streams: Literal["both", "perceptual", "cognitive"] = "both"
    """Which tokens have a bank."""
    fusion: Literal["gate", "add"] = "gate"
    """How current and retrieved tokens are joined."""
    time_code: bool = True
    """Add TE to the keys."""
    projections: bool = True
    """Map the input to tokens and the fused tokens to the output; False: both are the tokens themselves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "perceptual_tokens", "perceptual_dim", "cognitive_dim", "blocks")
        heads = _heads(self)
        if self.perceptual_dim % (2 * heads) or self.cognitive_dim % (2 * heads):
            raise UsageError(
                f"expected token widths divisible by {2 * heads} in variant {self.variant!r}, "
                f"got {self.perceptual_dim} and {self.cognitive_dim}"
            )
        if self.token_dim < 0:
            raise UsageError(f"expected token_dim >= 0, got {self.token_dim}")
        width = self.perceptual_tokens * self.perceptual_dim + self.cognitive_dim
        if not self.projections and (self.in_dim != width or self.out_dim != width or self.token_dim):
            raise UsageError(
                f"expected in_dim = out_dim = {width} (all tokens) and token_dim 0 with projections=False, "
                f"got {self.in_dim}, {self.out_dim} and {self.token_dim}"
            )


@register(
    "memory",
    "perceptual_cognitive_bank",
    family="slots",
    source="Shi et al. 2025, MemoryVLA, arXiv 2508.19236",
    variants=(
        {"slots": 4, "perceptual_tokens": 2, "perceptual_dim": 8, "cognitive_dim": 16, "variant": "dexbotic"},
        {"slots": 3, "perceptual_tokens": 2, "perceptual_dim": 8, "token_dim": 5, "merge": "weighted", "blocks": 1},
        {"slots": 3, "perceptual_tokens": 2, "perceptual_dim": 8, "streams": "cognitive", "fusion": "add"},
    ),
)
class PerceptualCognitiveBank(SlotLoop):
    """Banks of perceptual and cognitive tokens."""

    Config = PerceptualCognitiveBankConfig
    properties = SlotLoop.properties | {"hard_write"}

    def __init__(self, config: PerceptualCognitiveBankConfig) -> None:
        super().__init__(config)
        self.config: PerceptualCognitiveBankConfig = config
        P, D_p, D_c = config.perceptual_tokens, config.perceptual_dim, config.cognitive_dim
        self.needs = frozenset({"tokens"}) if config.token_dim else frozenset()
        self.shapes = {"perceptual": (P, D_p), "cognitive": (1, D_c)}
        if config.projections:
            self.perceive = nn.Linear(config.token_dim, D_p) if config.token_dim else nn.Linear(config.in_dim, P * D_p)
            self.think = nn.Linear(config.in_dim, D_c)
        banks = {name: width for name, (_, width) in self.shapes.items() if config.streams in ("both", name)}
        self.streams = nn.ModuleDict({name: _Stream(config, width) for name, width in banks.items()})
        if config.projections:
            self.readout = nn.Linear(P * D_p + D_c, config.out_dim)
        self._starts: dict[str, Tensor | float] = dict.fromkeys(self.state_spec(), 0)

    @classmethod
    def token_options(cls, tokens: int, width: int, cognitive: int) -> dict[str, Any]:
        """Return the options with which the memory reads and returns a policy's own tokens.

        Args:
            tokens: perceptual tokens of a frame.
            width: of a perceptual token.
            cognitive: width of the cognitive token.
        """
        total = tokens * width + cognitive
        sizes = {"perceptual_tokens": tokens, "perceptual_dim": width, "cognitive_dim": cognitive}
        return {"in_dim": total, "out_dim": total, "projections": False, **sizes}

    @classmethod
    def sample_input(cls, config: MemoryConfig, n: int, T: int, generator: torch.Generator) -> MemoryInput:
        """Return random features, and patch tokens where the memory reads them."""
        drawn = super().sample_input(config, n, T, generator)
        if not isinstance(config, PerceptualCognitiveBankConfig) or not config.token_dim:
            return drawn
        shape = (n, T, config.perceptual_tokens, config.token_dim)
        return drawn._replace(tokens=torch.randn(*shape, generator=generator))

    def state_spec(self) -> dict[str, StateSpec]:
        """Per stream ``bank`` (L, N, D), ``time`` (L,) and ``merged`` (L,), entries in one; ``clock``: steps so far."""
        L = self.config.slots
        spec = {"clock": StateSpec((), torch.int64, "counter")}
        for name in self.streams:
            shape = self.shapes[name]
            spec |= {
                f"{name}/bank": StateSpec((L, *shape), role="ring"),
                f"{name}/time": StateSpec((L,), role="ring"),
                f"{name}/merged": StateSpec((L,), torch.int64, "counter"),
            }
        return spec

    def starts(self) -> dict[str, Tensor | float]:
        """Return empty banks."""
        return dict(self._starts)

    def pack(self, state: State) -> State:
        """Return the state with float16 banks; times stay float32, which float16 would round to whole steps."""
        return super().pack(state) | {key: value for key, value in state.items() if key.endswith("/time")}

    def ages(self, state: State) -> dict[str, Tensor]:
        """Return the age of every entry, rounded where entries of several steps were merged into one."""
        clock = state["clock"].unsqueeze(1)
        held = torch.arange(self.config.slots, device=clock.device) < clock
        ages = {name: clock - 1 - state[f"{name}/time"].round().long() for name in self.streams}
        return {f"{name}/bank": age.where(held, -1) for name, age in ages.items()}

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, and per stream and block the maps of all entries held, scores and sums."""
        c = self.config
        held = c.slots if t is None else min(t, c.slots)
        total = 0
        if c.projections:
            total += linear_macs(self.think) + linear_macs(self.readout)
            total += linear_macs(self.perceive) * (c.perceptual_tokens if c.token_dim else 1)
        for N, D in (self.shapes[name] for name in self.streams):
            block = N * (2 * D * D + 8 * D * D) + held * N * (2 * D * D + 2 * N * D)
            total += c.blocks * block + N * 2 * D * D + c.slots * N * D
        return total

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return the current tokens of both streams, (..., N, D) each."""
        x = inputs.x
        if not self.config.projections:
            perceived, thought = x.split([x.shape[-1] - self.config.cognitive_dim, self.config.cognitive_dim], -1)
            return perceived.unflatten(-1, self.shapes["perceptual"]), thought.unsqueeze(-2)
        if self.config.token_dim:
            assert inputs.tokens is not None
            perceived = self.perceive(inputs.tokens.to(x.dtype))
            want = (self.config.perceptual_tokens, self.config.perceptual_dim)
            if perceived.shape[-2:] != want:
                raise UsageError(f"expected {want[0]} patch tokens per frame, got {perceived.shape[-2]}")
        else:
            perceived = self.perceive(x).unflatten(-1, self.shapes["perceptual"])
        return perceived, self.think(x).unsqueeze(-2)

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Retrieve, gate and write both streams."""
        c = self.config
        clock = state["clock"]
        new: State = {"clock": clock + 1}
        fused_all = []
        for name, x in zip(self.shapes, token):
            if name not in self.streams:
                fused_all.append(x.flatten(1))
                continue
            stream = self.streams[name]
            bank, time, merged = (state[f"{name}/{key}"] for key in ("bank", "time", "merged"))
            if c.grad_memory == "none":
                bank = bank.detach()
            held = torch.arange(c.slots, device=bank.device) < clock.unsqueeze(1)
            fused = stream(x, bank, time, held)
            fused_all.append(fused.flatten(1))
            item = fused if self.writes_fused else x
            item = item.detach() if c.grad_memory == "none" else item
            bank, time, merged = consolidate(bank, time, merged, clock, item, c.merge, c.variant == "dexbotic")
            new |= {f"{name}/bank": bank, f"{name}/time": time, f"{name}/merged": merged}
        return torch.cat(fused_all, 1), new

    @property
    def writes_fused(self) -> bool:
        """True where the fused tokens are written."""
        c = self.config
        return c.variant == "dexbotic" if c.update_fused is None else c.update_fused

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Read T tokens: chunk by chunk where the writes do not depend on what was retrieved, else one by one."""
        if self.writes_fused:
            return super().forward_sequence(inputs, state, resets, valid=valid, chunk=chunk)
        token, reads = self.prepare(inputs), []
        for start in range(0, inputs.x.shape[1], chunk or _CHUNK):
            part = slice(start, start + (chunk or _CHUNK))
            cut = [None if mask is None else mask[:, part] for mask in (resets, valid)]
            read, state = self._chunk(tuple(x[:, part] for x in token), state, cut[0], cut[1])
            reads.append(read)
        return self.emit(token, torch.cat(reads, 1)), state

    def _chunk(self, token: Token, state: State, resets: Tensor | None, valid: Tensor | None) -> tuple[Tensor, State]:
        """Fused tokens (n, C, r) of C steps at once, and the new state."""
        c, steps = self.config, token[0].shape[1]
        clock, clocks = state["clock"], []
        for t in range(steps):
            clock = clock if resets is None else clock.masked_fill(resets[:, t], 0)
            clocks.append(clock)
            clock = clock + 1 if valid is None else clock + valid[:, t]
        held = torch.arange(c.slots, device=clock.device) < torch.stack(clocks, 1).unsqueeze(-1)
        new: State = {"clock": clock}
        fused = []
        for name, x in zip(self.shapes, token):
            if name not in self.streams:
                fused.append(x.flatten(2))
                continue
            bank, time, merged = (state[f"{name}/{key}"] for key in ("bank", "time", "merged"))
            made = torch.cat([bank, x], 1)
            made = made.detach() if c.grad_memory == "none" else made
            # only the times given may carry a gradient here: values get theirs from the product below
            plans, times, merged = self._decide(bank.detach(), time, merged, clocks, x.detach(), resets, valid)
            banks = plans.flatten(1, 2) @ made.flatten(2)
            banks = banks.view(len(x), steps + 1, c.slots, *self.shapes[name])
            read = self.streams[name](
                x.flatten(0, 1), banks[:, :-1].flatten(0, 1), times[:, :-1].flatten(0, 1), held.flatten(0, 1)
            )
            fused.append(read.view(len(x), steps, -1))
            # clones, because a view would keep the banks of the whole chunk
            new |= {f"{name}/bank": banks[:, -1].clone(), f"{name}/time": times[:, -1].clone()}
            new[f"{name}/merged"] = merged
        return torch.cat(fused, 2), new

    def _decide(
        self,
        bank: Tensor,
        time: Tensor,
        merged: Tensor,
        clocks: list[Tensor],
        x: Tensor,
        resets: Tensor | None,
        valid: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Weights (n, C + 1, L, L + C) of the bank before every step, and after the last, over the bank given and the
        tokens; times (n, C + 1, L) likewise; what was merged (n, L) in the end.
        """
        c, n, steps, L = self.config, len(x), x.shape[1], self.config.slots
        plan = torch.eye(L, L + steps, dtype=bank.dtype, device=bank.device).expand(n, -1, -1)
        own = torch.eye(steps, L + steps, dtype=bank.dtype, device=bank.device).roll(L, 1)
        plans, times = [], []
        for t in range(steps):
            if resets is not None:
                opened = resets[:, t].view(n, 1, 1)
                plan, bank = plan.masked_fill(opened, 0), bank.masked_fill(opened.unsqueeze(-1), 0)
                time, merged = time.masked_fill(opened[:, 0], 0), merged.masked_fill(opened[:, 0], 0)
            plans.append(plan)
            times.append(time)
            before = bank, plan, time, merged
            both, time, merged = _write(
                [(bank, x[:, t]), (plan, own[t].expand(n, -1))],
                time, merged, clocks[t], c.merge, c.variant == "dexbotic",
            )  # fmt: skip
            bank, plan = both
            if valid is not None:
                real = valid[:, t]
                bank, plan, time, merged = (
                    torch.where(real.view(-1, *[1] * (after.dim() - 1)), after, old)
                    for after, old in zip((bank, plan, time, merged), before)
                )
        return torch.stack([*plans, plan], 1), torch.stack([*times, time], 1), merged

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map the fused tokens of both streams to the output."""
        return self.readout(read) if self.config.projections else read


def consolidate(
    bank: Tensor,
    time: Tensor,
    merged: Tensor,
    clock: Tensor,
    item: Tensor,
    merge: Literal["average", "weighted", "fifo"] = "average",
    mean_time: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Append an entry; in a full bank, merge the most similar adjacent pair or drop the oldest.

    Args:
        bank: (n, L, N, D), entries from old to new. time: (n, L) float. merged: (n, L) int64, entries in one.
        clock: (n,) int64 steps so far: ``min(clock, L)`` entries are held, and the new one is of this time.
        item: (n, N, D).
        mean_time: a merged entry gets the mean of both times instead of the earlier.

    Returns:
        bank, time and merged after the write, same shapes.
    """
    (bank,), time, merged = _write([(bank, item)], time, merged, clock, merge, mean_time)
    return bank, time, merged


def _write(
    values: list[tuple[Tensor, Tensor]], time: Tensor, merged: Tensor, clock: Tensor, merge: str, mean_time: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """As `consolidate` for several (bank, item): the first decides, and all are merged alike."""
    n, L = time.shape
    at = clock.clamp(max=L).unsqueeze(1)
    device = time.device
    longer = [_append(value, at, new) for value, new in (*values, (time, clock.to(time.dtype)))]
    counts = _append(merged, at, torch.ones_like(clock))
    full = (clock >= L).unsqueeze(1)
    if merge == "fifo":
        first = torch.full_like(at, -1)
    else:
        unit = longer[0].detach()
        unit = unit / torch.linalg.vector_norm(unit, dim=-1, keepdim=True).clamp_min(_NORM_FLOOR)
        alike = (unit[:, 1:] * unit[:, :-1]).sum(-1).mean(-1)
        # lower by 1e-6 per place: ties go to the earlier pair, and rounding decides nothing
        first = (alike - _TIE * torch.arange(L, device=device)).argmax(1, keepdim=True)
    first = torch.where(full, first, L)
    place = torch.arange(L, device=device).expand(n, L)
    source = place + (place > first).to(torch.int64)
    pair = first.clamp(0, L - 1)
    here = place == first
    left, right = counts.gather(1, pair), counts.gather(1, pair + 1)
    if merge == "weighted":
        share = (left / (left + right).clamp(min=1)).to(time.dtype)
    else:
        share = torch.full_like(left, 0.5, dtype=time.dtype)
    kept = []
    for value, weight in zip(longer, [*[share] * len(values), share if mean_time else torch.ones_like(share)]):
        over = [1] * (value.dim() - 2)
        index = lambda where, value=value, over=over: where.view(*where.shape, *over).expand(-1, -1, *value.shape[2:])  # noqa: E731
        weight = weight.view(n, 1, *over)
        both = weight * value.gather(1, index(pair)) + (1 - weight) * value.gather(1, index(pair + 1))
        kept.append(torch.where(here.view(n, L, *over), both, value.gather(1, index(source))))
    counts = torch.where(here, left + right, counts.gather(1, source))
    return kept[:-1], kept[-1], counts


def _append(values: Tensor, at: Tensor, item: Tensor) -> Tensor:
    """Return values (n, L, ...) with ``item`` (n, ...) at place ``at`` (n, 1) <= L: (n, L + 1, ...)."""
    longer = torch.cat([values, torch.zeros_like(values[:, :1])], 1)
    index = at.view(len(at), 1, *[1] * (values.dim() - 2)).expand(-1, 1, *values.shape[2:])
    return longer.scatter(1, index, item.unsqueeze(1))


def _heads(config: PerceptualCognitiveBankConfig) -> int:
    return 1 if config.variant == "openvla" else 4


class _Stream(nn.Module):
    """Retrieval and gate of one stream of width D."""

    def __init__(self, config: PerceptualCognitiveBankConfig, D: int) -> None:
        super().__init__()
        self.heads, self.itself = _heads(config), config.variant == "dexbotic"
        self.adds, self.timed = config.fusion == "add", config.time_code
        half = (_DEXBOTIC_CODE if self.itself else max(2, D // 4)) // 2
        self.frequencies: Tensor
        self.register_buffer("frequencies", _LONGEST ** (-torch.arange(half) / half), persistent=False)
        # no bias on keys: the softmax would cancel it
        if self.timed:
            self.time = nn.Sequential(nn.Linear(2 * half, D), nn.SiLU(), nn.Linear(D, D, bias=False))
        self.blocks = nn.ModuleList([_Block(D) for _ in range(config.blocks)])
        if not self.adds:
            self.gate = nn.Linear(2 * D, D)
            nn.init.normal_(self.gate.weight, std=_GATE_STD)
            nn.init.normal_(self.gate.bias, std=_GATE_STD)

    def forward(self, x: Tensor, bank: Tensor, time: Tensor, held: Tensor) -> Tensor:
        """x (n, N, D), bank (n, L, N, D), time and held (n, L) -> fused (n, N, D)."""
        n, N, D = x.shape
        keyed = bank
        if self.timed:
            angle = time.unsqueeze(-1) * self.frequencies
            keyed = bank + self.time(torch.cat([angle.cos(), angle.sin()], -1)).unsqueeze(2)
        keys, values = keyed.flatten(1, 2), bank.flatten(1, 2)
        length, visible, empty = held.sum(1, dtype=torch.int32), None, ~held[:, :1]
        if self.itself:
            keys, values = torch.cat([keys, x], 1), torch.cat([values, x], 1)
            visible = torch.cat([held, empty], 1).unsqueeze(1)
            length = torch.full_like(length, visible.shape[2])
        q = x
        for block in self.blocks:
            q = block(q, keys, values, length, visible, self.heads)
        if self.adds:
            return x + (q if self.itself else torch.where(empty.unsqueeze(2), 0.0, q))
        if not self.itself:
            q = torch.where(empty.unsqueeze(2), x, q)
        gate = self.gate(torch.cat([x, q], -1)).sigmoid()
        return gate * x + (1 - gate) * q


class _Block(nn.Module):
    """Cross-attention and feed-forward, norm last."""

    def __init__(self, D: int) -> None:
        super().__init__()
        self.query, self.value = nn.Linear(D, D), nn.Linear(D, D)
        self.key = nn.Linear(D, D, bias=False)
        self.norm, self.norm_mlp = nn.LayerNorm(D), nn.LayerNorm(D)
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(
        self, q: Tensor, keys: Tensor, values: Tensor, length: Tensor, visible: Tensor | None, heads: int
    ) -> Tensor:
        """q (n, N, D), keys and values (n, slots * N, D), length (n,), visible (n, 1, slots) -> (n, N, D)."""
        parts = (self.query(q), self.key(keys), self.value(values))
        asked, key, value = (part.unflatten(-1, (heads, -1)) for part in parts)
        # empty entries are 0, so nothing has to be masked but the scores
        read = bank_read(
            asked, key, value, length, valid=visible, tokens_per_slot=q.shape[1], finite=True, with_lse=False
        )
        h = self.norm(q + read.out.flatten(2))
        return self.norm_mlp(h + self.mlp(h))
