"""Flash memory of streams: a synopsis of merged frames, and one detailed frame for each of its clusters.

    new frame     a cluster of weight 1
    more than K   the pair of clusters with the least  |a - b|^2 (w_a w_b / (w_a + w_b))^alpha  becomes one
    merged        centroid and time weighted means, weights added; keeps the more central of the two detailed frames

Flash-VStream (Zhang et al. 2024, arXiv 2406.08085; 2025, arXiv 2506.23825): the context synopsis is K low-resolution
maps, the details are full-resolution frames near the heaviest clusters. The published streaming code starts k-means
anew from random rows at every frame, by which the synopsis of a long stream becomes a buffer of its last frames; the
default here merges instead, and ``alpha`` moves slots between age (1, Ward) and recency (0). The published rules are
options of ``rule``:

    kmeans           weighted k-means from random rows at every frame (the defect above included)
    adjacent_merge   average the most similar pair of neighbours in time, weights ignored
    adjacent_drop    drop the earlier of the most similar pair of neighbours in time
    pair_merge       average the most similar pair, weights ignored
    pair_drop        drop the earlier of the most similar pair

The first version's abstract memory, M <- (1 - a) M + a softmax(Q K^T / sqrt(h)) X with projections Q, K of M and X, is
kept where ``abstract`` > 0; its projections are random here, since they are learned with the language model.

Weaker than the source: tokens are averaged in groups of neighbours instead of 2x2 patches, and no position codes are
computed (times go with the evidence). Stronger: true constant memory, since only K detailed frames are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes, frozen, joined
from embodied_mem.stream.evidence import Snapshot, by_similarity, spread
from embodied_mem.stream.memory import StreamMemory, check_at_least

Rule = Literal["pairwise", "kmeans", "adjacent_merge", "adjacent_drop", "pair_merge", "pair_drop"]
_HIDDEN = 32


@dataclass(frozen=True)
class FlashVStreamConfig:
    """Sizes and rule of the memory."""

    csm_slots: int = 60
    """Clusters K of the synopsis."""
    dam_slots: int = 30
    """Detailed frames that one read may give."""
    alpha: float = 0.5
    """Exponent of the weights: 0 favours recent frames, 1 old ones."""
    pool: int = 4
    """Tokens averaged into one in the synopsis."""
    rule: Rule = "pairwise"
    """What happens when the synopsis is full."""
    abstract: int = 0
    """Slots of the abstract memory, 0 for none."""
    ratio: float = 0.2
    """How much of the abstract memory a frame replaces."""
    seed: int = 0
    """Of the k-means starts and of the abstract projections."""

    def __post_init__(self) -> None:
        check_at_least(self, csm_slots=2, dam_slots=0, alpha=0.0, pool=1, abstract=0, ratio=0.0, seed=0)
        if self.ratio > 1:
            raise UsageError(f"expected ratio <= 1, got {self.ratio}")


@register(
    "stream_memory",
    "flash_vstream",
    family="compressed",
    source="Flash-VStream: Zhang et al. 2024, arXiv 2406.08085; 2025, arXiv 2506.23825",
    long_term=True,
    small={"csm_slots": 12, "dam_slots": 4, "pool": 2, "abstract": 2},
)
class FlashVStream(StreamMemory):
    """A synopsis of merged frames with a detailed frame per cluster."""

    Config = FlashVStreamConfig

    def start(self) -> None:
        """Begin with an empty synopsis."""
        # `detail[i]` is the frame that stands for cluster `synopsis[i]`
        self.stores = {"synopsis": [], "detail": [], "abstract": []}

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of K clusters, K detailed frames, the distances and the abstract memory."""
        c = self.config
        low = -(-tokens // c.pool)
        clusters = c.csm_slots * (entry_bytes(low, width, 0) + entry_bytes(tokens, width, extra))
        cached = 4 * (c.csm_slots + 1) * low * width + 4 * (c.csm_slots + 1) ** 2
        abstract = entry_bytes(c.abstract, width, 0) + 4 * 2 * _HIDDEN * width if c.abstract else 0
        return clusters + cached + abstract

    def absorb(self, entry: Entry) -> None:
        """Add the frame as a cluster, then make room."""
        low = self._pooled(entry.tokens)
        if not self.cache:
            self._allocate(low.size, entry.tokens.shape[1])
        synopsis, detail = self.stores["synopsis"], self.stores["detail"]
        self._place(len(synopsis), low)
        synopsis.append(replace(entry, tokens=low, rgb=None, text=""))
        detail.append(entry)
        if self.config.abstract:
            self._abstract(entry)
        if len(synopsis) > self.config.csm_slots:
            self._regroup(self._groups(entry.number))

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return abstract memory, synopsis and details, by weight or by similarity; a fifth of a budget is detail."""
        synopsis, detail = snapshot.stores["synopsis"], snapshot.stores["detail"]
        if query is None:
            order = sorted(range(len(synopsis)), key=lambda i: (-synopsis[i].weight, synopsis[i].number))
            frames = [detail[i] for i in order if i < len(detail)]
        else:
            frames = by_similarity(detail, query)
        frames = frames[: self.config.dam_slots]
        in_time = sorted(synopsis, key=lambda e: (e.t, e.number))
        first = list(snapshot.stores["abstract"])
        if budget is None:
            return [*first, *frames, *in_time]
        some = frames[: max(1, budget // (2 * max((len(e.tokens) for e in frames), default=1)))]
        shown = spread(in_time, budget // 2) if query is None else by_similarity(in_time, query)
        return [*some, *first, *shown, *frames[len(some) :]]

    def restored(self) -> None:
        """Compute rows and distances of the clusters again."""
        self.cache = {}
        for index, entry in enumerate(self.stores["synopsis"]):
            if not self.cache:
                self._allocate(entry.tokens.size, entry.tokens.shape[1])
            self._place(index, entry.tokens)

    def _allocate(self, size: int, width: int) -> None:
        rows = self.config.csm_slots + 1
        self.cache = {"rows": np.zeros((rows, size), np.float32), "far": np.full((rows, rows), np.inf, np.float32)}
        if self.config.abstract:
            draw = np.random.default_rng(self.config.seed)
            self.cache["ask"] = (draw.standard_normal((2, width, _HIDDEN)) * width**-0.5).astype(np.float32)

    def _pooled(self, tokens: np.ndarray) -> np.ndarray:
        parts = -(-len(tokens) // self.config.pool)
        if parts == len(tokens):
            # a copy: bytes that two stores share now and not later would not be constant
            return frozen(tokens.copy())
        return frozen(np.stack([part.mean(0) for part in np.array_split(tokens, parts)]))

    def _place(self, index: int, low: np.ndarray) -> None:
        """Put the row of cluster ``index`` and its squared distances to the clusters before it."""
        rows, far = self.cache["rows"], self.cache["far"]
        rows[index] = low.reshape(-1)
        away = rows[:index] - rows[index]
        far[index, :index] = far[:index, index] = np.einsum("kd,kd->k", away, away)

    def _groups(self, number: int) -> list[list[int]]:
        """Return which clusters become one; a cluster in no group is dropped."""
        rule, synopsis, far = self.config.rule, self.stores["synopsis"], self.cache["far"]
        count = len(synopsis)
        if rule == "kmeans":
            weights = np.array([e.weight for e in synopsis])
            draw = np.random.Generator(np.random.Philox(key=self.config.seed, counter=number))
            labels = weighted_kmeans(self.cache["rows"][:count], weights, self.config.csm_slots, draw)
            return [np.flatnonzero(labels == k).tolist() for k in np.unique(labels)]
        if rule.startswith("adjacent"):
            order = sorted(range(count), key=lambda i: (synopsis[i].t, synopsis[i].number))
            nearest = min(range(count - 1), key=lambda k: far[order[k], order[k + 1]])
            pair = [order[nearest], order[nearest + 1]]
        else:
            cost = far
            if rule == "pairwise":
                w = np.array([e.weight for e in synopsis], np.float32)
                cost = far * (w[:, None] * w / (w[:, None] + w)) ** np.float32(self.config.alpha)
            pair = sorted(divmod(int(cost.argmin()), count))
        rest = [[i] for i in range(count) if i not in pair]
        if rule.endswith("drop"):
            later = max(pair, key=lambda i: (synopsis[i].t, synopsis[i].number))
            return [*rest, [later]]
        return [*rest, pair]

    def _regroup(self, groups: list[list[int]]) -> None:
        synopsis, detail = self.stores["synopsis"], self.stores["detail"]
        weighted = self.config.rule in ("pairwise", "kmeans")
        kept = sorted(group[0] for group in groups if len(group) == 1)
        merged = [group for group in groups if len(group) > 1]
        rows, far, count = self.cache["rows"], self.cache["far"], len(kept)
        rows[:count] = rows[kept]
        far[:count, :count] = far[np.ix_(kept, kept)]
        far[count:] = far[:, count:] = np.inf
        clusters, frames = [synopsis[i] for i in kept], [detail[i] for i in kept]
        for group in merged:
            whole = synopsis[group[0]]
            for i in group[1:]:
                whole = joined(whole, synopsis[i], weighted=weighted)
            away = [float(np.square(self._pooled(detail[i].tokens) - whole.tokens).sum()) for i in group]
            self._place(len(clusters), whole.tokens)
            clusters.append(whole)
            frames.append(detail[group[int(np.argmin(away))]])
        self.stores["synopsis"], self.stores["detail"] = clusters, frames

    def _abstract(self, entry: Entry) -> None:
        held = self.stores["abstract"]
        if held:
            tokens = abstract_write(held[0].tokens, entry.tokens, self.cache["ask"], self.config.ratio)
            t0, weight = held[0].t0, held[0].weight + 1
        else:
            first = np.resize(np.arange(len(entry.tokens)), self.config.abstract)
            tokens, t0, weight = entry.tokens[first], entry.t0, 1.0
        self.stores["abstract"] = [Entry(frozen(tokens), t0, entry.t1, entry.t, weight, number=0)]


def abstract_write(memory: np.ndarray, tokens: np.ndarray, ask: np.ndarray, ratio: float) -> np.ndarray:
    """Return (1 - ratio) M + ratio softmax(M Q (X K)^T / sqrt(h)) X.

    Args:
        memory: M (A, D) float32.
        tokens: X (P, D) float32.
        ask: Q and K (2, D, h) float32.
        ratio: share that is replaced, 0..1.
    """
    scores = (memory @ ask[0]) @ (tokens @ ask[1]).T / np.float32(np.sqrt(ask.shape[2]))
    weights = np.exp(scores - scores.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    return np.float32(1 - ratio) * memory + np.float32(ratio) * (weights @ tokens)


def weighted_kmeans(
    rows: np.ndarray, weights: np.ndarray, clusters: int, draw: np.random.Generator, iterations: int = 10
) -> np.ndarray:
    """Return labels (T,) int64 of weighted Lloyd iterations from distinct random rows.

    Args:
        rows: (T, d) float32.
        weights: (T,) float, > 0.
        clusters: at most so many; T <= clusters gives every row its own.
        draw: source of the first centroids.
        iterations: at most so many; it stops when the centroids move less than 1e-4 in all.
    """
    count = len(rows)
    if count <= clusters:
        return np.arange(count)
    _, distinct = np.unique(rows, axis=0, return_index=True)
    centres = rows[draw.choice(np.sort(distinct), min(clusters, len(distinct)), replace=False)].astype(np.float64)
    labels = np.zeros(count, np.int64)
    for _ in range(iterations):
        labels = _nearest(rows, centres)
        moved = centres.copy()
        for k in np.unique(labels):
            moved[k] = np.average(rows[labels == k], axis=0, weights=weights[labels == k])
        shift = np.linalg.norm(moved - centres, axis=1).sum()
        centres = moved
        if shift < 1e-4:
            break
    return _nearest(rows, centres)


def _nearest(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    away = (rows.astype(np.float64) ** 2).sum(1)[:, None] - 2 * rows @ centres.T + (centres**2).sum(1)
    return away.argmin(1)


def total_weight(entries: Sequence[Entry]) -> float:
    """Return how many frames the entries stand for together."""
    return float(sum(e.weight for e in entries))
