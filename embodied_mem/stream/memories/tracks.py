"""Tracks: what is seen again keeps its identity; each has a short and a long memory.

    long    M <- (1 - l) M + l o,   l = 1 - exp(-dt / horizon)
    short   the latest token
    a track that is not seen for longer than ``tolerance`` seconds leaves; so does the one longest unseen when there
    are more than ``tracks``

MeMOTR (Gao & Wang 2023, arXiv 2307.15700): there l = 0.01 per frame, here scaled by the time between frames so that it
means the same at any rate. Every token of a frame is taken as a detection and goes to the track with the most similar
long memory, if their cosine exceeds ``match``, each track taking one token and each token one track, best pairs first.

Weaker than the source: detector, learned interaction between tracks and box positions are left out; two things that
look the same cannot be told apart. `TrackMemory` takes identities and scores from a detector where there is one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes, frozen
from embodied_mem.stream.memory import StreamMemory, check_at_least

_EPS = 1e-8


@dataclass(frozen=True)
class TracksConfig:
    """How tracks live."""

    tracks: int = 64
    """Tracks at most."""
    horizon_s: float = 10.0
    """Seconds over which the long memory fades."""
    tolerance_s: float = 120.0
    """Seconds a track may be unseen."""
    match: float = 0.7
    """Cosine of token and long memory above which they are the same thing."""

    def __post_init__(self) -> None:
        check_at_least(self, tracks=1, tolerance_s=0.0, match=-1.0)
        if self.horizon_s <= 0:
            raise UsageError(f"expected horizon_s > 0, got {self.horizon_s}")


@dataclass(frozen=True)
class Track:
    """One thing that is followed."""

    long: np.ndarray
    """(D,) float32 slow average."""
    short: np.ndarray
    """(D,) float32 latest."""
    first_s: float
    """Seconds, first seen."""
    last_s: float
    """Seconds, last seen."""
    seen: int = 1
    """Frames it was seen in."""


class TrackMemory:
    """Identity -> track; what is given is never changed, tracks are replaced."""

    def __init__(self, horizon_s: float, tolerance_s: float, gate: float = 0.5) -> None:
        """Begin without tracks.

        Args:
            horizon_s: seconds over which the long memory fades.
            tolerance_s: seconds a track may be unseen.
            gate: detections with a score up to this change nothing.
        """
        self.horizon_s, self.tolerance_s, self.gate = horizon_s, tolerance_s, gate
        self.tracks: dict[int, Track] = {}

    def update(self, t_s: float, ids: list[int], outputs: np.ndarray, scores: np.ndarray | None = None) -> None:
        """Take the detections of one frame.

        Args:
            t_s: seconds.
            ids: identity of every detection.
            outputs: (K, D) float32 embeddings.
            scores: (K,) confidence, None for all certain.
        """
        for row, number in enumerate(ids):
            if scores is not None and scores[row] <= self.gate:
                continue
            o, old = outputs[row].astype(np.float32), self.tracks.get(number)
            if old is None:
                self.tracks[number] = Track(o, o, t_s, t_s)
                continue
            share = np.float32(1 - math.exp(-(t_s - old.last_s) / self.horizon_s))
            self.tracks[number] = Track(old.long + share * (o - old.long), o, old.first_s, t_s, old.seen + 1)
        lost = [k for k, track in self.tracks.items() if t_s - track.last_s > self.tolerance_s + 1e-9]
        for number in lost:
            del self.tracks[number]


def match_pairs(tokens: np.ndarray, longs: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Return (token, track) pairs of cosine above ``least``, best first, each in one pair at most.

    Args:
        tokens: (P, D) float32.
        longs: (K, D) float32.
        least: cosine that has to be exceeded.
    """
    if len(longs) == 0:
        return []
    unit = [rows / (np.linalg.norm(rows, axis=1, keepdims=True) + _EPS) for rows in (tokens, longs)]
    alike = unit[0] @ unit[1].T
    pairs: list[tuple[int, int]] = []
    while True:
        best = int(alike.argmax())
        token, track = divmod(best, alike.shape[1])
        if not alike[token, track] > least:
            return pairs
        pairs.append((token, track))
        alike[token], alike[:, track] = -np.inf, -np.inf


@register(
    "stream_memory",
    "tracks",
    family="tracks",
    source="MeMOTR: Gao & Wang 2023, arXiv 2307.15700",
    small={"tracks": 6, "tolerance_s": 30.0},
)
class Tracks(StreamMemory):
    """Things that are followed, each with a short and a long memory."""

    Config = TracksConfig

    def start(self) -> None:
        """Begin without tracks."""
        # tokens of an entry: long, short; `number` is the identity, `rgb` the frame it was last seen in
        self.stores = {"tracks": []}
        self.arrays = {"next": np.zeros(1, np.int64)}

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the tracks."""
        return self.config.tracks * entry_bytes(2, width, extra) + 8

    def absorb(self, entry: Entry) -> None:
        """Give the tokens to their tracks, begin tracks for the others, let old ones go."""
        c, held = self.config, self.stores["tracks"]
        memory = TrackMemory(c.horizon_s, c.tolerance_s)
        for e in held:
            memory.tracks[e.number] = Track(e.tokens[0], e.tokens[1], e.t0, e.t1, int(e.weight))
        longs = np.stack([e.tokens[0] for e in held]) if held else np.zeros((0, entry.tokens.shape[1]), np.float32)
        ids = [-1] * len(entry.tokens)
        for token, track in match_pairs(entry.tokens, longs, c.match):
            ids[token] = held[track].number
        begun = int(self.arrays["next"][0])
        for token, number in enumerate(ids):
            if number < 0:
                ids[token], begun = begun, begun + 1
        self.arrays = {"next": np.array([begun])}
        memory.update(entry.t0, ids, entry.tokens)
        kept = sorted(memory.tracks, key=lambda k: (-memory.tracks[k].last_s, -memory.tracks[k].seen, k))[: c.tracks]
        before = {e.number: e for e in held}
        self.stores["tracks"] = [
            self._entry(number, memory.tracks[number], entry, before.get(number)) for number in sorted(kept)
        ]

    @staticmethod
    def _entry(number: int, track: Track, now: Entry, old: Entry | None) -> Entry:
        if old is not None and track.last_s == old.t1 and track.seen == old.weight:
            return old
        return Entry(
            tokens=frozen(np.stack([track.long, track.short])),
            t0=track.first_s,
            t1=track.last_s,
            t=track.last_s,
            weight=float(track.seen),
            rgb=now.rgb,
            rgb_t=now.rgb_t,
            text=now.text or (old.text if old else ""),
            number=number,
        )
