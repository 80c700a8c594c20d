import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.perception.house_words import CLASSES, COLOURS, PAIRS
from embodied_mem.stream.house_tour.tours import GLIMPSE, PIXELS, TourStream, whole_log


def test_a_stream_depends_on_its_arguments_alone():
    first, again, other = (list(TourStream(70, seed).chunks()) for seed in (5, 5, 6))
    assert all((a.rgb == b.rgb).all() and (a.log.seen == b.log.seen).all() for a, b in zip(first, again))
    assert sum(len(chunk.rgb) for chunk in first) == 70
    assert any(a.rgb.shape != b.rgb.shape or (a.rgb != b.rgb).any() for a, b in zip(first, other))


def test_train_and_test_houses_differ():
    train, test = (TourStream(10, 5, split=split) for split in ("train", "test"))
    plans = [{stream._source.plan(k).name for k in range(3)} for stream in (train, test)]
    assert not plans[0] & plans[1]
    assert not (train._source.plan(0).corners.shape == test._source.plan(0).corners.shape
                and (train._source.plan(0).corners == test._source.plan(0).corners).all())  # fmt: skip


def test_the_log_agrees_with_the_pixels():
    """Where a pair is logged, its paint or a shade of it is on screen; what was never allowed is never seen."""
    stream = TourStream(150, seed=8)
    chunks = list(stream.chunks(cells=True))
    log = whole_log([chunk.log for chunk in chunks])
    assert not (log.seen & ~log.glimpsed).any() and PIXELS > GLIMPSE
    assert not log.glimpsed[:, ~stream.allowed].any()
    rgb, cells = (np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("rgb", "cells"))
    paints, checked = np.array(list(COLOURS.values())), 0
    for t, p in np.argwhere(log.seen)[::8]:
        paint = paints[p % len(COLOURS)]
        shades = np.stack([np.clip(paint * f + a, 0, 255) for f, a in ((1, 0), (0.7, 0), (1.14, 10))])
        light = np.linspace(0.5, 1.05, 56)[:, None, None]
        near = np.abs(rgb[t].reshape(1, -1, 3) - (light * shades).reshape(-1, 1, 3)).max(-1).min(0) <= 6
        assert near.sum() >= GLIMPSE
        checked += 1
    assert checked > 10
    things = cells[:, 0] < len(CLASSES)
    assert (cells[:, 1][things] >= 0).all() and (cells[:, 1][~things] == -1).mean() > 0.98


def test_walls_of_a_house_differ_and_name_the_room(tour_log):
    places = np.unique(tour_log.place)
    assert len(places) >= 6
    for house in np.unique(places // 16):
        walls = [np.unique(tour_log.walls[tour_log.place == place]) for place in places[places // 16 == house]]
        assert all(len(found) == 1 for found in walls)
        assert len({int(found[0]) for found in walls}) == len(walls)


def test_things_change_rooms_between_visits(tour_log):
    rooms = [np.unique(tour_log.place[tour_log.seen[:, p]]) for p in range(PAIRS) if tour_log.seen[:, p].any()]
    assert sum(len(found) > 1 for found in rooms) >= 2


@pytest.mark.parametrize("wrong", [{"length": "eternal"}, {"length": 0}, {"length": 5, "houses": 0}])
def test_wrong_lengths_are_refused(wrong):
    with pytest.raises(UsageError):
        TourStream(**wrong)
