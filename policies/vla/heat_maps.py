"""Memory attention over heat maps, after SAM2Act+: what was seen at each key frame, and where it was decided to act.

The tokens of a frame are the cells of a square grid, x (P, D), of which a head makes a heat map over places. Per step:

    h <- x;  ``layers`` times:  h <- h + SelfAttention(LN h + pos),  h <- h + CrossAttention(LN h + pos; keys
             m_a + pos + age_a, values m_a; a = 1 .. slots),  h <- h + FFN(LN h)           nothing held: h = x exactly
    heat = head(h);  write m = fuse(W x + down(20 sig(heat) - 10)), two ConvNeXt-like blocks;  the oldest is dropped

Ages count steps, newest first: ``slots`` are a window by age. Gradients flow through what is written, also through the
heat map of an earlier step to the head; the heat map is the policy's own prediction in training and when acting. The
cognitive token passes as it is: everything but the place stays Markov.

Differs from the source: attention with additive sine codes instead of rotary ones, one view, one scale; state per row
instead of one row per process. It returns tokens for a policy that has a heat map, so it is no memory of the library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.memory.window_memory import check_positive

_AGE_STD = 0.02
_SCALE, _SHIFT = 20.0, 10.0
_FUSERS = 2


@dataclass(frozen=True)
class HeatMapAttentionConfig(MemoryConfig):
    """Window and sizes. Published: 9 slots of width 64, 4 layers of width 128, 16 x 16 tokens."""

    slots: int = 9
    """Past steps that are held."""
    memory_dim: int = 16
    """Width of what is held of a token."""
    layers: int = 2
    """Layers of self-attention, cross-attention and feed-forward."""
    upsample: int = 2
    """Cells of the heat map along the edge of a token; the policy sets it."""
    tokens: int = 16
    """Tokens P of a frame, a square number; the policy sets it."""
    width: int = 32
    """Width D of a token; the policy sets it."""
    cognitive: int = 64
    """Width of the cognitive token; the policy sets it."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        super().__post_init__()
        check_positive(self, "slots", "memory_dim", "layers", "upsample", "tokens", "width", "cognitive")
        side_of(self.tokens)
        for name in ("width", "memory_dim"):
            if getattr(self, name) % 4:
                raise UsageError(f"expected {name} divisible by 4, got {getattr(self, name)}")


class HeatMapHead(nn.Module):
    """Tokens (..., P, D) to heat-map logits (..., P, u * u) of the cells inside each token."""

    def __init__(self, width: int, upsample: int) -> None:
        """Build the head; ``upsample`` is u."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, upsample**2))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        return self.layers(self.norm(tokens))


class HeatMapAttention(SlotLoop):
    """Bank of the last steps (L, P, M), newest first."""

    Config = HeatMapAttentionConfig
    properties = frozenset()
    heat_maps = True
    """Tells policies that it has the heat map's head."""

    def __init__(self, config: HeatMapAttentionConfig) -> None:
        """Build attention, head and what writes."""
        super().__init__(config)
        self.config: HeatMapAttentionConfig = config
        P, D, M, side = config.tokens, config.width, config.memory_dim, side_of(config.tokens)
        self.head = HeatMapHead(D, config.upsample)
        self.blocks = nn.ModuleList([_Block(D, M) for _ in range(config.layers)])
        self.age = nn.Parameter(_AGE_STD * torch.randn(config.slots, 1, M))
        self.features = nn.Linear(D, M)
        self.down = nn.Sequential(
            nn.Linear(config.upsample**2, M), nn.LayerNorm(M), nn.GELU(), nn.Linear(M, M, bias=False)
        )
        self.fuse = nn.Sequential(*[_Fuser(M, side) for _ in range(_FUSERS)])
        self.places: Tensor
        self.held_places: Tensor
        self.register_buffer("places", sine_places(side, D), persistent=False)
        self.register_buffer("held_places", sine_places(side, M), persistent=False)
        self._shape = (P, D)

    @classmethod
    def token_options(cls, tokens: int, width: int, cognitive: int) -> dict[str, Any]:
        """Return the options with which it reads and returns a policy's own tokens."""
        total = tokens * width + cognitive
        return {"in_dim": total, "out_dim": total, "tokens": tokens, "width": width, "cognitive": cognitive}

    def state_spec(self) -> dict[str, StateSpec]:
        """``bank`` (L, P, M), newest first; ``clock``: steps of the episode so far."""
        c = self.config
        shape = (c.slots, c.tokens, c.memory_dim)
        return {"clock": StateSpec((), torch.int64, "counter"), "bank": StateSpec(shape, role="ring")}

    def starts(self) -> dict[str, Tensor | float]:
        """Return an empty bank."""
        return {"clock": 0, "bank": 0}

    def macs_per_token(self, t: int | None = None) -> int:
        """All layers at every token of the frame, keys and values of what is held, scores and sums."""
        c = self.config
        held = c.slots if t is None else min(t, c.slots)
        kept = c.tokens * linear_macs(self.blocks) * (1 + held)
        scores = 2 * c.layers * c.tokens * c.width * c.tokens * (1 + held)
        written = c.tokens * sum(linear_macs(part) for part in (self.head, self.features, self.down, self.fuse))
        return kept + scores + written

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return the tokens (..., P, D) and the cognitive token (..., D_c)."""
        x, size = inputs.x, self.config.cognitive
        tokens, thought = x.split([x.shape[-1] - size, size], -1)
        return tokens.unflatten(-1, self._shape), thought

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Attend, then write what was seen and the heat map made of it."""
        x, bank, clock = token[0], state["bank"], state["clock"]
        h = self.condition(x, bank, clock)
        heat = _SCALE * self.head(h).sigmoid() - _SHIFT
        new = self.fuse(self.features(x) + self.down(heat))
        return h.flatten(1), {"clock": clock + 1, "bank": torch.cat([new.unsqueeze(1), bank[:, :-1]], 1)}

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Return attended tokens and the cognitive token."""
        return torch.cat([read, token[1]], -1)

    def condition(self, x: Tensor, bank: Tensor, clock: Tensor) -> Tensor:
        """Return the tokens (n, P, D) after attention to ``bank`` (n, L, P, M), of which ``clock`` (n,) are held."""
        n, L, P, _ = bank.shape
        empty = (clock == 0).view(n, 1, 1)
        held = torch.arange(L, device=bank.device) < clock.unsqueeze(1)
        # a row without memory attends to zeros and is replaced below: a row of scores must not be empty
        visible = (held | empty[:, 0]).repeat_interleave(P, 1).view(n, 1, L * P)
        keys = (bank + self.held_places + self.age).flatten(1, 2)
        h = x
        for block in self.blocks:
            h = block(h, self.places, keys, bank.flatten(1, 2), visible)
        return torch.where(empty, x, h)


class _Attention(nn.Module):
    """One head: queries and outputs of width D, keys and values of width M."""

    def __init__(self, D: int, M: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = nn.Linear(D, D), nn.Linear(M, D), nn.Linear(M, D), nn.Linear(D, D)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None) -> Tensor:
        q, k, v = self.query(x), self.key(keys), self.value(values)
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=visible))


class _Block(nn.Module):
    """Self-attention, cross-attention to the bank, feed-forward; norms first."""

    def __init__(self, D: int, M: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(D) for _ in range(3)])
        self.own, self.past = _Attention(D, D), _Attention(D, M)
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, h: Tensor, places: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
        """h (n, P, D), places (P, D), keys and values (n, L P, M), visible (n, 1, L P) -> (n, P, D)."""
        x = self.norms[0](h)
        h = h + self.own(x + places, x + places, x, None)
        h = h + self.past(self.norms[1](h) + places, keys, values, visible)
        return h + self.mlp(self.norms[2](h))


class _Fuser(nn.Module):
    """Depthwise 3 x 3 over the grid, norm, pointwise network; residual."""

    def __init__(self, M: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.near = nn.Conv2d(M, M, 3, padding=1, groups=M)
        self.norm = nn.LayerNorm(M)
        self.mlp = nn.Sequential(nn.Linear(M, 4 * M), nn.GELU(), nn.Linear(4 * M, M))

    def forward(self, x: Tensor) -> Tensor:
        """(n, P, M) -> (n, P, M)."""
        grid = x.transpose(1, 2).unflatten(2, (self.side, self.side))
        return x + self.mlp(self.norm(self.near(grid).flatten(2).transpose(1, 2)))


def side_of(tokens: int) -> int:
    """Return the edge of a square grid of ``tokens`` cells.

    Raises:
        UsageError: they form no square.
    """
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise UsageError(f"expected a square number of perceptual tokens (the cells of the heat map), got {tokens}")
    return side


def sine_places(side: int, width: int) -> Tensor:
    """Return (side * side, width) float32 codes of row and column, half of the numbers each; width divisible by 4.

    Sines and cosines of periods from twice the grid to four cells, so that no two cells are alike at any width: the
    slowest cosine falls from one edge of the grid to the other.
    """
    quarter = width // 4
    slowest, fastest = math.pi / side, math.pi / 2
    rates = slowest * (fastest / slowest) ** (torch.arange(quarter) / max(quarter - 1, 1))
    angle = (torch.arange(side).unsqueeze(1) + 0.5) * rates
    code = torch.cat([angle.sin(), angle.cos()], 1)
    rows, columns = code.unsqueeze(1).expand(-1, side, -1), code.unsqueeze(0).expand(side, -1, -1)
    return torch.cat([rows, columns], -1).flatten(0, 1)
