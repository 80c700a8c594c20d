"""OmegaNet and Atlas: fast weights that fit the last c tokens at every step, over polynomial features of the keys.

    loss_t(W) = sum_{i = t-c+1 .. t} gamma_i |phi(k_i) W - v_i|^2         gamma = sigmoid(w x), tokens of the episode
    omega     W_t = alpha_t W_{t-1} - eta_t grad loss_t
    atlas     Z_t = theta_t Z_{t-1} - grad loss_t,   W = alpha W + eta NS5(Z) at the boundaries of chunks
    phi(x)    = [1, a_1 x, a_2 vec_upper(x x^T)],   a_1, a_2 learned from 1 and 1/2;   degree 1: phi(x) = x

The gradients are taken at the last boundary (`inner_learner`); the window reaches back over it, and the gradients of
the earlier tokens are taken anew there. NS5, five Newton-Schulz steps (coefficients 3.4445, -4.7750, 2.0315, on Z over
its Frobenius norm), brings the singular values of Z near 1. It is not linear: ``variant="atlas"`` takes one such step
per chunk, and between two boundaries its reads see none of the tokens since, so take a short ``chunk`` there.

Limits: a matrix memory only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory import inner_loop
from embodied_mem.memory.contract import State, StateSpec
from embodied_mem.memory.episode_chunks import EpisodeChunks
from embodied_mem.memory.fast_weights import Token, half_life_spread, softplus_inverse, unit
from embodied_mem.memory.inner_learner import InnerLearner, InnerLearnerConfig
from embodied_mem.registry import register

__all__ = ["AtlasOmega", "AtlasOmegaConfig", "newton_schulz"]

VARIANTS = ("omega", "atlas")
_TINY = 1e-12
_NS = (3.4445, -4.7750, 2.0315)


@dataclass(frozen=True)
class AtlasOmegaConfig(InnerLearnerConfig):
    """Config of `AtlasOmega`."""

    variant: str = "omega"
    """omega: descent; atlas: momentum and one orthogonalised step per chunk."""
    window: int = 8
    """Tokens c that the loss of a step runs over."""
    degree: int = 2
    """Degree of the key features, 1 or 2."""
    key_dim: int = 8
    """Key and query width of a head, before the features: 8 gives 45, 16 gives 153."""
    max_rate: float = 0.25
    """Largest eta."""
    rate: float = 0.05
    """Initial eta; a token is written ``window`` times."""
    keep_momentum: float = 0.9
    """Initial theta of atlas."""
    shortest_half_life: float = 16.0
    """Initial half-life in steps of the fastest forgetting head."""
    longest_half_life: float = 1024.0
    """Initial half-life in steps of the slowest forgetting head."""

    def __post_init__(self) -> None:
        super().__post_init__()
        half_life_spread(self.shortest_half_life, self.longest_half_life, 1)
        if self.variant not in VARIANTS:
            raise UsageError(f"expected variant to be one of {', '.join(VARIANTS)}, got {self.variant!r}")
        if self.memory != "matrix":
            raise UsageError(f"expected memory = matrix, got {self.memory!r}")
        if self.window < 1 or self.degree not in (1, 2):
            raise UsageError(f"expected window >= 1 and degree 1 or 2, got {self.window} and {self.degree}")
        if not 0 < self.rate < self.max_rate or not 0 < self.keep_momentum < 1:
            raise UsageError(
                "expected 0 < rate < max_rate and 0 < keep_momentum < 1, "
                f"got {self.rate}, {self.max_rate} and {self.keep_momentum}"
            )


@register(
    "memory",
    "atlas_omega",
    family="test-time",
    source="Behrouz et al. 2025, ATLAS: Learning to optimally memorize the context at test time",
    variants=(
        {"variant": "atlas", "heads": 2, "key_dim": 3, "value_dim": 4, "window": 3, "chunk": 4, "conv": 1},
        {"window": 1, "degree": 1, "heads": 1, "key_dim": 5, "value_dim": 4, "chunk": 5, "learned_init": True},
        {"window": 7, "heads": 1, "key_dim": 2, "value_dim": 3, "chunk": 3},
    ),
)
class AtlasOmega(InnerLearner):
    """Fast weights that fit a window."""

    Config = AtlasOmegaConfig
    boundary = "WZT"

    def __init__(self, config: AtlasOmegaConfig) -> None:
        H, K, V = config.heads, config.key_dim, config.value_dim
        half_life = half_life_spread(config.shortest_half_life, config.longest_half_life, H)
        bias = [_logit(config.rate / config.max_rate), 0.0, _logit(config.keep_momentum)]
        gates = [torch.full((H,), b) for b in bias[: 3 if config.variant == "atlas" else 2]]
        gates.insert(0, softplus_inverse(math.log(2) / half_life))
        super().__init__(config, H * (2 * K + V), H * V, torch.cat(gates))
        self.config: AtlasOmegaConfig = config
        self.features = nn.Parameter(torch.tensor([1.0, 0.5])) if config.degree == 2 else None
        width = K if config.degree == 1 else 1 + K + K * (K + 1) // 2
        self.shapes = [(H, width, V)]
        if len(self.starts):
            self.starts = nn.ParameterList([nn.Parameter(torch.zeros(H, width, V))])
        self.orthogonal = config.variant == "atlas"
        upper = torch.ones(K, K).triu().flatten().nonzero()[:, 0]
        self.upper: Tensor
        self.register_buffer("upper", upper, persistent=False)

    def fast_spec(self) -> dict[str, StateSpec]:
        """As in the base; goals of the writes, [v, gamma]; and the tokens T before the boundary that losses reach."""
        c, (H, K, V) = self.config, self.shapes[0]
        spec: dict[str, StateSpec] = {**super().fast_spec(), "right1": StateSpec((H, c.chunk, V + 1), role="ring")}
        for name, width in (("T0", K), ("T1", V), ("T2", V + 1)):
            spec[name] = StateSpec((H, c.window - 1, width), role="ring")
        if self.orthogonal:
            spec["Z0"] = StateSpec((H, K, V), role="param_like")
        # the counter last, as in the states that steps return
        phase = spec.pop("phase")
        return {**spec, "phase": phase}

    def coef_spec(self) -> dict[str, StateSpec]:
        """Of W, or of Z, the tokens before the boundary, and the slots since."""
        c = self.config
        spec = {"kappa": StateSpec((c.heads, c.window + c.chunk))}
        return {**spec, "mu": spec["kappa"]} if self.orthogonal else spec

    def fast_macs(self) -> int:
        """Gradients and reads through the outer products, the boundary spread over its chunk."""
        c, (H, K, V) = self.config, self.shapes[0]
        return H * (math.ceil(3 + c.window / c.chunk) * K * V + (c.window + c.chunk) * (K + V))

    def token(self, pre: Tensor, gates: Tensor, position: Tensor | None) -> Token:
        """Features of unit keys; the gates become log alpha, eta, gamma and, in atlas, log theta."""
        c, pre = self.config, F.silu(pre).unflatten(-1, (self.config.heads, -1))
        q, k, v = (unit(x) for x in pre.split_with_sizes((c.key_dim, c.key_dim, c.value_dim), -1))
        forget, rate, weight, *keep = gates.unflatten(-1, (-1, c.heads)).unbind(-2)
        extra = [weight.sigmoid(), c.max_rate * rate.sigmoid(), *(F.logsigmoid(x) for x in keep)]
        # the rate belongs to the step that writes, not to the token written
        ones = torch.ones_like(forget)
        return Token(self.phi(q), self.phi(k), v, -F.softplus(forget), ones, torch.stack(extra, -1))

    def phi(self, x: Tensor) -> Tensor:
        """Features (..., K) -> (..., F)."""
        if self.features is None:
            return x
        squares = (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2).index_select(-1, self.upper)
        return torch.cat([torch.ones_like(x[..., :1]), self.features[0] * x, self.features[1] * squares], -1)

    def gradient(self, prediction: Tensor, k: Tensor, v: Tensor, extra: Tensor) -> Tensor:
        """Of the weighted squared error, ``extra[..., 0]`` being the weight."""
        return 2 * extra[..., :1] * (prediction - v)

    def chunk_coefs(self, log_keep: Tensor, extra: Tensor, state: State, chunks: EpisodeChunks) -> State:
        """Each step writes all tokens of its window, so the kernel of decay meets a band."""
        E, C = len(chunks.row), chunks.chunk
        held = torch.zeros_like(chunks.real)
        held[:E] = torch.arange(C, device=held.device) < chunks.held.unsqueeze(1)
        band = self._band(torch.arange(C, device=held.device).unsqueeze(1)).to(log_keep.dtype)
        eta = extra[..., 1:2]
        gates = {"kappa": (log_keep, eta * band)}
        if self.orthogonal:
            gates = {"kappa": (log_keep, torch.zeros_like(band)), "mu": (extra[..., 2], band)}
        coefs: State = {}
        for key, (gate, written) in gates.items():
            decay, total = inner_loop.decays(gate, held.unsqueeze(1))
            own = torch.cat([total, decay @ written], -1)
            begun = inner_loop.held_coefs(self._begin(key, state, chunks), chunks.held, C)
            first, _ = inner_loop.carried_coefs(own[:E], None, begun, None)
            coefs[key] = torch.cat([first, own[E:]])
        return {**coefs, "rate": eta} if self.orthogonal else coefs

    def advance_coefs(self, token: Token, state: State) -> State:
        """The same for one token."""
        assert token.extra is not None
        C, phase = self.config.chunk, state["phase"]
        band = self._band(phase.unsqueeze(1)).unsqueeze(1)
        eta = token.extra[..., 1:2]
        kappa = inner_loop.held_coefs(state["kappa"], phase, C) * token.log_decay.exp().unsqueeze(-1)
        if not self.orthogonal:
            return {"kappa": kappa + eta * F.pad(band, (1, 0))}
        mu = inner_loop.held_coefs(state["mu"], phase, C) * token.extra[..., 2:].exp() + F.pad(band, (1, 0))
        return {"kappa": kappa, "mu": mu, "rate": eta}

    def _band(self, at: Tensor) -> Tensor:
        """Which tokens the loss of slot ``at`` (..., 1) runs over: (..., window - 1 + C)."""
        c = self.config.window
        slot = torch.arange(1 - c, self.config.chunk, device=at.device)
        return (slot <= at) & (slot > at - c)

    def _outer(
        self, k: Tensor, v: Tensor, theta: Tensor, extra: Tensor, now: State
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Outer products, and what is needed to take them anew at the next boundary."""
        gamma = theta * extra[..., :1]
        return [k], [self._descent(k, v, gamma, now["W0"]), torch.cat([v * theta, gamma], -1)]

    def _read(self, q: Tensor, kappa: Tensor, now: State, lefts: list[Tensor], rights: list[Tensor]) -> Tensor:
        left, right = self._reach(now, lefts, rights)
        return inner_loop.read(q, kappa, [now["W0"]], None, [left], [right], self.config.activation)

    def _form(self, coef: State, now: State, lefts: list[Tensor], rights: list[Tensor]) -> State:
        left, right = self._reach(now, lefts, rights)
        if self.orthogonal:
            Z = inner_loop.combine(coef["mu"], None, [now["Z0"]], None, [left], [right])[0][0]
            W = coef["kappa"][..., :1, None] * now["W0"] + coef["rate"].unsqueeze(-1) * newton_schulz(Z)
            new = {"W0": W, "Z0": Z}
        else:
            W = inner_loop.combine(coef["kappa"], None, [now["W0"]], None, [left], [right])[0][0]
            new = {"W0": W}
        goal, last = torch.cat([now["T2"], rights[1]], -2), self.config.chunk
        left, goal = left[..., last:, :], goal[..., last:, :]
        descent = self._descent(left, goal[..., :-1], goal[..., -1:], W)
        return {**new, "T0": left, "T1": descent, "T2": goal}

    def _reach(self, now: State, lefts: list[Tensor], rights: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Both factors of the tokens before the boundary and of the slots since, (n, H, window - 1 + C, *)."""
        return torch.cat([now["T0"], lefts[0]], -2), torch.cat([now["T1"], rights[0]], -2)

    def _descent(self, k: Tensor, v: Tensor, gamma: Tensor, W: Tensor) -> Tensor:
        """Minus the gradient at the output, softly clipped: gamma (n, H, Q, 1) -> (n, H, Q, V)."""
        gradient = self.gradient(k @ W, k, v, gamma)
        if self.config.clip < math.inf:
            gradient = gradient * torch.rsqrt(1 + gradient.square().sum(-1, keepdim=True) * self.config.clip**-2)
        return -gradient


def newton_schulz(Z: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of matrices (..., K, V) near 1 (between 0.7 and 1.2), leaving zero where it is."""
    wide = Z.shape[-2] <= Z.shape[-1]
    X = Z if wide else Z.transpose(-1, -2)
    X = X / (X.square().sum((-2, -1), keepdim=True) + _TINY).sqrt()
    a, b, c = _NS
    for _ in range(steps):
        gram = X @ X.transpose(-1, -2)
        X = a * X + (b * gram + c * gram @ gram) @ X
    return X if wide else X.transpose(-1, -2)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))
