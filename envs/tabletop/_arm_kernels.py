"""Compiled kinematics of the arm (numba): forward, and one step of damped least squares towards a pose, per row.

The chain is seven hinges about their local z axes. Arrays of the chain: ``offsets`` (8, 3) and ``turns`` (8, 3, 3)
float64 place each link in the one before it, the last entry is the tool in the hand.
"""

from __future__ import annotations

import numpy as np
from numba import njit

DAMPING = 0.02
"""lambda of (J J^T + lambda^2 1)."""
POSTURE = 0.1
"""Gain of the pull towards the home posture inside the null space."""


@njit(cache=True, nogil=True)
def _multiply(a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    for i in range(3):
        for j in range(3):
            out[i, j] = a[i, 0] * b[0, j] + a[i, 1] * b[1, j] + a[i, 2] * b[2, j]


@njit(cache=True, nogil=True)
def _chain(
    q: np.ndarray, offsets: np.ndarray, turns: np.ndarray, origins: np.ndarray, axes: np.ndarray, turn: np.ndarray
) -> None:
    """Write the origins (8, 3) and z axes (8, 3) of the seven links and the tool, and the tool's rotation (3, 3)."""
    rotation, placed, spin = np.eye(3), np.empty((3, 3)), np.eye(3)
    x = y = z = 0.0
    for i in range(8):
        dx, dy, dz = offsets[i]
        x += rotation[0, 0] * dx + rotation[0, 1] * dy + rotation[0, 2] * dz
        y += rotation[1, 0] * dx + rotation[1, 1] * dy + rotation[1, 2] * dz
        z += rotation[2, 0] * dx + rotation[2, 1] * dy + rotation[2, 2] * dz
        origins[i, 0], origins[i, 1], origins[i, 2] = x, y, z
        _multiply(rotation, turns[i], placed)
        for j in range(3):
            axes[i, j] = placed[j, 2]
        if i < 7:
            c, s = np.cos(q[i]), np.sin(q[i])
            spin[0, 0], spin[0, 1], spin[1, 0], spin[1, 1] = c, -s, s, c
            _multiply(placed, spin, rotation)
        else:
            turn[:] = placed


@njit(cache=True, nogil=True)
def forward(
    joints: np.ndarray, offsets: np.ndarray, turns: np.ndarray, positions: np.ndarray, rotations: np.ndarray
) -> None:
    """Write the tool's positions (N, 3) and rotations (N, 3, 3) for joints (N, >= 7)."""
    origins, axes = np.empty((8, 3)), np.empty((8, 3))
    for row in range(len(joints)):
        _chain(joints[row], offsets, turns, origins, axes, rotations[row])
        positions[row] = origins[7]


@njit(cache=True, nogil=True)
def _solve(a: np.ndarray, b: np.ndarray) -> None:
    """Solve a x = b in place for a positive definite ``a`` (6, 6) by Cholesky; ``b`` (6,) becomes x."""
    for j in range(6):
        for k in range(j):
            a[j, j] -= a[j, k] * a[j, k]
        a[j, j] = np.sqrt(a[j, j])
        for i in range(j + 1, 6):
            for k in range(j):
                a[i, j] -= a[i, k] * a[j, k]
            a[i, j] /= a[j, j]
    for i in range(6):
        for k in range(i):
            b[i] -= a[i, k] * b[k]
        b[i] /= a[i, i]
    for i in range(5, -1, -1):
        for k in range(i + 1, 6):
            b[i] -= a[k, i] * b[k]
        b[i] /= a[i, i]


@njit(cache=True, nogil=True)
def track(
    joints: np.ndarray,
    active: np.ndarray,
    positions: np.ndarray,
    rotations: np.ndarray,
    limits: np.ndarray,
    home: np.ndarray,
    offsets: np.ndarray,
    turns: np.ndarray,
    iterations: int,
    stride: float,
) -> None:
    """Move commanded ``joints`` (N, 7) of ``active`` (N,) rows towards tool poses, in place.

    One iteration is dq = z + J^T (J J^T + lambda^2 1)^-1 (e - J z), with e the position error (metres) and rotation
    error (half the sum of cross products of the axes), and z the pull towards ``home`` (7,). The sum over
    ``iterations`` is kept within ``stride`` radians per joint and within ``limits`` (7, 2).
    """
    origins, axes, turn = np.empty((8, 3)), np.empty((8, 3)), np.empty((3, 3))
    jacobian, gram, error, start = np.empty((6, 7)), np.empty((6, 6)), np.empty(6), np.empty(7)
    for row in range(len(joints)):
        if not active[row]:
            continue
        q = joints[row]
        start[:] = q
        for _ in range(iterations):
            _chain(q, offsets, turns, origins, axes, turn)
            for i in range(7):
                ax, ay, az = axes[i]
                rx, ry, rz = origins[7] - origins[i]
                jacobian[0, i], jacobian[1, i], jacobian[2, i] = ay * rz - az * ry, az * rx - ax * rz, ax * ry - ay * rx
                jacobian[3, i], jacobian[4, i], jacobian[5, i] = ax, ay, az
            for j in range(3):
                error[j] = positions[row, j] - origins[7, j]
                error[3 + j] = 0.0
            for j in range(3):
                a, b = turn[:, j], rotations[row, :, j]
                error[3] += 0.5 * (a[1] * b[2] - a[2] * b[1])
                error[4] += 0.5 * (a[2] * b[0] - a[0] * b[2])
                error[5] += 0.5 * (a[0] * b[1] - a[1] * b[0])
            for i in range(6):
                for k in range(7):
                    error[i] -= jacobian[i, k] * POSTURE * (home[k] - q[k])
                for j in range(6):
                    gram[i, j] = DAMPING * DAMPING if i == j else 0.0
                    for k in range(7):
                        gram[i, j] += jacobian[i, k] * jacobian[j, k]
            _solve(gram, error)
            for k in range(7):
                change = POSTURE * (home[k] - q[k])
                for i in range(6):
                    change += jacobian[i, k] * error[i]
                moved = min(max(q[k] + change, start[k] - stride), start[k] + stride)
                q[k] = min(max(moved, limits[k, 0]), limits[k, 1])


@njit(cache=True, nogil=True)
def turn(rotations: np.ndarray, angles: np.ndarray, active: np.ndarray) -> None:
    """Turn ``rotations`` (N, 3, 3) of ``active`` rows by rotation vectors ``angles`` (N, 3) in the world, in place."""
    step, old = np.empty((3, 3)), np.empty((3, 3))
    for row in range(len(rotations)):
        if not active[row]:
            continue
        x, y, z = angles[row]
        angle = np.sqrt(x * x + y * y + z * z)
        if angle < 1e-12:
            continue
        x, y, z = x / angle, y / angle, z / angle
        c, s = np.cos(angle), np.sin(angle)
        v = 1.0 - c
        step[0, 0], step[0, 1], step[0, 2] = c + x * x * v, x * y * v - z * s, x * z * v + y * s
        step[1, 0], step[1, 1], step[1, 2] = y * x * v + z * s, c + y * y * v, y * z * v - x * s
        step[2, 0], step[2, 1], step[2, 2] = z * x * v - y * s, z * y * v + x * s, c + z * z * v
        old[:] = rotations[row]
        _multiply(step, old, rotations[row])
