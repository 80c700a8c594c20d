"""Statistics of features as LeRobot keeps them: min, max, mean, std and count, per episode and for the whole set.

Pictures are measured per channel in [0, 1] with shape (3, 1, 1), on at most `SAMPLED` of an episode's frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SAMPLED = 32
"""Frames of an episode that the statistics of its pictures look at."""

Statistics = dict[str, dict[str, Any]]


def statistics(features: Mapping[str, np.ndarray]) -> Statistics:
    """Return ``{feature: {"min", "max", "mean", "std": nested lists, "count": [T]}}`` of (T, F) or (T, H, W, 3)."""
    found = {}
    for name, values in features.items():
        picture = values.ndim == 4
        if picture:
            step = max(1, -(-len(values) // SAMPLED))
            values = values[::step].astype(np.float64) / 255.0
        axes = (0, 1, 2) if picture else (0,)
        numbers = values.astype(np.float64)
        made = {kind: getattr(numbers, kind)(axis=axes) for kind in ("min", "max", "mean", "std")}
        shaped = {kind: (value[:, None, None] if picture else value).tolist() for kind, value in made.items()}
        found[name] = {**shaped, "count": [len(values)]}
    return found


def merge_statistics(parts: Sequence[Statistics]) -> Statistics:
    """Return the statistics of all episodes together, exactly (means and variances are weighted by counts)."""
    merged = {}
    for name in parts[0]:
        counts = np.array([part[name]["count"][0] for part in parts], np.float64)
        rows = {kind: np.array([part[name][kind] for part in parts]) for kind in ("min", "max", "mean", "std")}
        weights = (counts / counts.sum()).reshape((-1,) + (1,) * (rows["mean"].ndim - 1))
        mean = (weights * rows["mean"]).sum(axis=0)
        variance = (weights * (rows["std"] ** 2 + (rows["mean"] - mean) ** 2)).sum(axis=0)
        merged[name] = {
            "min": rows["min"].min(axis=0).tolist(),
            "max": rows["max"].max(axis=0).tolist(),
            "mean": mean.tolist(),
            "std": np.sqrt(variance).tolist(),
            "count": [int(counts.sum())],
        }
    return merged
