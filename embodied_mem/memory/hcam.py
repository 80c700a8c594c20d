"""Hierarchical chunk attention memory: attention over summaries of past chunks, and in detail inside the best of them.

    e = W x;  a finished chunk of C steps has contents c_1 .. c_C (the e of its steps) and a key, their summary
    l_j = (W_q e) . (W_k key_j) / sqrt D,   J = the top-k chunks,   w = softmax over J of l
    r   = sum_{j in J} w_j MHA(e, contents_j + P),   P[age in the chunk] sinusoidal, 0 for the newest
    r'  = MHA'(e, current chunk + P) with a null slot      y = W LN(e + r + r')

Chunks lie in a ring of N; a token is read from the step after its own, in its own chunk by ``attend_current`` (without
which the last 1 .. C steps are not seen, as published) and through the ring once the chunk is finished. No finished
chunk: r = 0. Equal scores go to the later chunk, by 1e-6 per chunk of age. ``top_k >= chunks`` reads all.
``grad_memory="none"`` is published: keys and contents carry no gradient, "sequence" (default) keeps it within a call.

The sequence form lists the chunks that end inside it by gathering, so rows may be at different places in their chunks.

Limits: chunks have a fixed length (no boundaries by surprise), and a reset empties memory (none is carried over
episodes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.kernels import hcam_read
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.segments import reset_distance, segment_ids
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["HCAM", "HCAMConfig", "age_code"]

_TIE = 1e-6
_SHORTEST, _LONGEST = 2.0, 10_000.0


@dataclass(frozen=True)
class HCAMConfig(MemoryConfig):
    """Chunks and how they are read. Published scale: chunks of 16 to 32 steps, top 8 to 16."""

    chunks: int = 16
    """Finished chunks N that are held."""
    chunk_steps: int = 16
    """Steps C of a chunk."""
    top_k: int = 4
    """Chunks read in detail; at least ``chunks`` reads all."""
    width: int = 64
    """Width D of what is stored."""
    heads: int = 2
    """Heads of the attention inside chunks."""
    summary: Literal["mean", "last"] = "mean"
    """The key of a chunk: the mean of its steps, or the last."""
    attend_current: bool = True
    """Attend to the unfinished chunk too."""
    grad_memory: Literal["sequence", "none"] = "sequence"
    """Keep gradients through finished chunks within a call, or cut them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "chunks", "chunk_steps", "top_k", "width", "heads")
        if self.width % self.heads or self.width % 2:
            raise UsageError(f"expected an even width divisible by heads = {self.heads}, got {self.width}")


class _Chunks(NamedTuple):
    """Finished chunks that the queries of a row may read."""

    keys: Tensor
    """(n, J, D)."""
    contents: Tensor
    """(n, J, C, D)."""
    age: Tensor
    """(n, Q, J) int64 chunks since it ended, 1 for the latest."""
    visible: Tensor
    """(n, Q, J) bool."""


@register(
    "memory",
    "hcam",
    family="slots",
    source="Lampinen et al. 2021, Mental time travel, arXiv 2105.14039",
    variants=(
        {"chunks": 3, "chunk_steps": 2, "top_k": 2, "width": 6},
        {"chunks": 5, "chunk_steps": 4, "top_k": 9, "width": 4, "heads": 1, "grad_memory": "none"},
    ),
)
class HCAM(MemoryModule):
    """Ring of chunks and the chunk in progress."""

    Config = HCAMConfig
    properties = frozenset({"compilable", "hard_write"})
    parallel = "attend"

    def __init__(self, config: HCAMConfig) -> None:
        super().__init__(config)
        self.config: HCAMConfig = config
        D = config.width
        self.embed = nn.Linear(config.in_dim, D)
        # no bias on keys: the softmax would cancel it
        self.coarse_query, self.coarse_key = nn.Linear(D, D), nn.Linear(D, D, bias=False)
        self.detail = _Attention(D, config.heads)
        local = config.attend_current and config.chunk_steps > 1
        self.local = _Attention(D, config.heads) if local else None
        self.norm = nn.LayerNorm(D)
        self.readout = nn.Linear(D, config.out_dim)
        self.code: Tensor
        self.register_buffer("code", age_code(config.chunk_steps, D), persistent=False)

    def state_spec(self) -> dict[str, StateSpec]:
        """``acc`` (C, D): the chunk in progress; ``keys`` (N, D), ``chunks`` (N, C, D); ``count``: steps so far.

        ``count % C`` steps are in ``acc``, ``count // C`` chunks are finished, chunk j in slot j % N; the rest is 0.
        """
        c = self.config
        return {
            "acc": StateSpec((c.chunk_steps, c.width)),
            "keys": StateSpec((c.chunks, c.width), role="ring"),
            "chunks": StateSpec((c.chunks, c.chunk_steps, c.width), role="ring"),
            "count": StateSpec((), torch.int64, "counter"),
        }

    def macs_per_token(self, t: int | None = None) -> int:
        """Maps of the query, scores of the chunks held, and attention inside the best and the current."""
        c = self.config
        held = c.chunks if t is None else min(t // c.chunk_steps, c.chunks)
        maps = sum(linear_macs(part) for part in (self.embed, self.coarse_query, self.coarse_key, self.readout))
        inside = 2 * c.chunk_steps * c.width * c.heads
        local = 0 if self.local is None else linear_macs(self.local) + inside
        return maps + linear_macs(self.detail) + local + held * c.width + min(c.top_k, held) * inside

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Read, then add the step to its chunk; see `MemoryModule.step`."""
        donate = donate and not torch.is_grad_enabled()
        rows = opened_rows(reset)
        if rows is not None:
            state = {key: replace_rows(value, rows, 0, donate=donate) for key, value in state.items()}
        c, acc, count = self.config, state["acc"], state["count"].unsqueeze(1)
        C, N = c.chunk_steps, c.chunks
        fill, finished = count % C, count // C
        e = self.embed(inputs.x)
        ages = torch.arange(1, max(C, 2), device=e.device)
        window = Window(acc, ((fill - ages) % C).unsqueeze(1), (ages <= fill).unsqueeze(1))
        age = (finished - 1 - torch.arange(N, device=e.device)) % N + 1
        chunks = _Chunks(state["keys"], state["chunks"], age.unsqueeze(1), (age <= finished).unsqueeze(1))
        y = self._read(e.unsqueeze(1), window, chunks).squeeze(1)

        acc = acc.scatter(1, fill.unsqueeze(2).expand(-1, 1, c.width), e.unsqueeze(1))
        full = (fill == C - 1).unsqueeze(2)
        slot = (finished % N).unsqueeze(2)
        key, contents = self._finished(acc)
        new: State = {}
        for name, item in (("keys", key), ("chunks", contents)):
            index = slot.view(len(slot), 1, *[1] * (item.dim() - 1)).expand(-1, 1, *item.shape[1:])
            now = full.view(len(full), 1, *[1] * (item.dim() - 1))
            item = torch.where(now, item.unsqueeze(1), state[name].gather(1, index))
            new[name] = state[name].scatter_(1, index, item) if donate else state[name].scatter(1, index, item)
        return y, {"acc": torch.where(full, 0, acc), **new, "count": state["count"] + 1}

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Attend `chunk` tokens at a time; see `MemoryModule.sequence`."""
        e = self.embed(inputs.x)
        B, T, _ = e.shape
        if resets is None:
            resets = torch.zeros(B, T, dtype=torch.bool, device=e.device)
        lengths = torch.full((B,), T, device=e.device) if valid is None else valid.sum(1)
        size, outputs = chunk or 256, []
        for start in range(0, T, size):
            at = slice(start, start + size)
            real = (lengths - start).clamp(0, e[:, at].shape[1])
            keep, state = self._written(e[:, at], state, resets[:, at], real)
            outputs.append(self._read(e[:, at], *keep))
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)), state

    def write(self, x: Tensor, state: State | None = None) -> State:
        """Return the state after T more tokens x (n, T, in_dim) of the same episodes, without the cost of reading.

        It is what `sequence` leaves behind: a read changes nothing here.
        """
        state = self.initial_state(len(x), x.device) if state is None else state
        resets = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
        lengths = torch.full((len(x),), x.shape[1], device=x.device)
        return self._written(self.embed(x.to(self.float_dtype)), state, resets, lengths)[1]

    def ages(self, state: State) -> dict[str, Tensor]:
        """Return the age of every step of the chunk in progress, and of every chunk's last step."""
        C, N, count = self.config.chunk_steps, self.config.chunks, state["count"].unsqueeze(1)
        fill, finished = count % C, count // C
        step = torch.arange(C, device=count.device)
        ago = (finished - 1 - torch.arange(N, device=count.device)) % N
        chunk = (fill + ago * C).where(ago < finished, -1)
        return {"acc": (fill - 1 - step).where(step < fill, -1), "keys": chunk, "chunks": chunk}

    def _written(
        self, e: Tensor, state: State, resets: Tensor, lengths: Tensor
    ) -> tuple[tuple[Window, _Chunks], State]:
        """Return what one block e (B, T, D) may read, and the state after its ``lengths`` (B,) real tokens."""
        (B, T, D), C, N = e.shape, self.config.chunk_steps, self.config.chunks
        device, start = e.device, state["count"].unsqueeze(1)
        step, A = torch.arange(T, device=device), C - 1
        segment = segment_ids(resets)
        before = torch.where(segment == 0, start + step, reset_distance(resets))
        # the steps of the carried chunk, aligned to end where the block begins
        inside = start % C - A + torch.arange(A, device=device)
        carried = state["acc"].gather(1, inside.clamp(min=0).unsqueeze(2).expand(-1, -1, D))
        steps = torch.cat([torch.where((inside >= 0).unsqueeze(2), carried, 0), e], 1)
        ages = torch.arange(1, max(C, 2), device=device)
        place = (A + step.unsqueeze(1) - ages).clamp(min=0).expand(B, T, -1)
        window = Window(steps, place, ages <= (before % C).unsqueeze(2))

        # chunks that end in this block, in order
        ends = (before % C == A) & (step < lengths.unsqueeze(1))
        J = (T + A) // C
        last = torch.argsort(~ends, dim=1, stable=True)[:, :J]
        exists = ends.gather(1, last)
        source = (last.unsqueeze(2) + torch.arange(C, device=device)).flatten(1)
        contents = steps.gather(1, source.unsqueeze(2).expand(-1, -1, D)).view(B, J, C, D)
        keys, contents = self._finished(torch.where(exists.view(B, J, 1, 1), contents, 0))
        finished = start // C
        slot = torch.arange(N, device=device)
        ago = (finished - 1 - slot) % N + 1
        now = before // C
        age = torch.cat(
            [now.unsqueeze(2) - (finished - ago).unsqueeze(1), now.unsqueeze(2) - now.gather(1, last).unsqueeze(1)], 2
        )
        held = (ago <= finished).unsqueeze(1) & (segment == 0).unsqueeze(2)
        ours = segment.gather(1, last).unsqueeze(1) == segment.unsqueeze(2)
        seen = exists.unsqueeze(1) & ours & (last.unsqueeze(1) < step.view(1, T, 1))
        all_keys, all_contents = torch.cat([state["keys"], keys], 1), torch.cat([state["chunks"], contents], 1)
        chunks = _Chunks(all_keys, all_contents, age, torch.cat([held, seen], 2) & (age <= N))

        count = torch.cat([start, before + 1], 1).gather(1, lengths.unsqueeze(1))
        inside = torch.arange(C, device=device)
        place = (A + lengths.unsqueeze(1) - count % C + inside).clamp(max=A + T - 1)
        acc = steps.gather(1, place.unsqueeze(2).expand(-1, -1, D))
        ago = (count // C - 1 - slot) % N + 1
        ended = exists.sum(1, keepdim=True) - ago
        source = torch.where(ended >= 0, N + ended, slot)
        kept = (ago <= count // C).unsqueeze(2)
        new_keys = all_keys.gather(1, source.unsqueeze(2).expand(-1, -1, D))
        new_chunks = all_contents.gather(1, source.view(B, N, 1, 1).expand(-1, -1, C, D))
        return (window, chunks), {
            "acc": torch.where((inside < count % C).unsqueeze(2), acc, 0),
            "keys": torch.where(kept, new_keys, 0),
            "chunks": torch.where(kept.unsqueeze(3), new_chunks, 0),
            "count": count.squeeze(1),
        }

    def _finished(self, contents: Tensor) -> tuple[Tensor, Tensor]:
        """Return key (..., D) and contents (..., C, D) of finished chunks."""
        if self.config.grad_memory == "none":
            contents = contents.detach()
        return (contents.mean(-2) if self.config.summary == "mean" else contents[..., -1, :]), contents

    def _read(self, e: Tensor, window: Window, chunks: _Chunks) -> Tensor:
        """e (n, Q, D) -> (n, Q, out_dim)."""
        if self.config.grad_memory == "none":
            chunks = _Chunks(chunks.keys.detach(), chunks.contents.detach(), chunks.age, chunks.visible)
        read = e + self._read_chunks(e, chunks)
        if self.local is not None:
            asked = self.local.ask(e)
            products = asked.transpose(1, 2) @ window.items.transpose(1, 2).unsqueeze(1)
            # code of age a is row a - 1; the newest step of the chunk has age 1
            scores = window.scores(products) + (asked @ self.code[:-1].T).transpose(1, 2)
            weights = visible_softmax(scores, window.visible.unsqueeze(1))
            found = window.mix(weights) + weights @ self.code[:-1]
            read = read + self.local.answer(found.transpose(1, 2))
        return self.readout(self.norm(read))

    def _read_chunks(self, e: Tensor, chunks: _Chunks) -> Tensor:
        """Return the weighted detail of the best chunks, (n, Q, D)."""
        asked = self.coarse_query(e) @ self.coarse_key.weight * e.shape[-1] ** -0.5
        found = hcam_read(
            asked,
            self.detail.ask(e),
            chunks.keys,
            chunks.contents,
            self.code.flip(0),
            chunks.visible,
            self.config.top_k,
            -_TIE * chunks.age,
        )
        return self.detail.answer(found)


class _Attention(nn.Module):
    """Multi-head attention that maps queries and answers instead of every step stored."""

    def __init__(self, D: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # no bias on the output: nothing read must be exactly nothing
        self.query, self.out = nn.Linear(D, D), nn.Linear(D, D, bias=False)
        self.key = nn.Parameter(torch.randn(heads, D // heads, D) * D**-0.5)
        self.value = nn.Parameter(torch.randn(heads, D, D // heads) * D**-0.5)

    def ask(self, e: Tensor) -> Tensor:
        """(n, Q, D) -> queries in the space of what is stored, (n, Q, H, D)."""
        q = self.query(e).unflatten(-1, (self.heads, -1))
        return torch.einsum("nqhk,hkd->nqhd", q, self.key) * q.shape[-1] ** -0.5

    def answer(self, found: Tensor) -> Tensor:
        """Weighted sums of what is stored (n, Q, H, D) -> (n, Q, D)."""
        return self.out(torch.einsum("nqhd,hdk->nqhk", found, self.value).flatten(2))


def age_code(ages: int, width: int) -> Tensor:
    """Return sinusoidal codes of ages 0 .. ages - 1, (ages, width): sines, then cosines, of time scales 2 to 10 000."""
    half = width // 2
    scales = _SHORTEST * (_LONGEST / _SHORTEST) ** (torch.arange(half) / max(half - 1, 1))
    angle = torch.arange(ages).unsqueeze(1) / scales
    return torch.cat([angle.sin(), angle.cos()], 1)
