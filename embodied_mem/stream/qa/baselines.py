"""Frames without a memory: what every memory has to beat.

    blind        the question alone
    last_frame   the latest frame at the time of the question
    uniform      ``frames`` evenly spaced ones from the start to the time of the question
    oracle       ``frames`` evenly spaced ones of the stretch that holds the answer, where the file names it

Baselines see nothing later than the question either. Their frames are taken in one pass before it is asked.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embodied_mem.stream.evidence import KeyFrame
from embodied_mem.stream.frames import shrink
from embodied_mem.stream.qa.agenda import moments
from embodied_mem.stream.qa.guard import GuardedSource
from embodied_mem.stream.qa.sample import Sample
from embodied_mem.stream.sources import open_source

BASELINES = ("blind", "last_frame", "uniform", "oracle")
# So slow that a source gives out its first frame only and advances over the rest.
_FIRST_ONLY_FPS = 1e-9


def collect(
    path: Path,
    samples: Sequence[Sample],
    baseline: str,
    *,
    frames: int,
    fps: float,
    side: int,
    start_s: float = 0.0,
) -> dict[tuple[str, float], tuple[KeyFrame, ...]]:
    """Return the frames a baseline shows for every sample and moment.

    Args:
        path: the video.
        samples: questions about it.
        baseline: "blind", "last_frame", "uniform" or "oracle"; a sample without evidence has no entry for "oracle".
        frames: how many for "uniform" and "oracle".
        fps: frames per second that are looked at.
        side: longer side of the frames, pixels.
        start_s: seconds at which "uniform" begins.
    """
    asked = [(sample, t) for sample in samples for t in moments(sample)]
    if baseline == "blind":
        return {(sample.qid, t): () for sample, t in asked}
    first_s, last_s = extent(path)
    wanted: dict[tuple[str, float], list[float]] = {}
    for sample, t in asked:
        end = min(t, last_s)
        if baseline == "last_frame":
            wanted[sample.qid, t] = [end]
        elif baseline == "uniform":
            wanted[sample.qid, t] = np.linspace(min(max(first_s, start_s), end), end, frames).tolist()
        elif sample.evidence:
            wanted[sample.qid, t] = _inside(sample.evidence, end, frames)
    shown = _at(path, sorted({time for times in wanted.values() for time in times}), fps, side)
    # two times may fall on one frame: it is shown once
    return {
        key: tuple({id(shown[time]): shown[time] for time in times if time in shown}.values())
        for key, times in wanted.items()
    }


def extent(path: Path) -> tuple[float, float]:
    """Return the seconds of the first and last frame of a video, without decoding those between."""
    with open_source(path) as inner:
        guard = GuardedSource(inner, _FIRST_ONLY_FPS)
        first = [frame.t_s for frame in guard.until(math.inf)]
        return (first[0] if first else 0.0), guard.last_s


def _inside(evidence: Sequence[tuple[float, float]], end: float, frames: int) -> list[float]:
    spans = [(t0, min(t1, end)) for t0, t1 in evidence if t0 <= end]
    share = max(1, frames // max(len(spans), 1))
    return sorted({t for t0, t1 in spans for t in (np.linspace(t0, t1, share).tolist() if t1 > t0 else [t0])})


def _at(path: Path, times: Sequence[float], fps: float, side: int) -> dict[float, KeyFrame]:
    """Return for every time (ascending) the latest sampled frame not after it, or the first one."""
    if not times:
        return {}
    found: dict[float, KeyFrame] = {}
    place, latest = 0, None
    with open_source(path) as inner:
        for frame in GuardedSource(inner, fps).until(times[-1]):
            later = bisect.bisect_left(times, frame.t_s)
            if latest is not None:
                found |= dict.fromkeys(times[place:later], latest)
                place = later
            latest = KeyFrame(shrink(frame.rgb, side), frame.t_s)
            if frame.index == 0:
                found |= dict.fromkeys(times[:later], latest)
                place = later
    if latest is not None:
        found |= dict.fromkeys(times[place:], latest)
    return found
