"""Event memory of changes: boundaries where scenes change, what is new is kept, redundant events leave."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.hippomm import novel, ssim

LENGTHS = [12, 25, 14, 18, 16, 20]


def flat_film(noise, start_s, seed=0):
    """Six flat colours of 12 to 25 s at two frames per second: images, times, starts of the scenes in frames."""
    draw = np.random.default_rng(seed)
    colours = np.array([[200, 30, 30], [30, 200, 30], [40, 40, 220], [220, 220, 60], [20, 20, 20], [240, 240, 240]])
    images = np.repeat(colours, np.array(LENGTHS) * 2, axis=0)[:, None, None] + noise * draw.standard_normal(
        (2 * sum(LENGTHS), 24, 32, 3)
    )
    return images.clip(0, 255).astype(np.uint8), start_s + 0.5 * np.arange(len(images)), np.cumsum([0, *LENGTHS]) * 2


@pytest.mark.parametrize("noise, start_s", [(0, 0.0), (5, 100.0)])
def test_scenes_of_a_film_are_its_events(make, noise, start_s):
    images, times, starts = flat_film(noise, start_s)
    # key frames decide: the tokens never change
    memory = make("hippomm", visual="ssim", change=0.5, min_s=5.0, max_s=30.0, pending=128)
    for image, t in zip(images, times):
        memory.write(np.ones((1, 4)), float(t), image)
    events = memory.stores["events"]
    assert len(events) == 5 and all(abs(e.number - s) <= 1 for e, s in zip(events, starts))
    assert events[0].t0 == start_s
    opened = [*(e.t0 for e in events[1:]), memory.stores["open"][0].t0]
    assert all(5 <= e.t1 - e.t0 + 0.5 <= 30 and after - e.t1 == 0.5 for e, after in zip(events, opened))


def test_a_long_event_is_cut_at_its_strongest_change(make):
    memory = make("hippomm", change=0.9, min_s=2.0, max_s=10.0)
    angles = np.concatenate([np.zeros(3), np.full(4, 0.3), np.full(20, 0.8)])  # weak at 3, stronger at 7 s
    for t, angle in enumerate(angles):
        memory.write(np.array([[np.cos(angle), np.sin(angle)]]), t)
    assert [(e.t0, e.t1) for e in memory.stores["events"]] == [(0, 6), (7, 16)]


def test_black_frames_do_no_harm(make):
    memory, black = make("hippomm", visual="ssim"), np.zeros((20, 200, 3), np.uint8)
    for t in range(100):
        memory.write(np.ones((1, 2)), t, black)
    assert ssim(black, black) == 1.0 and [e.t1 - e.t0 for e in memory.stores["events"]] == [29, 29, 29]
    with pytest.raises(UsageError, match="key frame with every frame"):
        memory.write(np.ones((1, 2)), 101)


def test_copies_are_nothing_new():
    draw = np.random.default_rng(0)
    distinct = np.linalg.qr(draw.standard_normal((12, 12)))[0][:7]
    rows = np.concatenate([distinct, distinct[draw.integers(0, 7, 93)]])
    assert len(novel(rows, 0.9)) == 7 == len(novel(np.repeat(rows, 3, axis=0), 0.9))
    assert novel(rows[:1], -1.0) == [0]


def test_redundant_events_leave_first(make):
    memory = make("hippomm", min_s=1.0, max_s=3.0, events=3, change=0.5)
    for t, axis in enumerate(np.repeat([0, 1, 0, 2, 3], 3)):
        memory.write(np.eye(4)[[axis]], t)
    memory.write(np.eye(4)[[0]], 15)
    axes = [int(e.tokens.argmax()) for e in memory.stores["events"]]
    assert sorted(axes) == [1, 2, 3] or len(set(axes)) == 3
    assert 0.0 not in [e.t0 for e in memory.stores["events"]]  # the older of the two alike


def test_texts_of_an_event_are_joined_within_bounds(make):
    memory = make("hippomm", min_s=1.0, max_s=3.0)
    for t in range(9):
        memory.write(np.ones((1, 2)), t, text=f"{t // 2} " + "word " * 100)
    assert all(0 < len(e.text.encode()) <= 1024 for e in memory.stores["events"])
    assert memory.nbytes() <= memory.bound_bytes(1, 2, texts=True)
