"""TTT: a linear or two-layer regressor with a norm and a skip, trained on the episode by mini-batch gradient descent.

    f(k) = k W + b   or   gelu(k W1 + b1) W2 + b2,        M(k) = k + LN(f(k)),    loss = |M(k) - v|^2 / 2
    W_t = W - row_t sum_{s <= t} rate_s grad_s            over the tokens of the mini-batch up to t, grad at its start
    o_t = q + LN(f_{W_t}(q))

rate_s = base sigmoid(w x_s); ``row_t = max(1 / (t + 1) + learned, 0)`` for the t-th token of a mini-batch, and the next
one starts from W_t of the last token. Mini-batches are the chunks of `inner_learner`. The gradient runs through the
norm: with xh the normalised f, g = gamma (gamma xh + beta - (v - k)) gives (g - mean g - xh mean(g xh)) / std.

The paper's public versions differ in where the two factors stand: a rate of the source token alone (``row`` = 1 with
learned rates) and a row factor alone (rates constant) are both special cases.

Limits: q and k have unit length, so that the paper's base rate / key_dim is ``base`` here; nothing decays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.episode_chunks import EpisodeChunks
from embodied_mem.memory.fast_weights import Token, split_heads, unit
from embodied_mem.memory.inner_learner import InnerLearner, InnerLearnerConfig
from embodied_mem.registry import register

__all__ = ["TTT", "TTTConfig"]

_EPS = 1e-5


@dataclass(frozen=True)
class TTTConfig(InnerLearnerConfig):
    """Config of `TTT`; ``memory`` is matrix for TTT-Linear and mlp for TTT-MLP."""

    base: float = 1.0
    """Largest rate of a token; the paper takes 1 for the matrix and 0.1 for the mlp."""
    clip: float = math.inf
    """Length at which the gradient at the output of a head saturates softly; inf, as in the paper, for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.key_dim != self.value_dim:
            raise UsageError(f"expected value_dim = key_dim, the skip adds them, got {self.value_dim}, {self.key_dim}")
        if self.key_dim < 2:
            raise UsageError(f"expected key_dim >= 2, a norm over one unit is constant, got {self.key_dim}")
        if not self.base > 0:
            raise UsageError(f"expected base > 0, got {self.base}")


@register(
    "memory",
    "ttt",
    family="test-time",
    source="Sun et al. 2024, Learning to (learn at test time): RNNs with expressive hidden states",
    variants=(
        {"memory": "mlp", "base": 0.1, "heads": 1, "key_dim": 5, "value_dim": 5, "expansion": 2, "chunk": 4, "conv": 1},
    ),
)
class TTT(InnerLearner):
    """Mini-batch descent through a norm and a skip."""

    Config = TTTConfig
    bias_rows = 1
    random_start = True

    def __init__(self, config: TTTConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        super().__init__(config, H * (2 * K + V), H * V, torch.zeros(H))
        self.config: TTTConfig = config
        self.gamma, self.beta = nn.Parameter(torch.ones(H, 1, V)), nn.Parameter(torch.zeros(H, 1, V))
        self.row = nn.Parameter(torch.zeros(config.chunk))

    def coef_spec(self) -> dict[str, StateSpec]:
        """None are kept: they follow from the place in the mini-batch."""
        return {}

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Normalise q and k and append the column that meets the bias."""
        q, k, v = split_heads(F.silu(pre), self.config)
        q, k = F.pad(unit(q), (0, 1), value=1.0), F.pad(unit(k), (0, 1), value=1.0)
        return Token(q, k, v, torch.zeros_like(gates), self.config.base * gates.sigmoid())

    def gradient(self, prediction: Tensor, k: Tensor, v: Tensor, extra: Tensor) -> Tensor:
        """Through skip and norm."""
        centred = prediction - prediction.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + _EPS)
        normal = centred * scale
        error = self.gamma * (self.gamma * normal + self.beta - (v - k[..., : v.shape[-1]]))
        return (error - error.mean(-1, keepdim=True) - normal * (error * normal).mean(-1, keepdim=True)) * scale

    def read(self, o: Tensor, gate: Tensor, token: Token) -> Tensor:
        """Add the skip to the normalised output."""
        normal = F.layer_norm(o, o.shape[-1:], eps=_EPS)
        o = token.q[..., : o.shape[-1]] + self.gamma[:, 0] * normal + self.beta[:, 0]
        return super().read(o, gate, token)

    def chunk_coefs(self, log_keep: Tensor, extra: Tensor, state: State, chunks: EpisodeChunks) -> State:
        """The factor of the row over all tokens up to it, held ones included."""
        rows = self._rows()
        kappa = torch.cat([torch.ones_like(rows).unsqueeze(1), rows.unsqueeze(1).expand(-1, len(rows)).tril()], 1)
        return {"kappa": kappa.expand(*log_keep.shape[:2], -1, -1)}

    def advance_coefs(self, token: Token, state: State) -> State:
        """The same for one token."""
        rows, phase = self._rows(), state["phase"].unsqueeze(1)
        taken = torch.where(torch.arange(len(rows), device=rows.device) <= phase, rows[phase], 0)
        kappa = torch.cat([torch.ones_like(taken[:, :1]), taken], 1)
        return {"kappa": kappa.unsqueeze(1).expand(-1, self.config.heads, -1)}

    def _rows(self) -> Tensor:
        place = torch.arange(1, self.config.chunk + 1, device=self.row.device)
        return (1 / place.to(self.row.dtype) + self.row).clamp(min=0)
