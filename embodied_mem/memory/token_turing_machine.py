"""Token Turing machine: a few memory tokens, read and rewritten at every step by summaries of all tokens at hand.

    Z = S_r([M ; I])                 r tokens of the memory M (m) and the input I
    O = blocks of attention and MLP on Z
    M' = S_w([M ; I ; O]),           y = W [LN(O_1), .., LN(O_r)] + b

    S(V)_j = sum_i softmax_i(s_ij) V_i,   s = MLP(LN(V) + P)             ``summary="mlp"``
                                          s = q_j . W (LN(V) + P)        ``summary="query"``, per head

P are learned codes of the places of a token: its slot, its number in the input, its number in the output. Their cost
does not grow with the episode. ``write="erase_add"`` addresses slots by a softmax over slots instead: every token i of
[I ; O] erases by e_i and adds a_i where its weight w_i points,

    M' = M * prod_i (1 - w_i e_i) + sum_i w_i a_i

An episode starts with M = 0, or with learned tokens. Nothing in S_w alone makes a slot last, so with positions a slot's
own score starts higher, for half-lives of ``shortest_half_life`` to ``longest_half_life`` steps. That is ours, as are
values without a projection in ``summary="query"`` (a slot can be kept as it is), and the added part of ``erase_add``:
the published code adds ``mean_i (1 - w_i a_i)``, whose 1 piles up wherever nothing is erased. ``positions=False``
leaves out P and that score; what is read then does not depend on the order of the slots.

Limits: no parallel form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State, StateSpec
from embodied_mem.memory.fast_weights import half_life_spread
from embodied_mem.memory.slot_loop import SlotLoop, Token, linear_macs
from embodied_mem.memory.window_memory import check_positive
from embodied_mem.registry import register

__all__ = ["TokenTuringMachine", "TokenTuringMachineConfig"]

_MLP_RATIO = 2


@dataclass(frozen=True)
class TokenTuringMachineConfig(MemoryConfig):
    """Tokens, summaries and blocks. The published machine has 96 slots and reads 16 tokens."""

    slots: int = 32
    """Memory tokens m."""
    width: int = 64
    """Width of a token."""
    reads: int = 8
    """Tokens r that are read and processed."""
    layers: int = 1
    """Blocks of attention and MLP."""
    heads: int = 4
    """Attention heads of the blocks and of ``summary="query"``."""
    input_tokens: int = 1
    """Tokens that the features become; with ``token_dim`` the patch tokens of a frame, beside one of the features."""
    token_dim: int = 0
    """Width of the frame's patch tokens; 0: only features are read."""
    summary: Literal["mlp", "query"] = "mlp"
    """How tokens are weighed: scores from an MLP, or learned queries."""
    write: Literal["summary", "erase_add"] = "summary"
    """How the memory is rewritten."""
    positions: bool = True
    """Tell places apart, and let slots keep themselves at first."""
    learned_init: bool = False
    """Learn the tokens that an episode starts with, instead of zeros."""
    shortest_half_life: float = 2.0
    """Initial half-life in steps of the slot that is overwritten fastest."""
    longest_half_life: float = 256.0
    """Initial half-life in steps of the slot that is overwritten slowest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "width", "reads", "layers", "heads", "input_tokens")
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)
        if self.width % self.heads:
            raise UsageError(f"expected width divisible by heads, got {self.width} and {self.heads}")
        if self.token_dim < 0:
            raise UsageError(f"expected token_dim >= 0, got {self.token_dim}")

    @property
    def inputs(self) -> int:
        """Input tokens of a step, those of features and frame together."""
        return self.input_tokens + (1 if self.token_dim else 0)


@register(
    "memory",
    "token_turing_machine",
    family="slots",
    source="Ryoo et al. 2023, Token Turing Machines, arXiv 2211.09119",
    variants=(
        {"slots": 3, "width": 6, "heads": 2, "reads": 2, "summary": "query", "token_dim": 5, "input_tokens": 3},
        {"slots": 4, "width": 6, "heads": 1, "reads": 2, "write": "erase_add", "learned_init": True, "layers": 2},
        {"slots": 3, "width": 6, "heads": 2, "reads": 2, "positions": False, "input_tokens": 2},
    ),
)
class TokenTuringMachine(SlotLoop):
    """Memory tokens M (m, W)."""

    Config = TokenTuringMachineConfig

    def __init__(self, config: TokenTuringMachineConfig) -> None:
        super().__init__(config)
        self.config: TokenTuringMachineConfig = config
        m, W, r = config.slots, config.width, config.reads
        self.needs = frozenset({"tokens"}) if config.token_dim else frozenset()
        self.embed = nn.Linear(config.in_dim, W if config.token_dim else config.input_tokens * W)
        self.perceive = nn.Linear(config.token_dim, W) if config.token_dim else None
        self.read = _Summary(config, m + config.inputs, r)
        self.blocks = nn.ModuleList([_Block(W, config.heads) for _ in range(config.layers)])
        self.write: _Summary | _EraseAdd
        if config.write == "summary":
            self.write = _Summary(config, m + config.inputs + r, m, keeps=True)
        else:
            self.write = _EraseAdd(config, config.inputs + r)
        self.start = nn.Parameter(torch.randn(m, W)) if config.learned_init else None
        self.norm = nn.LayerNorm(W)
        self.readout = nn.Linear(r * W, config.out_dim)

    @classmethod
    def sample_input(cls, config: MemoryConfig, n: int, T: int, generator: torch.Generator) -> MemoryInput:
        """Return random features, and patch tokens where the memory reads them."""
        drawn = super().sample_input(config, n, T, generator)
        if not isinstance(config, TokenTuringMachineConfig) or not config.token_dim:
            return drawn
        shape = (n, T, config.input_tokens, config.token_dim)
        return drawn._replace(tokens=torch.randn(*shape, generator=generator))

    def state_spec(self) -> dict[str, StateSpec]:
        """Memory tokens ``M`` (m, W)."""
        return {"M": StateSpec((self.config.slots, self.config.width))}

    def starts(self) -> dict[str, Tensor | float]:
        """Return zeros, or the learned tokens."""
        return {"M": 0.0 if self.start is None else self.start}

    def macs_per_token(self, t: int | None = None) -> int:
        """Embedding, both summaries, blocks on what was read, and readout."""
        c = self.config
        total = linear_macs(self.embed) + linear_macs(self.readout)
        if self.perceive is not None:
            total += c.input_tokens * linear_macs(self.perceive)
        per_block = c.reads * linear_macs(self.blocks[0]) + 2 * c.reads**2 * c.width
        return total + self.read.macs() + c.layers * per_block + self.write.macs()

    def prepare(self, inputs: MemoryInput) -> Token:
        """Return the input tokens (..., I, W)."""
        c, x = self.config, inputs.x
        if self.perceive is None:
            return (self.embed(x).unflatten(-1, (c.input_tokens, c.width)),)
        assert inputs.tokens is not None
        if inputs.tokens.shape[-2:] != (c.input_tokens, c.token_dim):
            raise UsageError(
                f"expected {c.input_tokens} patch tokens of width {c.token_dim} per frame, "
                f"got {tuple(inputs.tokens.shape[-2:])}"
            )
        return (torch.cat([self.embed(x).unsqueeze(-2), self.perceive(inputs.tokens.to(x.dtype))], -2),)

    def advance(self, token: Token, state: State, *, donate: bool) -> tuple[Tensor, State]:
        """Read, process, write; what is read is the processed tokens, (n, r W)."""
        M, items = state["M"], token[0]
        processed = self.read(torch.cat([M, items], 1))
        for block in self.blocks:
            processed = block(processed)
        if isinstance(self.write, _Summary):
            new = self.write(torch.cat([M, items, processed], 1))
        else:
            new = self.write(M, torch.cat([items, processed], 1))
        return processed.flatten(1), {"M": new}

    def emit(self, token: Token, read: Tensor) -> Tensor:
        """Map the processed tokens (..., r W) to the output."""
        return self.readout(self.norm(read.unflatten(-1, (-1, self.config.width))).flatten(-2))


class _Scores(nn.Module):
    """LN(V) + P -> MLP: one score per token and choice."""

    def __init__(self, config: TokenTuringMachineConfig, tokens: int, choices: int, bias: bool) -> None:
        super().__init__()
        W = config.width
        # where every token's score moves alike, a softmax over tokens cancels it
        self.norm = nn.LayerNorm(W, bias=bias or config.summary == "mlp")
        self.places = nn.Parameter(torch.randn(tokens, W) * 0.5) if config.positions else None
        self.tokens = tokens
        self.mlp: nn.Module
        self.queries: nn.Parameter | None = None
        if config.summary == "mlp":
            self.mlp = nn.Sequential(nn.Linear(W, W), nn.GELU(), nn.Linear(W, choices, bias=bias))
        else:
            self.mlp = nn.Linear(W, W, bias=False)
            self.queries = nn.Parameter(torch.randn(config.heads, choices, W // config.heads))

    def macs(self) -> int:
        """Multiply-accumulates of all tokens."""
        queries = 0 if self.queries is None else self.queries.numel()
        return self.tokens * (linear_macs(self.mlp) + queries)

    def forward(self, V: Tensor) -> Tensor:
        """V (n, L, W) -> (n, H, choices, L)."""
        told = self.norm(V)
        told = told if self.places is None else told + self.places
        scored = self.mlp(told)
        if self.queries is None:
            return scored.transpose(1, 2).unsqueeze(1)
        keys = scored.unflatten(-1, (len(self.queries), -1))
        return torch.einsum("nlhd,hcd->nhcl", keys, self.queries) * keys.shape[-1] ** -0.5


class _Summary(nn.Module):
    """p weighted sums of L tokens; with ``keeps`` the first p tokens are those that the sums replace."""

    def __init__(self, config: TokenTuringMachineConfig, tokens: int, count: int, keeps: bool = False) -> None:
        super().__init__()
        # no bias: the softmax over tokens would cancel it
        self.scores, self.count = _Scores(config, tokens, count, bias=False), count
        self.keep: nn.Parameter | None = None
        self.own: Tensor
        if keeps and config.positions:
            share = 2 ** (-1 / half_life_spread(config.shortest_half_life, config.longest_half_life, count))
            # the softmax over L tokens of equal scores but one gives that one its share
            self.keep = nn.Parameter(share.logit() + math.log(tokens - 1))
            self.register_buffer("own", torch.eye(count, tokens), persistent=False)

    def macs(self) -> int:
        """Multiply-accumulates of one summary."""
        return self.scores.macs() + self.count * self.scores.tokens * self.scores.norm.weight.numel()

    def forward(self, V: Tensor) -> Tensor:
        """V (n, L, W) -> (n, p, W)."""
        scores = self.scores(V)
        if self.keep is not None:
            scores = scores + self.keep.unsqueeze(-1) * self.own
        values = V.unflatten(-1, (scores.shape[1], -1)).transpose(1, 2)
        return (scores.softmax(-1) @ values).transpose(1, 2).flatten(2)


class _EraseAdd(nn.Module):
    """Every token erases and adds where a softmax over slots points."""

    def __init__(self, config: TokenTuringMachineConfig, tokens: int) -> None:
        super().__init__()
        self.scores, self.slots = _Scores(config, tokens, config.slots, bias=True), config.slots
        self.change = nn.Linear(config.width, 2 * config.width)

    def macs(self) -> int:
        """Multiply-accumulates of one write."""
        width = self.change.in_features
        return self.scores.macs() + self.scores.tokens * (linear_macs(self.change) + 2 * self.slots * width)

    def forward(self, M: Tensor, V: Tensor) -> Tensor:
        """M (n, m, W), V (n, L, W) -> (n, m, W)."""
        # (n, H, m, L): of several heads the mean
        weights = self.scores(V).softmax(2).mean(1)
        erase, add = self.change(self.scores.norm(V)).chunk(2, -1)
        kept = 1 - weights.transpose(1, 2).unsqueeze(-1) * erase.sigmoid().unsqueeze(2)
        return M * kept.prod(1) + weights @ add


class _Block(nn.Module):
    """Attention and MLP, norm first."""

    def __init__(self, W: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm, self.norm_mlp = nn.LayerNorm(W), nn.LayerNorm(W)
        self.qkv, self.out = nn.Linear(W, 3 * W), nn.Linear(W, W)
        self.mlp = nn.Sequential(nn.Linear(W, _MLP_RATIO * W), nn.GELU(), nn.Linear(_MLP_RATIO * W, W))

    def forward(self, h: Tensor) -> Tensor:
        """(n, r, W) -> (n, r, W)."""
        n, r, _ = h.shape
        qkv = self.qkv(self.norm(h)).view(n, r, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        h = h + self.out(F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).reshape(n, r, -1))
        return h + self.mlp(self.norm_mlp(h))
