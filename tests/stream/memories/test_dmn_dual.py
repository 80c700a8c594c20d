"""Two banks: the soft read, replacement by entropy, recognition that improves over the stream."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.dmn_dual import DmnDual, DmnDualConfig, cosines, replaced, soft_read

DRAW = np.random.default_rng(0)


def test_beta_moves_from_the_mean_to_the_nearest_slot():
    feature, bank = DRAW.standard_normal(8), DRAW.standard_normal((3, 5, 8))
    unit = bank / np.linalg.norm(bank, axis=2, keepdims=True)
    mean = unit.mean(1)
    assert np.allclose(soft_read(feature, bank, 0.0), mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-6)
    nearest = (unit @ feature).argmax(1)
    assert np.allclose(soft_read(feature, bank, 5e3), unit[np.arange(3), nearest], atol=1e-4)


def test_empty_slots_and_classes_add_nothing():
    feature, bank = DRAW.standard_normal(8), DRAW.standard_normal((2, 3, 8))
    padded = np.concatenate([bank, np.zeros((2, 4, 8))], 1)
    for beta in (0.0, 5.5, 5e3):
        assert np.allclose(soft_read(feature, bank, beta), soft_read(feature, padded, beta), atol=1e-6)
    assert (soft_read(-feature, np.zeros((1, 3, 8)), 5e3) == 0).all()


def test_the_lowest_entropies_stay():
    labels, entropies, seen = np.zeros(0), np.zeros(0), {0: [], 1: [], 2: []}
    for _ in range(200):
        label, entropy = int(DRAW.integers(3)), float(DRAW.random())
        seen[label].append(entropy)
        place = replaced(labels, entropies, label, entropy, 5)
        if place is not None:
            labels, entropies = (np.delete(a, place) if place < len(a) else a for a in (labels, entropies))
            labels, entropies = np.append(labels, label), np.append(entropies, entropy)
    for label, all_of in seen.items():
        assert sorted(entropies[labels == label]) == sorted(all_of)[:5]


def test_recognition_improves_over_the_stream():
    centres = np.linalg.qr(DRAW.standard_normal((16, 16)))[0][:2]
    # the text features lean to one side
    anchors = centres + 0.8 * np.array([[1.0], [-0.2]]) * centres[1] + 0.6 * DRAW.standard_normal((2, 16)) / 4
    classes = DRAW.integers(0, 2, 400)
    frames = (centres[classes] + 1.2 * DRAW.standard_normal((400, 16)) / 4).astype(np.float32)
    memory = DmnDual(DmnDualConfig(classes=2, slots=16), anchors)
    for t in range(200):
        memory.write(frames[t][None], t)
    plain = np.mean([cosines(f, anchors).argmax() == c for f, c in zip(frames[200:], classes[200:])])
    ours = np.mean([memory.classify(f).argmax() == c for f, c in zip(frames[200:], classes[200:])])
    assert ours >= plain and plain < 0.99


def test_anchors_are_found_where_none_are_given(stream, make):
    memory = make("dmn_dual", classes=6, slots=4, novelty=0.5)
    with pytest.raises(UsageError, match="before a classification"):
        memory.classify(stream.centres[0])
    stream.write(memory)
    assert len(memory.arrays["anchors"]) >= 4
    labels = [memory.classify(c).argmax() for c in stream.centres]
    assert len(set(labels)) >= 4
    with pytest.raises(UsageError, match="C <= 16"):
        DmnDual(DmnDualConfig(), np.zeros((17, 3)))
    with pytest.raises(UsageError, match="width 3"):
        DmnDual(DmnDualConfig(), np.ones((2, 3))).write(np.ones((1, 4)), 0)
