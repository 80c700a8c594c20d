"""The memory-conditioned action expert: a diffusion transformer (DiT) over a chunk of actions.

    tokens   [c, W a_1 + b, ..., W a_T + b] + learned positions,   c = Linear(x~_cog) + TimeMLP(level)
    block    h <- h + SelfAttention(LN h);  h <- h + CrossAttention(LN h, Linear(x~_per));  h <- h + MLP(LN h)
    out      Linear(LN h) without the first token

With probability ``drop_condition`` the cognitive token of a training sample is a learned null vector; perceptual tokens
are never dropped. Acting: eps = eps_null + s (eps_cond - eps_null).

Of the cross-attention only the *output* projection starts at zero. Where the query and key projections start at zero
too, as in one published initialisation, they have no gradient ever, and the layer stays a mean over all tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.policies.vla.config import ExpertConfig
from embodied_mem.policies.vla.draws import Draws
from embodied_mem.policies.vla.schedule import Schedule

_STD = 0.02
_LONGEST = 10_000.0


class ActionExpert(nn.Module):
    """Denoises action chunks given the fused tokens."""

    def __init__(self, config: ExpertConfig, actions: int, width: int, cognitive: int) -> None:
        """Build the transformer.

        Args:
            config: sizes and schedule.
            actions: A, numbers of an action.
            width: D_p of the perceptual tokens.
            cognitive: D_c of the cognitive token.
        """
        super().__init__()
        self.config, self.actions = config, actions
        self.schedule = Schedule(config.schedule)
        H = config.width
        self.embed, self.condition, self.context = (nn.Linear(size, H) for size in (actions, cognitive, width))
        self.level = nn.Sequential(nn.Linear(H, H), nn.SiLU(), nn.Linear(H, H))
        self.null = nn.Parameter(_STD * torch.randn(cognitive))
        self.positions = nn.Parameter(_STD * torch.randn(config.chunk + 1, H))
        self.blocks = nn.ModuleList([_Block(H, config.heads, config.mlp_ratio) for _ in range(config.layers)])
        self.norm, self.out = nn.LayerNorm(H), nn.Linear(H, actions)
        nn.init.normal_(self.out.weight, std=_STD)
        nn.init.zeros_(self.out.bias)
        self.frequencies: Tensor
        half = H // 2
        self.register_buffer("frequencies", _LONGEST ** (-torch.arange(half) / half), persistent=False)

    def forward(self, noisy: Tensor, level: Tensor, perceptual: Tensor, cognitive: Tensor) -> Tensor:
        """Return the prediction (n, T, A) for ``noisy`` (n, T, A).

        Args:
            noisy: actions with noise.
            level: (n,) float32 diffusion step.
            perceptual: (n, P, D_p).
            cognitive: (n, D_c).
        """
        angle = level.unsqueeze(-1) * self.frequencies
        told = self.level(torch.cat([angle.cos(), angle.sin()], -1).to(self.null.dtype))
        first = (self.condition(cognitive) + told).unsqueeze(1)
        h = torch.cat([first, self.embed(noisy)], 1) + self.positions[: noisy.shape[1] + 1]
        context = self.context(perceptual)
        for block in self.blocks:
            h = block(h, context)
        return self.out(self.norm(h[:, 1:]))

    def loss(
        self,
        actions: Tensor,
        weight: Tensor,
        perceptual: Tensor,
        cognitive: Tensor,
        generator: torch.Generator,
        part: tuple[int, int] | None = None,
    ) -> Tensor:
        """Return the mean squared error () of the prediction over ``draws`` noise levels per sample.

        Args:
            actions: (n, T, A) float32 in [-1, 1].
            weight: (n, T) float32, 0 where an action does not count.
            perceptual: (n, P, D_p) fused tokens.
            cognitive: (n, D_c) fused token.
            generator: of all draws, on the device of ``actions``.
            part: where the samples are some of a larger batch: how many stand before them, how many there are in all.
        """
        k = self.config.draws
        first, total = part or (0, len(actions))
        draws = Draws(generator, k * first, k * total)
        actions, weight, perceptual, cognitive = (
            part.repeat_interleave(k, 0) for part in (actions, weight, perceptual, cognitive)
        )
        noisy, level, target = self.schedule.noised(actions, draws.normal(actions), draws)
        dropped = draws.uniform(len(actions)).unsqueeze(1) < self.config.drop_condition
        predicted = self(noisy, level, perceptual, torch.where(dropped, self.null, cognitive))
        error = (predicted.float() - target).square().mean(-1)
        return (error * weight).sum() / weight.sum().clamp(min=1.0)

    def sample(self, perceptual: Tensor, cognitive: Tensor, noise: Tensor, through: int | None = None) -> Tensor:
        """Return action chunks (n, T, A) in [-1, 1] from ``noise`` (n, T, A), with guidance.

        Args:
            perceptual: (n, P, D_p) fused tokens.
            cognitive: (n, D_c) fused token.
            noise: standard normal, or 0.
            through: see `Schedule.denoise`.
        """
        s = self.config.guidance
        if s == 1.0:
            predict = lambda x, level: self(x, level, perceptual, cognitive)  # noqa: E731
            return self.schedule.denoise(predict, noise, through).clamp(-1.0, 1.0)
        both = torch.cat([cognitive, self.null.expand_as(cognitive)])
        seen = torch.cat([perceptual, perceptual])

        def guided(x: Tensor, level: Tensor) -> Tensor:
            with_it, without = self(torch.cat([x, x]), torch.cat([level, level]), seen, both).chunk(2)
            return without + s * (with_it - without)

        return self.schedule.denoise(guided, noise, through).clamp(-1.0, 1.0)


class _Attention(nn.Module):
    """Multi-head attention without dropout."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=1.0 / math.sqrt(width))
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (n, M, H), context (n, P, H) -> (n, M, H)."""
        q, k, v = (
            layer(part).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, part in ((self.query, x), (self.key, context), (self.value, context))
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Self-attention, cross-attention to the perceptual tokens, MLP; norms first."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
        self.attend, self.cross = _Attention(width, heads), _Attention(width, heads)
        nn.init.zeros_(self.cross.out.weight)
        nn.init.zeros_(self.cross.out.bias)
        self.mlp = nn.Sequential(nn.Linear(width, ratio * width), nn.GELU(), nn.Linear(ratio * width, width))

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        """h (n, 1 + T, H), context (n, P, H) -> (n, 1 + T, H)."""
        x = self.norms[0](h)
        h = h + self.attend(x, x)
        h = h + self.cross(self.norms[1](h), context)
        return h + self.mlp(self.norms[2](h))
