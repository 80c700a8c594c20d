"""One token of attention over a short window and persistent tokens, all rows and heads in one compiled loop.

Per row the shift register takes in the token, then per head, over the persistent items p and the last ``fill`` tokens,
``o = softmax([q k_p, q k_a - slope a] / ..) [v_p, v_a]`` with a the age and q scaled by 1 / sqrt K.

Cost: the shift and one pass over the window, against some 40 torch calls. Single thread. Limits: as `titans_mlp_step`.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_jit
def window_step(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    first: int,
    keys: np.ndarray,
    values: np.ndarray,
    fill: np.ndarray,
    slope_log: np.ndarray,
    always_keys: np.ndarray,
    always_values: np.ndarray,
    o: np.ndarray,
) -> None:
    """Take in one token per row and read; keys, values and fill are changed in place.

    Args:
        q, k: (n, first + H, K). v: (n, first + H, V); the heads from ``first`` on are meant.
        keys: (n, S, H, K). values: (n, S, H, V), oldest first.
        fill: (n,) int64 tokens held.
        slope_log: (H,).
        always_keys: (H, P, K). always_values: (H, P, V).
        o: (n, first + H, V), written in the heads from ``first`` on.
    """
    n, S, H, K = keys.shape
    V, P = values.shape[3], always_keys.shape[1]
    of = q.dtype.type
    scale, zero = of(1.0 / math.sqrt(K)), of(0.0)
    weight = np.empty(P + S, q.dtype)
    for row in range(n):
        for place in range(S - 1):
            keys[row, place] = keys[row, place + 1]
            values[row, place] = values[row, place + 1]
        for head in range(H):
            for i in range(K):
                keys[row, S - 1, head, i] = k[row, first + head, i]
            for i in range(V):
                values[row, S - 1, head, i] = v[row, first + head, i]
        held = min(fill[row] + 1, S)
        fill[row] = held
        for head in range(H):
            query, out = q[row, first + head], o[row, first + head]
            slope = math.exp(slope_log[head])
            for p in range(P):
                score = zero
                for i in range(K):
                    score += query[i] * always_keys[head, p, i]
                weight[p] = score * scale
            for age in range(held):
                score = zero
                for i in range(K):
                    score += query[i] * keys[row, S - 1 - age, head, i]
                weight[P + age] = score * scale - slope * of(age)
            top = weight[0]
            for j in range(1, P + held):
                top = max(top, weight[j])
            total = zero
            for j in range(P + held):
                weight[j] = math.exp(weight[j] - top)
                total += weight[j]
            for i in range(V):
                out[i] = zero
            for p in range(P):
                for i in range(V):
                    out[i] += weight[p] * always_values[head, p, i]
            for age in range(held):
                for i in range(V):
                    out[i] += weight[P + age] * values[row, S - 1 - age, head, i]
            for i in range(V):
                out[i] /= total
