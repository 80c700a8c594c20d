"""BrainNav: angles go there and back, paths are no shorter than the crow flies, maps agree after loop closure."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial.brainnav import BrainNavMaps
from embodied_mem.memory.spatial.orientation import absolute_angle, bearing, relative_angle, word


def test_relative_to_absolute_and_back_on_random_poses():
    rng = np.random.default_rng(0)
    robot, relative = rng.uniform(-20, 20, 100_000), rng.uniform(-np.pi, np.pi, 100_000)
    absolute = absolute_angle(robot, relative)
    assert (absolute >= -np.pi).all() and (absolute < np.pi).all()
    back = relative_angle(robot, absolute)
    # at +-pi both signs are the same direction
    assert (np.abs(np.exp(1j * back) - np.exp(1j * relative)) < 1e-9).all()
    assert float(absolute_angle(np.pi - 0.1, 0.2)) == pytest.approx(-np.pi + 0.1, abs=1e-12)
    assert float(bearing(np.zeros(2), np.array([1.0, 0.0]))) == pytest.approx(np.pi / 2)


def test_words_divide_the_circle():
    assert [word(a) for a in (0, np.pi / 2, np.pi, -np.pi / 2)] == ["front", "right", "back", "left"]
    assert [word(a, "absolute") for a in (np.pi / 4, -3 * np.pi / 4)] == ["northeast", "southwest"]
    with pytest.raises(UsageError, match="frame"):
        word(0.0, "other")


def square(drift=0.0, side=4.0):
    """Walk round a square; odometry gains ``drift`` metres in x per leg. Returns the maps and the last odometry."""
    maps = BrainNavMaps()
    corners = np.array([[0, 0], [0, side], [side, side], [side, 0]])
    error = np.zeros(2)
    maps.visit(np.array([0.0, 0.0, 0.0]))
    for k in range(1, 4):
        error[0] += drift
        maps.visit(np.array([*(corners[k] + error), k * np.pi / 2]), f"leg {k}")
        maps.see(f"thing {k}", np.array([*(corners[k] + error), k * np.pi / 2]), 1.0, 0.0)
    error[0] += drift
    return maps, np.array([*error, 0.0])


def test_both_maps_agree_after_a_loop_is_closed():
    maps, last = square(drift=0.2)
    before = {name: maps.position(name) - maps.places[maps.things[name].place] for name in maps.things}
    assert maps.close_loop(last, 0, "leg 4") == pytest.approx(0.8)
    want = np.array([[0, 0], [0, 4], [4, 4], [4, 0.0]])
    assert np.abs(np.array(maps.places) - want).max() < 1e-9
    for k in (1, 2, 3):
        angle = k * np.pi / 2
        assert np.allclose(maps.position(f"thing {k}"), want[k] + [np.sin(angle), np.cos(angle)])
        assert np.allclose(maps.position(f"thing {k}") - maps.places[k], before[f"thing {k}"])
    # the odometry is read in the corrected frame from then on
    assert np.allclose(maps.corrected(last), [0, 0, 0])
    seen = maps.direction("thing 1", last)
    assert (seen.metres, seen.absolute) == (pytest.approx(17**0.5), pytest.approx(np.arctan2(1, 4)))
    assert maps.edges[3, 0][1] == "leg 4"


def test_paths_are_never_shorter_than_the_straight_line():
    rng = np.random.default_rng(1)
    maps = BrainNavMaps()
    pose = np.zeros(3)
    for step in range(40):
        for _ in range(3):
            pose = pose + [*rng.normal(size=2), 0.3]
            maps.move(pose)
        known = int(rng.integers(len(maps.places))) if step > 5 and rng.random() < 0.3 else None
        if known is None or known == maps.here:
            maps.visit(pose)
        else:
            maps.close_loop(pose, known)
    for place in range(len(maps.places)):
        path, metres = maps.route(place)
        assert path[0] == maps.here and path[-1] == place
        assert metres >= np.linalg.norm(maps.places[maps.here] - maps.places[place]) - 1e-9


def test_a_thing_seen_again_is_averaged_and_told_in_both_frames():
    maps = BrainNavMaps()
    maps.visit(np.array([0.0, 0.0, 0.0]))
    for metres in (1.0, 3.0):
        maps.see("chair", np.zeros(3), metres, np.pi / 2)
    assert np.allclose(maps.position("chair"), [2, 0])
    seen = maps.direction("chair", np.array([0.0, 0.0, np.pi]))
    assert seen.words() == "2.0 m to the left (east)"
    with pytest.raises(UsageError, match="known: \\['chair'\\]"):
        maps.position("table")


def test_no_way_and_unknown_places():
    maps = BrainNavMaps()
    with pytest.raises(UsageError, match="call visit first"):
        _ = maps.here
    maps.visit(np.zeros(3))
    assert maps.route(0) == ([0], 0.0)
    with pytest.raises(UsageError, match="expected a place in"):
        maps.visit(np.zeros(3), place=4)
