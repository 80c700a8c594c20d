"""Events of a stream by surprise, and the refinement of their boundaries.

    surprise    s_t = 1 - cos(x_t, mean),  mean the moving average of the event
    boundary    s_t > mu + gamma sigma over the last ``window`` surprises, and s_t > floor;
                events have ``min_len`` to ``max_len`` frames

EM-LLM (Fountas et al. 2024, arXiv 2407.09450), with the error of predicting no change in place of a language model's
likelihood. ``floor`` keeps the noise of a still picture from opening events. A boundary b between the events
[a, b) and [b, c) is refined by modularity or conductance of the similarities of frames: with sums of the similarity
matrix over prefixes every candidate costs O(1) instead of O(L^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.memory import check_at_least

_EPS = 1e-8
Refine = Literal["none", "modularity", "conductance"]


@dataclass(frozen=True)
class SurpriseConfig:
    """What opens an event."""

    gamma: float = 1.0
    """Standard deviations above the mean surprise."""
    window: int = 64
    """Surprises that mean and deviation are taken over."""
    min_len: int = 8
    """Shortest event, frames."""
    max_len: int = 128
    """Longest event, frames."""
    smoothing: float = 0.5
    """Weight of the newest frame in the prediction."""
    floor: float = 0.1
    """Least surprise of a boundary."""

    def __post_init__(self) -> None:
        check_at_least(self, gamma=0.0, window=2, min_len=1, floor=0.0)
        if self.max_len < self.min_len or not 0 < self.smoothing <= 1:
            raise UsageError(
                f"expected max_len >= min_len = {self.min_len} and 0 < smoothing <= 1, "
                f"got {self.max_len} and {self.smoothing}"
            )


class SurpriseSegmenter:
    """Tells frame by frame whether an event opens; its state is the dict of arrays ``state``."""

    def __init__(self, config: SurpriseConfig) -> None:
        self.config = config
        self.state: dict[str, np.ndarray] = {}

    def state_bytes(self, width: int) -> int:
        """Return the bytes of the state for features of this width."""
        return 4 * width + 8 * self.config.window + 16

    def opens(self, x: np.ndarray) -> bool:
        """Return whether the frame with features ``x`` (D,) float32 opens an event; the first one does."""
        c = self.config
        if not self.state:
            self.state = {"mean": x.copy(), "past": np.zeros(c.window), "count": np.array([1, 0])}
            return True
        mean, past, (length, known) = self.state["mean"], self.state["past"], self.state["count"].tolist()
        surprise = 1 - float(x @ mean) / (float(np.linalg.norm(x) * np.linalg.norm(mean)) + _EPS)
        seen = past[: min(known, c.window)]
        surprised = known > 1 and surprise > max(seen.mean() + c.gamma * seen.std(), c.floor)
        boundary = (surprised and length >= c.min_len) or length >= c.max_len
        past = past.copy()
        past[known % c.window] = surprise
        self.state = {
            "mean": x.copy() if boundary else (mean + np.float32(c.smoothing) * (x - mean)),
            "past": past,
            "count": np.array([1 if boundary else length + 1, known + 1]),
        }
        return bool(boundary)


def refined(features: np.ndarray, start: int, boundary: int, min_len: int, method: Refine) -> int:
    """Return a better place for one boundary.

    The window is the event and half its length after it. Candidates leave ``min_len`` frames to the event and to what
    follows. The source also takes half an event before it, by which the best cut in two is often the boundary before
    (6 of 20 boundaries put back instead of 20), and looks for cuts to the left only.

    Args:
        features: (T, D) float32.
        start: where the event before the boundary opens.
        boundary: first frame of the next event, start < boundary < T.
        min_len: shortest event.
        method: "modularity" (greatest), "conductance" (least), or "none".

    Returns:
        first frame of the next event.
    """
    if method == "none":
        return boundary
    half = max((boundary - start) // 2, 1)
    low, high = start, min(boundary + half, len(features))
    rows = features[low:high].astype(np.float64)
    weights = np.clip(rows @ rows.T, 0, None)
    candidates = np.arange(start + min_len, min(len(features) - min_len, high - 1) + 1)
    if len(candidates) == 0:
        return boundary
    scores = split_scores(weights, candidates - low, method)
    # of equal scores the one nearest to the boundary
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return int(candidates[best[np.argmin(np.abs(candidates[best] - boundary))]])


def split_scores(weights: np.ndarray, splits: np.ndarray, method: Refine) -> np.ndarray:
    """Return how good it is to cut before each of ``splits``, greater is better, (C,) float64.

    Args:
        weights: (L, L) symmetric, >= 0.
        splits: (C,) int, 0 < split < L.
        method: "modularity" Q = sum_c [in_c / 2m - (vol_c / 2m)^2], or "conductance" -cut / min(vol).
    """
    size = len(weights)
    sums = np.zeros((size + 1, size + 1))
    sums[1:, 1:] = weights.cumsum(0).cumsum(1)
    total = sums[size, size]
    if total <= 0:
        return np.zeros(len(splits))
    left, volume = sums[splits, splits], sums[splits, size]
    cut = volume - left
    if method == "conductance":
        return -cut / np.maximum(np.minimum(volume, total - volume), _EPS)
    inside = (left + (total - volume - cut)) / total
    return inside - (volume / total) ** 2 - ((total - volume) / total) ** 2
