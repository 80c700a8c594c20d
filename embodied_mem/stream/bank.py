"""A bank of keys and values with a working and a long-term part, consolidated by how much each element was used.

    similarity     S_ij = -s_i sum_c e_cj (k_ci - q_cj)^2 / sqrt(C)
    read           softmax over the ``top_k`` elements of each query, long-term and working together
    usage          use_i += sum_j W_ij,  life_i += 1 at every read;  u_i = use_i / life_i
    consolidation  at ``work_max`` frames all but the first and the newest ``work_min - 1`` are candidates; the
                   ``protos`` of the highest u become long-term elements whose values (and s) are softmax(S) means over
                   all candidates; the candidates leave
    eviction       before that, the long-term elements of the lowest u leave until the prototypes fit

XMem (Cheng & Schwing 2022, arXiv 2207.07115). Values may hold several objects (G); an object that comes later is not
valid in elements written before it, and is read from valid elements only. Exactly as many elements leave as must, the
oldest of equal ones first; the softmax subtracts the maximum, so that far keys give finite values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.memory import check_at_least

Part = dict[str, np.ndarray]
_BORN = 1e-7


@dataclass(frozen=True)
class BankConfig:
    """Sizes of the bank."""

    work_max: int = 10
    """Frames in the working part at which it is consolidated."""
    work_min: int = 5
    """Frames that stay: the first and the newest."""
    protos: int = 16
    """Elements that a consolidation adds to the long-term part."""
    lt_max: int = 512
    """Elements of the long-term part at most."""
    top_k: int = 30
    """Elements that a query reads."""

    def __post_init__(self) -> None:
        check_at_least(self, work_min=1, protos=1, top_k=1, lt_max=self.protos)
        if self.work_max <= self.work_min:
            raise UsageError(f"expected work_max > work_min = {self.work_min}, got {self.work_max}")


def similarity(k: np.ndarray, s: np.ndarray, q: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Return S (N, M) float64.

    Args:
        k: keys (N, C).
        s: shrinkage (N,), >= 1.
        q: queries (M, C).
        e: selection (M, C), 0..1.
    """
    k, q, e = k.astype(np.float64), q.astype(np.float64), e.astype(np.float64)
    square = (k**2) @ e.T - 2 * k @ (q * e).T + (e * q**2).sum(1)
    return -s[:, None] * np.maximum(square, 0) / np.sqrt(k.shape[1])


def top_softmax(scores: np.ndarray, top_k: int) -> np.ndarray:
    """Return weights (N, M): softmax over the ``top_k`` rows of every column, 0 elsewhere."""
    keep = min(top_k, len(scores))
    if keep < len(scores):
        edge = np.argpartition(-scores, keep - 1, axis=0)[:keep]
        masked = np.full_like(scores, -np.inf)
        np.put_along_axis(masked, edge, np.take_along_axis(scores, edge, 0), 0)
        scores = masked
    weights = np.exp(scores - scores.max(0))
    return weights / weights.sum(0)


class AtkinsonShiffrinBank:
    """Working and long-term elements; arrays are replaced, never written into."""

    def __init__(self, config: BankConfig) -> None:
        self.config = config
        self.work: Part = {}
        self.long: Part = {}

    def read(self, q: np.ndarray, e: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return what the queries recall, and count the usage.

        Args:
            q: (M, C) float.
            e: selection (M, C), None for ones.

        Returns:
            readout (M, G, V) float64, 0 for an object that no element of the query's top-k holds; weights (N, M) over
            [long-term | working].

        Raises:
            UsageError: nothing was written yet.
        """
        if not self.work:
            raise UsageError("expected at least one write before a read")
        parts = [part for part in (self.long, self.work) if part]
        groups = self.work["value"].shape[1]
        keys, shrink = (np.concatenate([part[name] for part in parts]) for name in ("key", "shrink"))
        weights = top_softmax(similarity(keys, shrink, q, np.ones_like(q) if e is None else e), self.config.top_k)
        values = np.concatenate([_widen(part["value"], groups) for part in parts]).astype(np.float64)
        valid = np.concatenate([_widen(part["valid"], groups) for part in parts])
        shares = np.einsum("nm,ng->mg", weights, valid.astype(np.float64))
        readout = np.einsum("nm,ng,ngv->mgv", weights, valid, values) / np.where(shares > 0, shares, 1)[..., None]
        start = 0
        for part in parts:
            count = len(part["use"])
            part["use"] = part["use"] + weights[start : start + count].sum(1)
            part["life"] = part["life"] + 1
            start += count
        return readout, weights

    def write(
        self,
        k: np.ndarray,
        v: np.ndarray,
        frame: int,
        s: np.ndarray | None = None,
        e: np.ndarray | None = None,
        valid: np.ndarray | None = None,
    ) -> bool:
        """Add the elements of one frame; consolidate when the working part is full.

        Args:
            k: keys (HW, C) float.
            v: values (HW, G, V) float; G may grow from frame to frame.
            frame: number of the frame.
            s: shrinkage (HW,), None for ones.
            e: selection (HW, C), None for ones.
            valid: (G,) bool, which objects are in the frame; None for all.

        Returns:
            whether it was consolidated.
        """
        count, groups = len(k), v.shape[1]
        new: Part = {
            "key": k.astype(np.float32),
            "shrink": np.ones(count) if s is None else s.astype(np.float64),
            "select": np.ones_like(k, np.float32) if e is None else e.astype(np.float32),
            "value": v.astype(np.float32),
            "valid": np.tile(np.ones(groups, bool) if valid is None else valid, (count, 1)),
            "use": np.zeros(count),
            "life": np.full(count, _BORN),
            "frame": np.full(count, frame, np.int64),
            "token": np.arange(count, dtype=np.int64),
        }
        self.work = _joined(self.work, new)
        if self.frames < self.config.work_max:
            return False
        self._consolidate()
        return True

    @property
    def frames(self) -> int:
        """Frames in the working part."""
        return len(np.unique(self.work["frame"])) if self.work else 0

    def _consolidate(self) -> None:
        c, frames = self.config, np.unique(self.work["frame"])
        stays = np.isin(self.work["frame"], [frames[0], *frames[len(frames) - c.work_min + 1 :]])
        candidates = {name: array[~stays] for name, array in self.work.items()}
        self.work = {name: array[stays] for name, array in self.work.items()}
        best = _most_used(candidates, min(c.protos, len(candidates["use"])))
        weights = top_softmax(
            similarity(candidates["key"], candidates["shrink"], candidates["key"][best], candidates["select"][best]),
            len(candidates["key"]),
        )
        shares = np.einsum("nm,ng->mg", weights, candidates["valid"].astype(np.float64))
        mixed = np.einsum("nm,ng,ngv->mgv", weights, candidates["valid"], candidates["value"].astype(np.float64))
        protos = {name: candidates[name][best] for name in ("key", "frame", "token")}
        protos["value"] = (mixed / np.where(shares > 0, shares, 1)[..., None]).astype(np.float32)
        protos["valid"] = shares > 0
        protos["shrink"] = weights.T @ candidates["shrink"]
        protos["use"], protos["life"] = np.zeros(len(best)), np.full(len(best), _BORN)
        if self.long and len(self.long["use"]) + len(best) > c.lt_max:
            kept = np.sort(_most_used(self.long, c.lt_max - len(best)))
            self.long = {name: array[kept] for name, array in self.long.items()}
        self.long = _joined(self.long, protos)


def _most_used(part: Part, count: int) -> np.ndarray:
    """Return ``count`` elements of the highest use per read; of equal ones the newest."""
    usage = part["use"] / part["life"]
    return np.lexsort((-np.arange(len(usage)), -usage))[:count]


def _joined(old: Part, new: Part) -> Part:
    if not old:
        return new
    groups = max(old["value"].shape[1], new["value"].shape[1])
    wide = [{**p, "value": _widen(p["value"], groups), "valid": _widen(p["valid"], groups)} for p in (old, new)]
    return {name: np.concatenate([wide[0][name], wide[1][name]]) for name in new}


def _widen(array: np.ndarray, groups: int) -> np.ndarray:
    """Pad objects (axis 1) with zeros."""
    missing = groups - array.shape[1]
    return np.pad(array, [(0, 0), (0, missing), *[(0, 0)] * (array.ndim - 2)]) if missing > 0 else array
