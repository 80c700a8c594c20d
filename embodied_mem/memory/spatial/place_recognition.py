"""Place recognition: which known place is this? One interface, a baseline by embeddings, and sequence matching.

    baseline    score_i = cosine(feature, feature of place i)
    sequence    S_i(t) = max over velocities v of mean_{s < L} z(score(t - s))_{i - round(v s)}      (constant speed)

z standardises the scores of one query over places. Sequence matching assumes that places were added in the order of a
traverse and are passed at a roughly constant speed; it lifts any recogniser, so it wraps any. `propose_loop` turns the
best match into a loop closure for the topology graph.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.errors import UsageError

__all__ = ["EmbeddingRecogniser", "PlaceRecogniser", "SequenceMatching", "match_sequence", "propose_loop", "recall_at"]


class PlaceRecogniser(Protocol):
    """Anything that is shown places and then tells them apart."""

    def add(self, image: Tensor) -> int:
        """Add the next reference place, seen as ``image``, and return its number."""

    def query(self, image: Tensor) -> Tensor:
        """Return a score (places,) float32 of every place for an image, higher = more likely."""


class EmbeddingRecogniser:
    """Cosine of features; images are features (D,) of any encoder, or pictures that are flattened and centred."""

    def __init__(self) -> None:
        self._known: list[Tensor] = []

    def add(self, image: Tensor) -> int:
        """See `PlaceRecogniser.add`."""
        self._known.append(_unit(image))
        return len(self._known) - 1

    def query(self, image: Tensor) -> Tensor:
        """See `PlaceRecogniser.query`."""
        if not self._known:
            return torch.zeros(0)
        return torch.stack(self._known) @ _unit(image)


class SequenceMatching:
    """Any recogniser, with the scores of the last ``length`` queries joined along a constant speed."""

    def __init__(
        self, recogniser: PlaceRecogniser, length: int = 10, velocities: tuple[float, ...] = (0.8, 1.0, 1.25)
    ) -> None:
        """Wrap ``recogniser``.

        Raises:
            UsageError: the length is below 1 or there is no velocity.
        """
        if length < 1 or not velocities:
            raise UsageError(f"expected length >= 1 and at least one velocity, got {length} and {velocities}")
        self.recogniser, self.velocities = recogniser, velocities
        self._scores: deque[Tensor] = deque(maxlen=length)

    def reset(self) -> None:
        """Forget the queries: another traverse begins."""
        self._scores.clear()

    def add(self, image: Tensor) -> int:
        """See `PlaceRecogniser.add`."""
        return self.recogniser.add(image)

    def query(self, image: Tensor) -> Tensor:
        """See `PlaceRecogniser.query`; the scores are those of the sequence that ends with ``image``."""
        scores = self.recogniser.query(image)
        if self._scores and len(self._scores[-1]) != len(scores):
            # a map that grew has other places: the older scores know nothing of them
            self._scores.clear()
        self._scores.append(scores)
        return match_sequence(torch.stack(list(self._scores)), self.velocities)


def match_sequence(scores: Tensor, velocities: tuple[float, ...] = (1.0,)) -> Tensor:
    """Return the scores (N,) of the sequences that end at each place, for scores (L, N) of L queries, newest last.

    A sequence that would begin before the first place is scored by the part of it that exists.
    """
    L, N = scores.shape
    if N == 0:
        return scores[0]
    spread = scores.std(1, keepdim=True, correction=0).clamp(min=1e-6)
    standard = ((scores - scores.mean(1, keepdim=True)) / spread).flip(0)
    back = torch.arange(L, device=scores.device)
    best = torch.full((N,), -torch.inf, device=scores.device, dtype=scores.dtype)
    for velocity in velocities:
        place = torch.arange(N, device=scores.device) - (back * velocity).round().long().unsqueeze(1)
        there = place >= 0
        told = torch.where(there, standard.gather(1, place.clamp(min=0)), 0)
        # missing steps count as an average match, so that short sequences do not win
        best = torch.maximum(best, told.sum(0) / L)
    return best


def propose_loop(scores: Tensor, threshold: float, nodes: Tensor | None = None, recent: int = 0) -> int:
    """Return the place of the best score, or -1 where it is below ``threshold``.

    Args:
        scores: (N,) of a query. nodes: (N,) node of the topology graph of each place; its node is returned instead.
        recent: the newest places that are left out, since one always resembles them.
    """
    old = scores[: len(scores) - recent]
    if not len(old) or float(old.max()) < threshold:
        return -1
    best = int(old.argmax())
    return best if nodes is None else int(nodes[best])


def recall_at(scores: Tensor, truth: Tensor, count: int = 1, tolerance: int = 0) -> float:
    """Return the share of queries whose ``count`` best places hold the true one, give or take ``tolerance`` places.

    Args:
        scores: (Q, N). truth: (Q,) int64.
    """
    best = scores.topk(min(count, scores.shape[1]), dim=1).indices
    return float(((best - truth.unsqueeze(1)).abs() <= tolerance).any(1).float().mean())


def _unit(image: Tensor) -> Tensor:
    feature = image.detach().float().flatten()
    return F.normalize(feature - feature.mean() if image.dim() > 1 else feature, dim=0)
