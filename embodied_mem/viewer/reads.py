"""What each step made of the past, brought to one form: a (T, T) array, row t over the steps s <= t.

Two sources, both recorded by evaluation: ``read_weights`` with ``read_age`` (what a read of the memory weighted, by the
memory itself), and ``influence`` at ``influence_steps`` (gradients, for any memory).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def heats(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what is known, by name; empty where nothing was recorded.

    Names: "attention" ("attention PART" for each part of a memory that has several), "influence".
    """
    total = len(arrays["reward"])
    found = {}
    parts = [name.removesuffix("/weights") for name in arrays if name.startswith("read_") and name.endswith("/weights")]
    for part in parts or ["read"]:
        joint = "/" if parts else "_"
        weights, age = arrays.get(f"{part}{joint}weights"), arrays.get(f"{part}{joint}age")
        if weights is not None and age is not None and weights.shape == age.shape and weights.ndim == 2:
            found[f"attention {part.removeprefix('read_')}" if parts else "attention"] = attention(weights, age, total)
    influence, steps = arrays.get("influence"), arrays.get("influence_steps")
    if influence is not None and steps is not None and len(steps):
        # Decisions in between show what the last one that was analysed before them shows.
        index = np.clip(np.searchsorted(steps, np.arange(total), side="right") - 1, 0, None)
        found["influence"] = np.tril(np.nan_to_num(influence[index, :total]))
    return {name: heat for name, heat in found.items() if heat.max(initial=0.0) > 0.0}


def main_heat(found: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return the one that the map shows: the first attention (episodic where there is one), else the influence."""
    order = ("attention episodic", "attention", *found)
    return next((found[name] for name in order if name in found), None)


def attention(weights: np.ndarray, age: np.ndarray, total: int) -> np.ndarray:
    """Return (T, T) weights by step from weights by slot.

    Args:
        weights: (T, S) float, weight of every slot in the read of step t.
        age: (T, S) float, steps since the slot was written; negative or not finite where it is empty.
        total: T.
    """
    heat = np.zeros((total, total))
    age = np.nan_to_num(age.astype(float), nan=-1.0, posinf=-1.0, neginf=-1.0)
    for step in range(min(total, len(weights))):
        source = step - np.rint(age[step]).astype(int)
        valid = (age[step] >= 0) & (source >= 0)
        np.add.at(heat[step], source[valid], np.nan_to_num(weights[step][valid].astype(float)))
    return heat


def strongest(heat: np.ndarray, count: int = 6, least: float = 0.04) -> list[list[list[float]]]:
    """Return, for every step, its strongest past steps as [step, share] pairs, strongest first.

    Args:
        heat: (T, T) float.
        count: at most so many.
        least: smallest share of the row's sum that is kept.
    """
    found = []
    for row in heat:
        share = row / max(float(row.sum()), 1e-12)
        order = [int(index) for index in np.argsort(-share)[:count] if share[index] >= least]
        found.append([[index, round(float(share[index]), 3)] for index in order])
    return found
