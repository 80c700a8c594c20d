"""Gradient descent inside a forward pass: the closed forms that test-time memories share.

The fast weights W of a small regressor M (one matrix, or two with an activation between) learn the pairs (k, v) of the
episode. Gradients are taken at the weights of the start of a chunk of C tokens, so a token's gradient of a layer is an
outer product ``left_s^T right_s`` that does not depend on the other tokens of the chunk, and the weights at token t are
a linear combination that is never formed (momentum eta, decay 1 - alpha; the step size is part of ``right``):

    Z_t = eta_t Z_{t-1} + left_t^T right_t,   W_t = (1 - alpha_t) W_{t-1} + Z_t
    W_t = kappa_t0 W + kappa_t1 Z + sum_s kappa_ts left_s^T right_s,     Z_t = mu_t0 Z + sum_s mu_ts left_s^T right_s

with W, Z at the start of the chunk. So ``x W_t = kappa_t0 x W + kappa_t1 x Z + (kappa_ts (x left_s^T)) right_s``: C x C
products instead of one matrix per token. Without momentum the column of Z is absent and ``Z_t = left_t^T right_t``.

Coefficients are (..., Q, P + C), P = 2 with momentum, else 1; of Z (..., Q, 1 + C). Sums of gates run in float64: one
strong gate must not cancel the small differences after it. No function here calls autograd, so all of them run the same
under no_grad, inference_mode and eval.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.memory import inner_ops

__all__ = [
    "ACTIVATIONS",
    "advance_coefs",
    "carried_coefs",
    "chunk_coefs",
    "combine",
    "decays",
    "forward",
    "held_coefs",
    "read",
    "writes",
]

ACTIVATIONS = ("gelu", "silu")
Weights = Sequence[Tensor]


def chunk_coefs(log_keep: Tensor, log_momentum: Tensor | None, held: Tensor) -> tuple[Tensor, Tensor | None]:
    """Coefficients at every token of chunks that start with W and Z.

    Args:
        log_keep: (..., C) ``log(1 - alpha)``, <= 0. log_momentum: (..., C) ``log eta``, <= 0, or None.
        held: (..., C) bool, True for slots that the carried state has taken in (`carried_coefs`); gates 0 there.

    Returns:
        kappa (..., C, P + C) and mu (..., C, 1 + C), which is None without momentum; to be used from the first slot on
        that is not held.
    """
    decay, total = decays(log_keep, held)
    if log_momentum is None:
        return torch.cat([total, decay], -1), None
    moment, moment_total = decays(log_momentum, held)
    mu = torch.cat([moment_total, moment], -1)
    return torch.cat([total, decay @ mu], -1), mu


def carried_coefs(kappa: Tensor, mu: Tensor | None, kappa0: Tensor, mu0: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Coefficients (..., C, *) of `chunk_coefs` for chunks of which the state has taken in a part.

    ``kappa0`` (..., P + C) and ``mu0`` (..., 1 + C) are the coefficients after that part, 0 in the slots still free.
    """
    total = kappa[..., :1]
    if mu is None or mu0 is None:
        own = F.pad(kappa[..., 1:], (1, 0))
        return total * kappa0.unsqueeze(-2) + own, None
    carried, moment_total = kappa[..., 1:2], mu[..., :1]
    before = total * kappa0.unsqueeze(-2) + carried * F.pad(mu0, (1, 0)).unsqueeze(-2)
    own, own_mu = F.pad(kappa[..., 2:], (2, 0)), F.pad(mu[..., 1:], (1, 0))
    return before + own, moment_total * mu0.unsqueeze(-2) + own_mu


def advance_coefs(
    kappa: Tensor, mu: Tensor | None, log_keep: Tensor, log_momentum: Tensor | None, phase: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Coefficients after one more token, which takes slot ``phase``.

    Args:
        kappa: (n, H, P + C). mu: (n, H, 1 + C) or None. log_keep, log_momentum: (n, H). phase: (n,) int64.
    """
    C = kappa.shape[-1] - (1 if mu is None else 2)
    slot = torch.arange(-1, C, device=kappa.device) == phase.view(-1, 1, 1)
    kappa = held_coefs(kappa, phase, C) * log_keep.exp().unsqueeze(-1)
    if mu is None or log_momentum is None:
        return kappa + slot, None
    mu = held_coefs(mu, phase, C) * log_momentum.exp().unsqueeze(-1) + slot
    return kappa + F.pad(mu, (1, 0)), mu


def held_coefs(coefs: Tensor, phase: Tensor, chunk: int) -> Tensor:
    """Return coefficients (n, H, * + C) with 0 in the slots from ``phase`` (n,) on.

    They are 0 there already; but no gradient may reach what the next tokens overwrite.
    """
    slot = torch.arange(chunk - coefs.shape[-1], chunk, device=coefs.device)
    return coefs.masked_fill(slot >= phase.view(-1, 1, 1), 0)


def forward(k: Tensor, weights: Weights, activation: str) -> tuple[Tensor, list[Tensor], Tensor | None]:
    """Run the regressor.

    Args:
        k: (..., Q, K). weights: one (..., K, V), or (..., K, h) and (..., h, V); with one more row than inputs the
            last row of the second is a bias.

    Returns:
        The prediction (..., Q, V), the input of every layer, and the slope of the activation (None with one layer).
    """
    if len(weights) == 1:
        return k @ weights[0], [k], None
    a, slope = inner_ops.activate(k @ weights[0], activation)
    a = _ones(a, weights[1])
    return a @ weights[1], [k, a], slope


def writes(descent: Tensor, weights: Weights, slope: Tensor | None) -> list[Tensor]:
    """Right factor of every layer's outer product, from ``descent`` (..., Q, V) = - step * gradient at the output."""
    if slope is None:
        return [descent]
    return [inner_ops.through(descent, weights[1], slope), descent]


def read(
    q: Tensor,
    kappa: Tensor,
    weights: Weights,
    momenta: Weights | None,
    lefts: Weights,
    rights: Weights,
    activation: str,
) -> Tensor:
    """Run the regressor with the weights of each token.

    Args:
        q: (..., Q, K). kappa: (..., Q, P + C).
        weights, momenta: of the start of the chunk, per layer; momenta None without momentum.
        lefts, rights: (..., C, *) per layer.

    Returns:
        (..., Q, V).
    """
    x = q
    for layer, W in enumerate(weights):
        if layer:
            x = _ones(F.gelu(x) if activation == "gelu" else F.silu(x), W)
        x = inner_ops.mix(x, kappa, W, None if momenta is None else momenta[layer], lefts[layer], rights[layer])
    return x


def combine(
    kappa: Tensor, mu: Tensor | None, weights: Weights, momenta: Weights | None, lefts: Weights, rights: Weights
) -> tuple[list[Tensor], list[Tensor]]:
    """Form weights and momenta (..., K, V) of every layer for the coefficients of one token.

    Args:
        kappa: (..., P + C). mu: (..., 1 + C) or None.

    Returns:
        The weights, and the momenta, an empty list without momentum.
    """
    formed, carried = [], []
    for layer, W in enumerate(weights):
        Z = None if momenta is None else momenta[layer]
        new, new_momentum = inner_ops.form(kappa, mu, W, Z, lefts[layer], rights[layer])
        formed.append(new)
        if new_momentum is not None:
            carried.append(new_momentum)
    return formed, carried


def _ones(a: Tensor, weight: Tensor) -> Tensor:
    """Append a column of ones where the next layer has a row for it."""
    return a if a.shape[-1] == weight.shape[-2] else F.pad(a, (0, 1), value=1.0)


def decays(log_gate: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Return products of gates (..., C) given as logarithms: of those after s up to t, of all up to t.

    (..., C, C), 0 for s > t and where s is ``held``; and (..., C, 1).
    """
    C = log_gate.shape[-1]
    total = log_gate.to(torch.float64).cumsum(-1).unsqueeze(-1)
    unseen = torch.ones(C, C, dtype=torch.bool, device=log_gate.device).triu(1) | held.unsqueeze(-2)
    between = (total - total.transpose(-1, -2)).to(log_gate.dtype)
    return between.masked_fill(unseen, -torch.inf).exp(), total.to(log_gate.dtype).exp()
