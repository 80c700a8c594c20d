"""The bank of three stores: similarity by definition, sizes, potentiation, eviction by use, late objects."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.bank import AtkinsonShiffrinBank, BankConfig, similarity, top_softmax

DRAW = np.random.default_rng(0)


def bank(**sizes):
    return AtkinsonShiffrinBank(BankConfig(**{"work_max": 10, "work_min": 5, "protos": 8, "lt_max": 64, **sizes}))


def filled(held, frames, hw=16, c=4, value=None, groups=1, start=0):
    for number in range(start, start + frames):
        v = DRAW.standard_normal((hw, groups, 3)) if value is None else np.broadcast_to(value, (hw, groups, 3))
        held.write(DRAW.standard_normal((hw, c)), v, number)
    return held


def test_similarity_is_the_double_loop():
    k, q, e, s = (
        DRAW.standard_normal((50, 16)),
        DRAW.standard_normal((20, 16)),
        DRAW.random((20, 16)),
        1 + DRAW.random(50),
    )
    naive = [[-s[i] * (e[j] * (k[i] - q[j]) ** 2).sum() / 4 for j in range(20)] for i in range(50)]
    assert np.abs(similarity(k, s, q, e) - naive).max() < 1e-4


def test_shrinkage_sharpens_and_ones_are_distances():
    k, q = DRAW.standard_normal((30, 8)), DRAW.standard_normal((5, 8))
    plain = similarity(k, np.ones(30), q, np.ones((5, 8)))
    distance = np.linalg.norm(k[:, None] - q, axis=2)
    assert (np.argsort(-plain, axis=0) == np.argsort(distance, axis=0)).all()
    sharp = similarity(k, np.full(30, 9.0), q, np.ones((5, 8)))
    assert (top_softmax(sharp, 30).max(0) > top_softmax(plain, 30).max(0)).all()


def test_sizes_stay_and_the_first_frame_too():
    held = bank()
    for number in range(200):
        filled(held, 1, start=number)
        held.read(DRAW.standard_normal((3, 4)))
        frames = np.unique(held.work["frame"])
        assert frames[0] == 0 and (number < 5 or 5 <= len(frames) <= 10)
        assert not held.long or len(held.long["use"]) <= 64
    assert len(held.long["use"]) == 64 and held.work["frame"].max() == 199


def test_potentiation_keeps_constants():
    held = filled(bank(), 40, value=[1.0, -2.0, 3.0])
    assert np.allclose(held.long["value"], [1.0, -2.0, 3.0], atol=1e-6)


def test_what_is_used_survives():
    held = filled(bank(protos=4, lt_max=8), 10)
    loved = held.long["key"][:1]
    for start in range(10, 80, 5):
        for _ in range(20):
            held.read(loved)
        filled(held, 5, start=start)
        assert len(held.long["use"]) <= 8 and (held.long["key"] == loved).all(1).any()


def test_equal_usage_evicts_exactly_as_many_as_needed():
    held = filled(bank(protos=4, lt_max=10), 10 + 6 * 5)
    assert len(held.long["use"]) == 10
    assert held.long["frame"].min() >= held.long["frame"].max() - 25  # the oldest left


def test_a_late_object_is_read_from_frames_that_hold_it():
    held = filled(bank(lt_max=16), 30, value=[1.0, 1.0, 1.0])
    both = np.stack([np.full((16, 3), 1.0), np.full((16, 3), 7.0)], 1)
    held.write(DRAW.standard_normal((16, 4)), both, 30)
    readout, _ = held.read(held.work["key"][-4:])
    assert readout.shape == (4, 2, 3) and np.allclose(readout[:, 0], 1) and np.allclose(readout[:, 1], 7)
    for number in range(31, 90):
        held.write(DRAW.standard_normal((16, 4)), both, number)
    assert len(held.long["use"]) == 16 and np.allclose(held.long["value"][held.long["valid"][:, 1], 1], 7)


def test_far_keys_and_few_elements_give_finite_values():
    held = bank(top_k=30)
    held.write(100 * DRAW.standard_normal((5, 4)), DRAW.standard_normal((5, 1, 3)), 0)
    readout, weights = held.read(-100 * np.ones((2, 4)))
    assert np.isfinite(readout).all() and np.allclose(weights.sum(0), 1)
    assert (top_softmax(DRAW.standard_normal((50, 3)), 4) > 0).sum(0).tolist() == [4, 4, 4]


def test_wrong_sizes_are_refused():
    with pytest.raises(UsageError, match="work_max > work_min"):
        bank(work_min=10)
    with pytest.raises(UsageError, match="at least one write"):
        bank().read(np.ones((1, 4)))
