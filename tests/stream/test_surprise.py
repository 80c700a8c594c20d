"""Events by surprise: change points are found, lengths are kept, refinement puts boundaries back."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.surprise import SurpriseConfig, SurpriseSegmenter, refined, split_scores


@pytest.fixture(scope="module")
def changes():
    """21 stretches of 15 to 40 frames, their starts, and frames (T, 32) with noise."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(15, 41, 21)
    centres = draw.standard_normal((21, 32))
    frames = np.repeat(centres, lengths, axis=0) + 0.2 * draw.standard_normal((lengths.sum(), 32))
    return np.cumsum(lengths)[:-1], frames.astype(np.float32)


def boundaries(frames, **config):
    segmenter = SurpriseSegmenter(SurpriseConfig(**config))
    return [t for t, x in enumerate(frames) if segmenter.opens(x)]


def test_change_points_are_found(changes):
    truth, frames = changes
    found = np.array(boundaries(frames, gamma=1.0, window=64)[1:])
    hits = sum(np.abs(found - t).min() <= 1 for t in truth)
    precision, recall = sum(np.abs(truth - f).min() <= 1 for f in found) / len(found), hits / len(truth)
    assert 2 * precision * recall / (precision + recall) >= 0.95


def test_events_keep_their_lengths(changes):
    _, frames = changes
    for low, high in ((4, 9), (8, 20)):
        starts = boundaries(frames, gamma=0.0, floor=0.0, min_len=low, max_len=high)
        lengths = np.diff([*starts, len(frames)])
        assert starts[0] == 0 and lengths.max() <= high and lengths[:-1].min() >= low
    assert boundaries(np.ones((50, 4), np.float32), max_len=20) == [0, 20, 40]


def test_refinement_puts_jittered_boundaries_back(changes):
    truth, frames = changes
    draw = np.random.default_rng(1)
    for method in ("modularity", "conductance"):
        jittered = truth + draw.choice([-3, -2, -1, 1, 2, 3], len(truth))
        back, start = 0, 0
        for place, right in zip(jittered, truth):
            moved = refined(frames, start, int(place), 8, method)
            back += moved == right
            start = moved
        assert back >= 0.9 * len(truth), method
    assert refined(frames, 0, 20, 8, "none") == 20


def test_scores_by_prefix_sums_equal_the_definition():
    draw = np.random.default_rng(2)
    for _ in range(100):
        size = int(draw.integers(4, 12))
        weights = draw.random((size, size))
        weights = weights + weights.T
        splits = np.arange(1, size)
        two_m, degree = weights.sum(), weights.sum(1)
        for split, q, c in zip(
            splits, split_scores(weights, splits, "modularity"), split_scores(weights, splits, "conductance")
        ):
            side = np.arange(size) < split
            same = side[:, None] == side
            naive = ((weights - np.outer(degree, degree) / two_m) * same).sum() / two_m
            cut = weights[side][:, ~side].sum()
            assert q == pytest.approx(naive, abs=1e-5)
            assert c == pytest.approx(-cut / min(degree[side].sum(), degree[~side].sum()), abs=1e-5)


def test_wrong_lengths_are_refused():
    with pytest.raises(UsageError, match="max_len >= min_len = 8"):
        SurpriseConfig(max_len=4)
