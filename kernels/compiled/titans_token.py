"""What stands before and after `titans_mlp_step`: projections to a token, and what was read to the output's input.

    y = w_0 x + s_0,  s_j <- w_{j+1} x + s_{j+1}                      short convolution, its state s
    q, k, v = unit(silu(y)) per head;  of an attention beside the memory y itself
    theta = max_rate sigmoid(-m) sigmoid(r),  1 - alpha = sigmoid(-f),  eta = sigmoid(m)

Cost: one pass over the projections, against some 40 torch calls. Single thread. Limits: as `titans_mlp_step`.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_jit = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})


@_jit
def _sigmoid(x: float) -> float:
    # an exponential that overflows is inf, and the result 0
    return 1.0 / (1.0 + math.exp(-x))


@_jit
def _unit(x: np.ndarray, floor: float) -> None:
    """Scale x (d,) to length 1, or by ``1 / floor`` where it is shorter."""
    total = x.dtype.type(0.0)
    for i in range(len(x)):
        total += x[i] * x[i]
    # not max(): a NaN must stay one
    norm = math.sqrt(total)
    scale = x.dtype.type(floor if norm < floor else norm)
    for i in range(len(x)):
        x[i] /= scale


@_jit
def titans_token(
    projected: np.ndarray,
    taps: np.ndarray,
    carried: np.ndarray,
    opens: np.ndarray,
    max_rate: float,
    floor: float,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    gates: np.ndarray,
) -> None:
    """Turn projections into a token; ``carried`` is changed in place.

    Args:
        projected: (n, F), the columns of q, k, v per head first, the 3 H gates last.
        taps: (t, C). carried: (n, t - 1, C), of the convolution; t = 1 for none.
        opens: (n,) bool, True where an episode begins: nothing is forgotten there.
        max_rate: of theta. floor: of the length of q, k, v.
        q, k: (n, P H, K), written. v: (n, P H, V), written; P = 2 with an attention beside the memory.
        gates: (3, n, H), written: theta, 1 - alpha, eta.
    """
    n, F = projected.shape
    total, K, V, H = q.shape[1], q.shape[2], v.shape[2], gates.shape[2]
    back = carried.shape[1]
    one, zero = q.dtype.type(1.0), q.dtype.type(0.0)
    for row in range(n):
        column = 0
        for head in range(total):
            for part in range(3):
                into = q[row, head] if part == 0 else k[row, head] if part == 1 else v[row, head]
                for i in range(V if part == 2 else K):
                    x = projected[row, column]
                    y = x
                    if back:
                        y = x * taps[0, column] + carried[row, 0, column]
                        for j in range(back):
                            later = carried[row, j + 1, column] if j + 1 < back else zero
                            carried[row, j, column] = x * taps[j + 1, column] + later
                    into[i] = y * _sigmoid(y) if head < H else y
                    column += 1
                if head < H:
                    _unit(into, floor)
        for head in range(H):
            rate, forget = projected[row, F - 3 * H + head], projected[row, F - 2 * H + head]
            keep = projected[row, F - H + head]
            gates[0, row, head] = max_rate * _sigmoid(-keep) * _sigmoid(rate)
            gates[1, row, head] = one if opens[row] else _sigmoid(-forget)
            gates[2, row, head] = _sigmoid(keep)


@_jit
def titans_read(o: np.ndarray, gate: np.ndarray, floor: float, read: np.ndarray) -> None:
    """Normalise and gate what was read; ``o`` is changed.

    Args:
        o: (n, P H, V): of the memory and, with P = 2, of the attention beside it, which the memory then gates.
        gate: (n, H V), the gate where P = 1; else not looked at.
        floor: of the length of what a head read.
        read: (n, H V), written.
    """
    n, total, V = o.shape
    H = read.shape[1] // V
    length = o.dtype.type(math.sqrt(V))
    for row in range(n):
        for head in range(total):
            _unit(o[row, head], floor)
        for head in range(H):
            for i in range(V):
                by = o[row, head, i] * length if total > H else gate[row, head * V + i]
                value = o[row, H + head, i] if total > H else o[row, head, i]
                read[row, head * V + i] = value * length * by * _sigmoid(by)
