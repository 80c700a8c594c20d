"""Masks through a video: things that move, hide and come later keep their labels, in bounded memory."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.metrics.masks import region_overlap
from embodied_mem.stream.bank import BankConfig
from embodied_mem.stream.mask_propagation import MaskPropagator, PropagationConfig, cells, colour_and_place

HEIGHT, WIDTH = 24, 40


def scene(t, late=False):
    """A red and a blue square on a grey wall; red passes behind a dark post, a green one comes at 12."""
    draw = np.random.default_rng(t)
    rgb = np.full((HEIGHT, WIDTH, 3), 130) + draw.integers(-8, 9, (HEIGHT, WIDTH, 3))
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    things = [((210, 40, 40), 2, 2 + t), ((40, 60, 220), 14, max(2, 30 - t))]
    if late and t >= 12:
        things.append(((40, 200, 60), 2, 33))
    for number, (colour, top, left) in enumerate(things, 1):
        rgb[top : top + 8, left : left + 8] = np.array(colour) + draw.integers(-8, 9, 3)
        labels[top : top + 8, left : left + 8] = number
    rgb[:, 18:21] = 20
    labels[:, 18:21] = 0
    return rgb.clip(0, 255).astype(np.uint8), labels


def follow(propagator, steps=23, late=False):
    """Return the mean overlap of every object over the frames after those in which it is given."""
    scores = {}
    for t in range(steps):
        rgb, labels = scene(t, late)
        given = labels if t == 0 else np.where(labels == 3, 3, -1).astype(np.int32) if late and t == 12 else None
        found = propagator.step(rgb, given)
        assert found.shape == (HEIGHT, WIDTH) and found.dtype == np.int32
        if given is None:
            for label in np.unique(labels)[1:]:
                scores.setdefault(int(label), []).append(region_overlap(found == label, labels == label))
    return {label: float(np.mean(values)) for label, values in scores.items()}


def test_things_that_move_and_hide_keep_their_labels():
    found = follow(MaskPropagator())
    assert set(found) == {1, 2} and min(found.values()) > 0.6
    still = follow(MaskPropagator(PropagationConfig(sensory=0.99)))
    assert min(found.values()) > max(still.values()), "the latest masks alone stay where the things were"


def test_a_late_object_is_followed_and_leaves_the_others_as_they_were():
    alone, all_of = follow(MaskPropagator()), follow(MaskPropagator(), late=True)
    assert all_of[3] > 0.6
    assert all(abs(alone[label] - all_of[label]) < 0.1 for label in (1, 2))


def test_memory_stays_bounded():
    sizes = []
    bank = BankConfig(work_max=4, work_min=2, protos=32, lt_max=64)
    propagator = MaskPropagator(PropagationConfig(every=2, bank=bank))
    for t in range(40):
        rgb, labels = scene(t % 20)
        propagator.step(rgb, labels if t == 0 else None)
        sizes.append(propagator.nbytes())
        assert propagator.bank.frames <= 4 and len(propagator.bank.long.get("use", ())) <= 64
    assert max(sizes[20:]) <= max(sizes[:20]) and 0 in propagator.bank.work["frame"]


def test_cells_are_means_and_features_tell_places_apart():
    image = np.arange(30, dtype=np.float32).reshape(5, 6, 1)
    assert cells(image, 2).shape == (3, 3, 1) and cells(image, 2)[0, 0, 0] == np.mean([0, 1, 6, 7])
    grey = np.full((8, 8, 3), 90, np.uint8)
    found = colour_and_place(grey, 2)
    assert found.shape == (4, 4, 6) and np.ptp(found[..., :4], (0, 1)).max() < 1e-3
    assert len(np.unique(found[..., 4:].reshape(-1, 2), axis=0)) == 16


def test_misuse_is_refused():
    rgb, labels = scene(0)
    with pytest.raises(UsageError, match="expected labels with the first frame"):
        MaskPropagator().step(rgb)
    with pytest.raises(UsageError, match="at least one label"):
        MaskPropagator().step(rgb, np.zeros_like(labels))
    propagator = MaskPropagator()
    propagator.step(rgb, labels)
    for wrong in ((rgb[:-1], None), (rgb / 2, None), (rgb, labels[:-1]), (rgb, labels / 1.0)):
        with pytest.raises(UsageError, match="expected"):
            propagator.step(*wrong)
    for values in ({"stride": 0}, {"sensory": 1.0}):
        with pytest.raises(UsageError, match="expected"):
            PropagationConfig(**values)
