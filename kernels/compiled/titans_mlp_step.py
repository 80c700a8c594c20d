"""One token of a Titans memory with a two-layer regressor, all rows and heads in one compiled loop.

Per row and head, with the weights W, momenta Z of the boundary and the ring of outer products since (`inner_loop`):

    a = act(k W1),  d = - theta' 2 (a W2 - v),  theta' = theta / sqrt(1 + |2 (a W2 - v)|^2 / clip^2)
    slot p of the ring:  left1 = k, right1 = (d W2^T) * act'(k W1), left2 = a, right2 = d
    mu    <- (mu of slots < p) * eta + slot p,   kappa <- (kappa of slots < p) * (1 - alpha) + mu
    x W_t = kappa_W x W + kappa_Z x Z + sum_s kappa_s (x . left_s) right_s,    o = act(q W1_t) W2_t
    at the boundary (p = C - 1):  W, Z <- W_t, Z_t,  ring <- 0,  kappa = mu = (1, 0, ..)

Cost: 7 K h + O(C (K + h)) multiply-adds, every weight read once from memory, against some 110 torch calls. Single
thread. Limits: float32 and float64; every array C-contiguous; no gradient.
"""

from __future__ import annotations

import math

import numba
import numpy as np

# sums may be reordered and fused; NaN and inf keep their meaning
_jit = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})

GELU, SILU = 0, 1


@_jit
def _activate(kind: int, x: np.ndarray, a: np.ndarray, slope: np.ndarray) -> None:
    """Write the activation of x (h,) and its slope."""
    of = x.dtype.type
    one, half = of(1.0), of(0.5)
    if kind == GELU:
        root, density = of(math.sqrt(0.5)), of(1.0 / math.sqrt(2.0 * math.pi))
        for j in range(len(x)):
            share = half * (one + math.erf(x[j] * root))
            a[j] = x[j] * share
            slope[j] = share + x[j] * density * math.exp(-half * x[j] * x[j])
    else:
        for j in range(len(x)):
            gate = one / (one + math.exp(-x[j]))
            a[j] = x[j] * gate
            slope[j] = gate * (one + x[j] * (one - gate))


@_jit
def _activation(kind: int, x: np.ndarray) -> None:
    """Replace x (h,) by its activation."""
    of = x.dtype.type
    one, half = of(1.0), of(0.5)
    if kind == GELU:
        root = of(math.sqrt(0.5))
        for j in range(len(x)):
            x[j] *= half * (one + math.erf(x[j] * root))
    else:
        for j in range(len(x)):
            x[j] *= one / (one + math.exp(-x[j]))


@_jit
def _dot(x: np.ndarray, y: np.ndarray) -> float:
    total = x.dtype.type(0.0)
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@_jit
def _form(W: np.ndarray, Z: np.ndarray, left: np.ndarray, right: np.ndarray, kappa: np.ndarray, mu: np.ndarray) -> None:
    """Replace W and Z (a, b) by those of the boundary; left (C, a), right (C, b), kappa (2 + C,), mu (1 + C,)."""
    kept, carried, moved = kappa[0], kappa[1], mu[0]
    for i in range(W.shape[0]):
        for j in range(W.shape[1]):
            W[i, j] = kept * W[i, j] + carried * Z[i, j]
            Z[i, j] *= moved
        for s in range(len(left)):
            to_weight, to_momentum = kappa[2 + s] * left[s, i], mu[1 + s] * left[s, i]
            for j in range(W.shape[1]):
                W[i, j] += to_weight * right[s, j]
                Z[i, j] += to_momentum * right[s, j]


@_jit
def titans_mlp_step(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    theta: np.ndarray,
    keep: np.ndarray,
    momentum: np.ndarray,
    W1: np.ndarray,
    Z1: np.ndarray,
    W2: np.ndarray,
    Z2: np.ndarray,
    left1: np.ndarray,
    right1: np.ndarray,
    left2: np.ndarray,
    right2: np.ndarray,
    kappa: np.ndarray,
    mu: np.ndarray,
    phase: np.ndarray,
    scale: float,
    kind: int,
    o: np.ndarray,
) -> None:
    """Advance every row by one token; the state is changed in place.

    Args:
        q, k: (n, H or more, K). v: (n, H or more, V); the first H heads are meant.
        theta, keep, momentum: (n, H) step size, 1 - alpha, eta.
        W1, Z1: (n, H, K, h). W2, Z2: (n, H, h, V).
        left1: (n, H, C, K). right1, left2: (n, H, C, h). right2: (n, H, C, V).
        kappa: (n, H, 2 + C). mu: (n, H, 1 + C).
        phase: (n,) int64 slots taken, 0 .. C - 1.
        scale: 1 / clip^2, 0 for no clipping.
        kind: `GELU` or `SILU`.
        o: (n, H or more, V), written in the first H heads: what the token reads.
    """
    n, H, K, h = W1.shape
    V, C = v.shape[2], left1.shape[2]
    of = q.dtype.type
    zero, one, two, strength = of(0.0), of(1.0), of(2.0), of(scale)
    pre, asked = np.empty(h, q.dtype), np.empty(h, q.dtype)
    for row in range(n):
        p = phase[row]
        for head in range(H):
            w1, z1, w2, z2 = W1[row, head], Z1[row, head], W2[row, head], Z2[row, head]
            key, query, kap, m = k[row, head], q[row, head], kappa[row, head], mu[row, head]
            lefts1, rights1, lefts2, rights2 = left1[row, head], right1[row, head], left2[row, head], right2[row, head]
            a, slope, d, out = lefts2[p], rights1[p], rights2[p], o[row, head]
            # coefficients; slots from p on are free
            for s in range(p + 1):
                m[s] *= momentum[row, head]
            m[1 + p] = one
            for s in range(p + 2):
                kap[s] *= keep[row, head]
            kap[2 + p] = zero
            for s in range(p + 2):
                kap[1 + s] += m[s]
            # first layer: the key through the weights of the boundary, the query through those of the token
            for j in range(h):
                pre[j] = asked[j] = zero
            for i in range(K):
                lefts1[p, i] = key[i]
                x, kept, carried = key[i], kap[0] * query[i], kap[1] * query[i]
                for j in range(h):
                    pre[j] += x * w1[i, j]
                    asked[j] += kept * w1[i, j] + carried * z1[i, j]
            _activate(kind, pre, a, slope)
            # error and descent at the output, through the second layer
            for j in range(V):
                d[j] = -v[row, head, j]
            for i in range(h):
                for j in range(V):
                    d[j] += a[i] * w2[i, j]
            step = -two * theta[row, head]
            if strength > zero:
                step /= math.sqrt(one + of(4.0) * strength * _dot(d, d))
            for j in range(V):
                d[j] *= step
            for i in range(h):
                slope[i] *= _dot(d, w2[i])
            for s in range(p + 1):
                x = kap[2 + s] * _dot(query, lefts1[s])
                for j in range(h):
                    asked[j] += x * rights1[s, j]
            _activation(kind, asked)
            # second layer
            for j in range(V):
                out[j] = zero
            for i in range(h):
                kept, carried = kap[0] * asked[i], kap[1] * asked[i]
                for j in range(V):
                    out[j] += kept * w2[i, j] + carried * z2[i, j]
            for s in range(p + 1):
                x = kap[2 + s] * _dot(asked, lefts2[s])
                for j in range(V):
                    out[j] += x * rights2[s, j]
            if p == C - 1:
                _form(w1, z1, lefts1, rights1, kap, m)
                _form(w2, z2, lefts2, rights2, kap, m)
                for part in (lefts1, rights1, lefts2, rights2):
                    part[:] = zero
                kap[:] = zero
                m[:] = zero
                kap[0] = m[0] = one
        phase[row] = 0 if p == C - 1 else p + 1
