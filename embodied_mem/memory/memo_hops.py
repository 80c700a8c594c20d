"""MEMO: entries kept as their items, multi-head hops over them, and as many hops as the query needs.

    an entry is its I items c = W_i x;   k = W_k c, v = W_v c per head
    hop:   w = softmax over items of all entries (q . k / sqrt(d) + code[age]),  q <- LN(q + W_o [w v per head])
    halt:  lambda_n = sig(MLP([distance of w_n and w_{n-1}, n / hops])),  p_n = lambda_n prod_{j<n} (1 - lambda_j)
    y = W sum_n p_n q_n,   the rest of p goes to the last hop

The distance of two attention maps is 1 minus their Bhattacharyya coefficient, 1 at the first hop. Halting is by
PonderNet: the output is the expectation over p, in rollout and in update alike, so that a policy ratio is consistent,
and `aux_losses` has ``beta KL(p || Geometric(prior))`` (``ponder``). ``halting="fixed"`` always takes all hops. The
items are stored and queries are projected instead, so an entry costs I * item_dim numbers.

Limits: the published halting, a Bernoulli policy trained by REINFORCE, needs the task's reward and is not part of a
memory; all hops are computed, so halting saves reading time only where `hops_needed` is used to stop early.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, State
from embodied_mem.memory.slot_loop import linear_macs
from embodied_mem.memory.window_memory import Window, WindowMemory, check_positive, visible_softmax
from embodied_mem.registry import register

__all__ = ["MemoHops", "MemoHopsConfig", "ponder_kl", "ponder_weights"]

# Under the root of a product of weights: its slope stays finite where a weight vanishes.
_FLOOR = 1e-6
_HALT_HIDDEN = 16


@dataclass(frozen=True)
class MemoHopsConfig(MemoryConfig):
    """Entries, hops and halting."""

    slots: int = 64
    """Entries N."""
    items: int = 2
    """Items I that an entry is kept as."""
    item_dim: int = 32
    """Width of an item."""
    width: int = 64
    """Width of the query."""
    heads: int = 2
    """Attention heads of a hop."""
    hops: int = 3
    """Most hops; the paper allows 10 to 20."""
    halting: Literal["ponder", "fixed"] = "ponder"
    """Weigh the hops by a learned halting distribution, or take the last."""
    prior: float = 0.2
    """Halting probability per hop of the geometric prior."""
    beta: float = 0.01
    """Weight of the pull towards the prior."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "slots", "items", "item_dim", "width", "heads", "hops")
        if self.width % self.heads:
            raise UsageError(f"expected width divisible by heads = {self.heads}, got {self.width}")
        if not 0 < self.prior < 1 or self.beta < 0:
            raise UsageError(f"expected 0 < prior < 1 and beta >= 0, got {self.prior} and {self.beta}")


@register(
    "memory",
    "memo_hops",
    family="slots",
    source="Banino et al. 2020, arXiv 2001.10913; PonderNet: Banino et al. 2021, arXiv 2107.05407",
    variants=({"slots": 7, "items": 3, "item_dim": 4, "width": 6, "hops": 4},),
)
class MemoHops(WindowMemory):
    """Ring of entries of items, read in hops that halt."""

    Config = MemoHopsConfig

    def __init__(self, config: MemoHopsConfig) -> None:
        super().__init__(config)
        self.config: MemoHopsConfig = config
        I, d, W, H = config.items, config.item_dim, config.width, config.heads  # noqa: E741
        self.slots, self.entry_dim = config.slots, I * d
        self.embed = nn.Linear(config.in_dim, I * d)
        self.query = nn.Linear(config.in_dim, W)
        self.key = nn.Parameter(torch.randn(H, W // H, d) * d**-0.5)
        self.value = nn.Parameter(torch.randn(H, d, W // H) * d**-0.5)
        self.code = nn.Parameter(-0.1 * torch.log1p(torch.arange(config.slots, dtype=torch.float32)).repeat(H, 1))
        self.mix = nn.Linear(W, W)
        self.norm = nn.LayerNorm(W)
        self.halt: nn.Sequential | None = None
        if config.halting == "ponder":
            self.halt = nn.Sequential(nn.Linear(2, _HALT_HIDDEN), nn.Tanh(), nn.Linear(_HALT_HIDDEN, 1))
        self.readout = nn.Linear(W, config.out_dim)
        self._ponder: Tensor | None = None
        self._pulls: list[Tensor] | None = None

    def macs_per_token(self, t: int | None = None) -> int:
        """Embeddings, and per hop the queries, scores, sums and halting."""
        c = self.config
        maps = sum(linear_macs(part) for part in (self.embed, self.query, self.readout))
        hop = linear_macs(self.mix) + self.key.numel() + self.value.numel()
        hop += 2 * self.held(t) * c.items * c.item_dim * c.heads
        return maps + c.hops * (hop + (0 if self.halt is None else linear_macs(self.halt)))

    def entry(self, x: Tensor) -> Tensor:
        """Return the items, (..., I d)."""
        return self.embed(x)

    def read(self, x: Tensor, window: Window) -> Tensor:
        """Hop until halted, in expectation."""
        queries, p, _ = self._hop(x, window)
        if p is None:
            return self.readout(queries[-1])
        return self.readout((p.unsqueeze(-1) * torch.stack(queries, -2)).sum(-2))

    def forward_sequence(
        self, inputs: MemoryInput, state: State, resets: Tensor | None, *, valid: Tensor | None, chunk: int | None
    ) -> tuple[Tensor, State]:
        """Attend `chunk` tokens at a time; see `MemoryModule.sequence`."""
        self._ponder = None
        self._pulls = [] if self.training and torch.is_grad_enabled() else None
        y, state = super().forward_sequence(inputs, state, resets, valid=valid, chunk=chunk)
        if self._pulls:
            pull = torch.cat(self._pulls, 1)
            real = torch.ones_like(pull, dtype=torch.bool) if valid is None else valid
            self._ponder = self.config.beta * torch.where(real, pull, 0).sum() / real.sum().clamp(min=1)
        self._pulls = None
        return y, state

    def aux_losses(self) -> dict[str, Tensor]:
        """Return the pull of the halting distribution towards the prior."""
        return {} if self._ponder is None else {"ponder": self._ponder}

    def hops_needed(self, x: Tensor, state: State, threshold: float = 0.5) -> Tensor:
        """Return after how many hops a read at ``x`` (n, in_dim) has halted with probability ``threshold``, (n,) int64.

        Raises:
            UsageError: halting is fixed.
        """
        if self.halt is None:
            raise UsageError("expected halting='ponder' to tell the hops needed, got 'fixed'")
        count = state["count"].unsqueeze(1)
        ages = torch.arange(1, self.slots + 1, device=x.device)
        window = Window(state["ring"], ((count - ages) % self.slots).unsqueeze(1), (ages <= count).unsqueeze(1))
        p = self._hop(x.to(self.float_dtype).unsqueeze(1), window)[1]
        assert p is not None
        return ((p.squeeze(1).cumsum(-1) < threshold).sum(-1) + 1).clamp(max=self.config.hops)

    def _hop(self, x: Tensor, window: Window) -> tuple[list[Tensor], Tensor | None, list[Tensor]]:
        """Return the query after every hop (n, Q, W), the halting weights (n, Q, hops), and the attention maps."""
        c = self.config
        (n, Q, _), H, N, I = x.shape, c.heads, self.slots, c.items  # noqa: E741
        items = window.items.unflatten(2, (I, c.item_dim)).permute(0, 2, 3, 1)
        index = window.place.view(n, 1, 1, Q, N).expand(n, H, I, Q, N)
        visible = window.visible.view(n, 1, Q, 1, N)
        q = self.norm(self.query(x))
        queries: list[Tensor] = []
        maps: list[Tensor] = []
        halts: list[Tensor] = []
        for hop in range(c.hops):
            # the query in the space of the items: (n, H, Q, d)
            asked = q.view(n, Q, H, -1).transpose(1, 2) @ self.key * (c.width // H) ** -0.5
            scores = (asked.unsqueeze(2) @ items.unsqueeze(1)).gather(4, index) + self.code.view(H, 1, 1, N)
            flat = scores.transpose(2, 3).flatten(3)
            w = visible_softmax(flat, visible.expand(n, H, Q, I, N).flatten(3)).view(n, H, Q, I, N)
            spread = w.new_zeros(n, H, I, Q, items.shape[3]).scatter(4, index, w.transpose(2, 3))
            found = (spread @ items.transpose(2, 3).unsqueeze(1)).sum(2) @ self.value
            q = self.norm(q + self.mix(found.transpose(1, 2).flatten(2)))
            queries.append(q)
            if self.halt is not None:
                halts.append(self._halting(hop, w, maps[-1] if maps else None, visible))
            maps.append(w)
        if self.halt is None:
            return queries, None, maps
        p = ponder_weights(torch.cat(halts, -1))
        if self._pulls is not None:
            self._pulls.append(ponder_kl(p, c.prior))
        return queries, p, maps

    def _halting(self, hop: int, w: Tensor, before: Tensor | None, visible: Tensor) -> Tensor:
        """Return lambda (n, Q, 1) for the attention maps (n, H, Q, I, N) of this hop and the one before."""
        if before is None:
            distance = w.new_ones(w.shape[0], w.shape[2], 1)
        else:
            root = torch.where(visible, (w * before + _FLOOR).sqrt() - _FLOOR**0.5, 0)
            distance = 1 - root.sum((3, 4)).mean(1).unsqueeze(-1)
        assert self.halt is not None
        return self.halt(torch.cat([distance, torch.full_like(distance, (hop + 1) / self.config.hops)], -1)).sigmoid()


def ponder_weights(halting: Tensor) -> Tensor:
    """Return the probability of stopping after each hop, the rest on the last: (..., hops) in [0, 1] -> (..., hops).

    >>> ponder_weights(torch.tensor([0.5, 0.5, 0.1])).tolist()
    [0.5, 0.25, 0.25]
    """
    going_on = torch.cat([torch.ones_like(halting[..., :1]), (1 - halting[..., :-1]).cumprod(-1)], -1)
    return torch.cat([halting[..., :-1] * going_on[..., :-1], going_on[..., -1:]], -1)


def ponder_kl(p: Tensor, prior: float) -> Tensor:
    """Return KL(p || Geometric(prior) cut at the last hop): (..., hops) -> (...)."""
    hops = p.shape[-1]
    steps = torch.arange(hops, device=p.device, dtype=p.dtype)
    log_prior = steps * math.log1p(-prior) + math.log(prior)
    # the last hop takes what is left of the prior
    log_prior = torch.where(steps == hops - 1, steps * math.log1p(-prior), log_prior)
    return (p * (p.clamp_min(1e-12).log() - log_prior)).sum(-1)
