"""Episodic memory: a bounded bank of past steps, read by attention over the best matches.

    q = W x,  k = unit(W x),  v = W x  per head,  familiar = mean over heads of k_t . k_{t-1}  (0 at an episode's start)
    keep   = sigmoid(w x + b - gain * familiar)
    read_t = softmax over the top-k held items of  q_t . k_s + log keep_s + code[age_s], and a null slot
    y_t    = x_t + W read_t,  then item t is written

A full bank gives up the item of lowest order, where order is the step of writing plus ``horizon`` steps for every level
of ``keep`` (the integer part of its logit less ``lowest``, 0 to ``levels`` - 1). So without a preference the bank is a
ring of the last steps, and what was surprising, or what reading taught to keep, outlives thousands of ordinary steps.
The preference is learned through ``log keep`` in the read; the choice itself is discrete. Ages beyond ``ages`` share
one code, so that a policy trained on short episodes reads old items as it learned to.

The sequence form is attention over the carried bank and the row's own tokens under the mask of `eviction.stays`.

Limits: quadratic in ``chunk`` tokens; items held are those of the step form only as long as rounding does not move
``keep`` across a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, State, StateSpec
from embodied_mem.memory.eviction import empty_order, stays
from embodied_mem.memory.null_slot import null_slot_softmax
from embodied_mem.memory.rows import opened_rows, replace_rows
from embodied_mem.memory.segments import reset_distance, segment_ids
from embodied_mem.registry import register

__all__ = ["Episodic", "EpisodicConfig"]

_KEY_FLOOR = 1e-3
_SLOT_AXIS = {"keys": 3, "values": 2, "order": 1, "written": 1}
_GAIN = 4.0
_KEEP_BIAS = 2.0
# Codes are stored divided by this, so that an optimiser moves them as fast as products of queries and keys.
_CODE_SCALE = 5.0
# Stored in place of ``log keep`` in an empty slot: its weight is exactly 0 without a mask, also after `pack`.
_EMPTY = -1e30


@dataclass(frozen=True)
class EpisodicConfig(MemoryConfig):
    """Size of the bank, how it is read, and what it gives up."""

    slots: int = 64
    """Items held."""
    heads: int = 1
    """Reading heads."""
    key_dim: int = 32
    """Key and query width of a head."""
    value_dim: int = 64
    """Value width of a head."""
    top_k: int = 8
    """Items a head reads; at least ``slots`` reads all."""
    levels: int = 8
    """Levels of the preference what to keep, one per unit of its logit; 1 makes the bank a ring of the last steps."""
    lowest: float = 0.0
    """Logit at which the levels begin. Logits drift down together while little is read, and below this one nothing is
    preferred any more: half of ``-levels`` leaves room."""
    horizon: int = 4096
    """Steps by which one level prolongs the stay of an item."""
    ages: int = 128
    """Ages in steps with a code of their own; older items share the last."""
    residual: bool = True
    """Add the input to the output."""
    chunk: int = 256
    """Tokens per chunk of the sequence form."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("slots", "heads", "key_dim", "value_dim", "top_k", "levels", "horizon", "ages", "chunk"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")


@register(
    "memory",
    "episodic",
    family="slots",
    source="ring bank with top-k read; null slot",
    variants=(
        {"slots": 5, "top_k": 2, "horizon": 3, "chunk": 4, "heads": 3},
        {"slots": 7, "levels": 1, "top_k": 7, "ages": 3},
    ),
)
class Episodic(MemoryModule):
    """Bank of keys, values and times of writing."""

    Config = EpisodicConfig
    properties = frozenset({"compilable", "hard_write"})
    parallel = "attend"

    def __init__(self, config: EpisodicConfig) -> None:
        super().__init__(config)
        self.config: EpisodicConfig = config
        H, K, V = config.heads, config.key_dim, config.value_dim
        self.sizes = (H * (2 * K + V), 1)
        # (in, out), not (out, in): half the time of a product with few rows
        weight = (torch.rand(config.in_dim, sum(self.sizes)) * 2 - 1) / config.in_dim**0.5
        weight[:, -1] *= 0.1
        self.project, self.bias = nn.Parameter(weight), nn.Parameter(torch.zeros(sum(self.sizes)))
        self.bias.detach()[-1] = _KEEP_BIAS
        self.gain = nn.Parameter(torch.tensor([_GAIN]))
        self.code = nn.Parameter(_recency(config))
        keys = torch.zeros(H, K + 1, config.slots)
        keys[:, -1] = _EMPTY
        self.empty_keys: Tensor
        self.empty_order: Tensor
        self.register_buffer("empty_keys", keys, persistent=False)
        self.register_buffer("empty_order", empty_order(config.slots), persistent=False)
        self.out = nn.Parameter((torch.rand(H * V, config.out_dim) * 2 - 1) / (H * V) ** 0.5)
        self.skip = None
        if config.residual and config.in_dim != config.out_dim:
            self.skip = nn.Parameter((torch.rand(config.in_dim, config.out_dim) * 2 - 1) / config.in_dim**0.5)

    def state_spec(self) -> dict[str, StateSpec]:
        """Return the bank.

        ``keys`` (H, K + 1, S): key and log keep of every slot, the slots last because a read multiplies from the left;
        ``values`` (H, S, V); ``order`` (S,): who goes first, negative where empty; ``written`` (S,): step of writing;
        ``last`` (H, K): the latest key; ``clock``: steps of the episode.
        """
        c = self.config
        return {
            "keys": StateSpec((c.heads, c.key_dim + 1, c.slots), role="ring"),
            "values": StateSpec((c.heads, c.slots, c.value_dim), role="ring"),
            "order": StateSpec((c.slots,), torch.int64, "counter"),
            "written": StateSpec((c.slots,), torch.int64, "counter"),
            "last": StateSpec((c.heads, c.key_dim)),
            "clock": StateSpec((), torch.int64, "counter"),
        }

    def fresh(self, key: str, spec: StateSpec, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return an empty bank."""
        empty = self._empty(key)
        return (
            super().fresh(key, spec, n, device, dtype)
            if empty is None
            else empty.to(device).repeat(n, *[1] * empty.dim())
        )

    def macs_per_token(self, t: int | None = None) -> int:
        """Projections, scores of the held items, and the weighted sum of values."""
        c = self.config
        held = c.slots if t is None else min(t, c.slots)
        weights = sum(w.numel() for w in (self.project, self.out, self.skip) if w is not None)
        return weights + held * c.heads * (c.key_dim + c.value_dim)

    def forward_step(
        self, inputs: MemoryInput, state: State, reset: Tensor | None, *, donate: bool
    ) -> tuple[Tensor, State]:
        """Read, then write one item; see `MemoryModule.step`."""
        donate = donate and not torch.is_grad_enabled()
        state = self._opened(state, reset, donate)
        q, key, keep, value = self._split(torch.addmm(self.bias, inputs.x, self.project))
        log_keep, order = self._preference(key, keep, state["last"], state["clock"])
        y = self._write_out(inputs.x, self._read(q, state))
        slot = state["order"].argmin(1, keepdim=True)
        at = slot.view(-1, 1, 1, 1)
        new: State = {"last": key, "clock": state["clock"] + 1}
        for name, index, item in (
            ("keys", at, _with_keep(key, log_keep).unsqueeze(-1)),
            ("values", at, value.unsqueeze(2)),
            ("order", slot, order),
            ("written", slot, state["clock"].unsqueeze(1)),
        ):
            write = state[name].scatter_ if donate else state[name].scatter
            new[name] = write(_SLOT_AXIS[name], index.expand_as(item), item)
        return y, new

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Attend `chunk` tokens at a time; see `MemoryModule.sequence`."""
        x = inputs.x
        B, T = x.shape[:2]
        resets = torch.zeros(B, T, dtype=torch.bool, device=x.device) if resets is None else resets
        lengths = torch.full((B,), T, device=x.device) if valid is None else valid.sum(1)
        outputs = []
        for start in range(0, T, chunk or self.config.chunk):
            at = slice(start, start + (chunk or self.config.chunk))
            real = (lengths - start).clamp(0, x[:, at].shape[1])
            read, state = self._attend(x[:, at], state, resets[:, at], real)
            outputs.append(read)
        return self._write_out(x, torch.cat(outputs, 1)), state

    def inspect(self, x: Tensor, state: State) -> dict[str, Tensor]:
        """Return what a read at ``x`` (n, in_dim) attends to, without writing.

        Returns:
            ``weights`` (n, S) float, mean over heads, the rest to 1 went to the null slot; ``age`` (n, S) int64 steps
            since each slot was written, -1 where empty.
        """
        q = self._split(torch.addmm(self.bias, x.to(self.float_dtype), self.project))[0]
        weights = self._weights(q, state).view(len(q), self.config.heads, -1)
        age = state["clock"].unsqueeze(1) - state["written"]
        return {"weights": weights.mean(1), "age": age.where(state["order"] >= 0, -1)}

    def ages(self, state: State) -> dict[str, Tensor]:
        """Return the age of every slot."""
        age = (state["clock"].unsqueeze(1) - 1 - state["written"]).where(state["order"] >= 0, -1)
        return {"keys": age, "values": age}

    def _opened(self, state: State, reset: Tensor | None, donate: bool) -> State:
        rows = opened_rows(reset)
        if rows is None:
            return state
        new: State = {}
        for key, value in state.items():
            empty = self._empty(key)
            new[key] = replace_rows(value, rows, 0 if empty is None else empty, donate=donate)
        return new

    def _empty(self, key: str) -> Tensor | None:
        """Return one row of a tensor that is not zero where nothing is held."""
        return self.empty_keys if key == "keys" else self.empty_order if key == "order" else None

    def _split(self, projected: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(..., H (2K + V) + 1) -> query, unit key (..., H, K), logit to keep (..., 1), value (..., H, V)."""
        c = self.config
        heads, keep = projected.split_with_sizes(self.sizes, -1)
        parts = heads.view(*projected.shape[:-1], c.heads, -1)
        q, key, value = parts.split_with_sizes((c.key_dim, c.key_dim, c.value_dim), -1)
        return q, key / torch.linalg.vector_norm(key, dim=-1, keepdim=True).clamp_min(_KEY_FLOOR), keep, value

    def _preference(self, key: Tensor, keep: Tensor, before: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """Return log keep (..., 1) and the order (..., 1) int64 of items, for the keys ``before`` them (..., H, K)."""
        c = self.config
        familiar = (key * before).flatten(-2).sum(-1, keepdim=True)
        logit = torch.addcmul(keep, self.gain, familiar, value=-1 / c.heads)
        # the clamp also catches a NaN, whose integer is arbitrary
        level = (logit - c.lowest).long().clamp_(0, c.levels - 1)
        # distinct within an episode: (clock + level * horizon, level) as one number
        return F.logsigmoid(logit), torch.add(level * (c.horizon * c.levels + 1), clock.unsqueeze(-1), alpha=c.levels)

    def _weights(self, q: Tensor, state: State) -> Tensor:
        """q (n, H, K) -> weights of the slots (n H, S)."""
        (n, H, K), S = q.shape, self.config.slots
        age = (state["clock"].unsqueeze(1) - state["written"]).clamp_(0, self.config.ages)
        keys = state["keys"].view(n * H, K + 1, S)
        score = torch.baddbmm(keys[:, K:], q.reshape(n * H, 1, K), keys[:, :K]).view(n, H, S)
        code = torch.embedding(self.code, age).transpose(1, 2)
        score = torch.add(score, code, alpha=_CODE_SCALE).view(n * H, S)
        best, slots = score.topk(min(self.config.top_k, S), -1)
        null = torch.zeros_like(best[:, :1])
        weights = torch.cat([best, null], -1).softmax(-1)[:, :-1]
        return torch.zeros_like(score).scatter(-1, slots, weights)

    def _read(self, q: Tensor, state: State) -> Tensor:
        """q (n, H, K) -> (n, H V)."""
        weights = self._weights(q, state).unsqueeze(1)
        return torch.bmm(weights, state["values"].flatten(0, 1)).view(len(q), -1)

    def _attend(self, x: Tensor, state: State, resets: Tensor, lengths: Tensor) -> tuple[Tensor, State]:
        """One chunk: x (B, T, in_dim), lengths (B,) real tokens -> reads (B, T, H V), state."""
        B, T, _ = x.shape
        segment = segment_ids(resets)
        step = torch.arange(T, device=x.device)
        clock = torch.where(segment > 0, reset_distance(resets), state["clock"].unsqueeze(1) + step)
        q, key, keep, value = self._split(x @ self.project + self.bias)
        before = torch.cat([state["last"].unsqueeze(1), key[:, :-1]], 1).masked_fill(resets.view(B, T, 1, 1), 0)
        log_keep, order = self._preference(key, keep, before, clock)
        order = order.squeeze(-1)
        visible, owner = stays(order, state["order"], segment, lengths)
        keys = torch.cat([state["keys"], _with_keep(key, log_keep).permute(0, 2, 3, 1)], -1)
        values = torch.cat([state["values"], value.transpose(1, 2)], 2)
        score = F.pad(q, (0, 1), value=1.0).transpose(1, 2) @ keys + self._codes(state, T)
        held = visible.unsqueeze(1)
        if self.config.top_k < min(self.config.slots, score.shape[-1]):
            best = score.detach().masked_fill(~held, -torch.inf).topk(self.config.top_k, -1).indices
            held = held & torch.zeros_like(score, dtype=torch.bool).scatter_(-1, best, True)
        read = (null_slot_softmax(score, held) @ values).transpose(1, 2).flatten(2)

        recent = torch.cat([state["last"].unsqueeze(1), key], 1)
        clocks = torch.cat([state["clock"].unsqueeze(1), clock + 1], 1)
        return read, {
            "keys": self._kept("keys", keys, owner),
            "values": self._kept("values", values, owner),
            "order": self._kept("order", torch.cat([state["order"], order], 1), owner),
            "written": self._kept("written", torch.cat([state["written"], clock], 1), owner),
            "last": recent.gather(1, lengths.view(B, 1, 1, 1).expand(-1, 1, *recent.shape[2:])).squeeze(1),
            "clock": clocks.gather(1, lengths.unsqueeze(1)).squeeze(1),
        }

    def _kept(self, name: str, items: Tensor, owner: Tensor) -> Tensor:
        """Gather what every slot holds at the end; owner (B, S), -1 for an empty slot."""
        axis = _SLOT_AXIS[name]
        over = [1] * items.dim()
        over[0], over[axis] = owner.shape
        shape = list(items.shape)
        shape[axis] = owner.shape[1]
        kept = items.gather(axis, owner.clamp(min=0).view(over).expand(shape))
        empty = self._empty(name)
        return torch.where((owner < 0).view(over), 0 if empty is None else empty, kept)

    def _codes(self, state: State, T: int) -> Tensor:
        """Code of the age of every item at every token, (B, H, T, S + T); ages of own tokens are those of all rows."""
        ages, device = self.config.ages, state["clock"].device
        step = torch.arange(T, device=device)
        since = (state["clock"].unsqueeze(1) - state["written"]).unsqueeze(1) + step.unsqueeze(1)
        carried = F.embedding(since.clamp(0, ages), self.code * _CODE_SCALE).permute(0, 3, 1, 2)
        own = F.embedding((step.unsqueeze(1) - step).clamp(0, ages), self.code * _CODE_SCALE).permute(2, 0, 1)
        return torch.cat([carried, own.expand(len(since), -1, -1, -1)], -1)

    def _write_out(self, x: Tensor, read: Tensor) -> Tensor:
        """x (..., in_dim), read (..., H V) -> (..., out_dim)."""
        if not self.config.residual:
            return read @ self.out
        base = x if self.skip is None else x @ self.skip
        y = torch.addmm(base.reshape(-1, self.out_dim), read.reshape(-1, read.shape[-1]), self.out)
        return y.view(*x.shape[:-1], self.out_dim)


def _with_keep(key: Tensor, log_keep: Tensor) -> Tensor:
    """key (..., H, K), log keep (..., 1) -> (..., H, K + 1)."""
    return torch.cat([key, log_keep.unsqueeze(-2).expand(*key.shape[:-1], 1)], -1)


def _recency(config: EpisodicConfig) -> Tensor:
    """Initial codes over their scale, (ages + 1, H): they fall with the logarithm of age, with slopes from 0 to 2.

    The smallest slope is above 0 so that equal items of different age never tie for the last place of the top-k.
    """
    slopes = torch.linspace(0, 2, config.heads).clamp(min=0.01) if config.heads > 1 else torch.tensor([0.01])
    return -torch.log1p(torch.arange(config.ages + 1.0)).unsqueeze(1) * slopes / _CODE_SCALE
