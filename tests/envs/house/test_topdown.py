import math

import numpy as np

from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.builder import PlanBuilder
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.topdown import TopDown, footprint


def house():
    builder = PlanBuilder("hand-made")
    left = builder.room("Kitchen", [(0, 0), (0, 4), (4, 4), (4, 0)])
    right = builder.room("Bedroom", [(4, 0), (4, 4), (7, 4), (7, 0)])
    builder.door((4, 1.5), (4, 2.5), left, right)
    fridge = builder.box("Fridge", left, x=1.0, z=3.5, yaw=math.pi, rgb=(200, 0, 0))
    builder.box("Apple", left, parent=fridge, inside=True)
    world = HouseWorld(1, PlanLibrary())
    world.load(np.array([0]), np.array([world.library.add(builder.build())]))
    world.place(np.array([0]), np.array([2.0]), np.array([1.0]), np.array([0.0]))
    return world


def test_objects_and_paths_appear_where_they_are():
    picture = TopDown(house().describe(0), pixels_per_metre=20)
    column, row = np.round(picture.to_pixels([1.0, 3.6])).astype(int)
    assert (picture.image[row, column] == (200, 0, 0)).all()
    before = picture.image.copy()
    picture.path(np.array([[2.0, 1.0, 0.0], [3.0, 1.0, 0.0]]), rgb=(0, 0, 255))
    changed = np.argwhere((picture.image != before).any(-1))
    low, high = picture.to_pixels([[2.0, 1.0], [3.0, 1.0]])
    assert np.abs(changed.min(0)[::-1] - low).max() < 3 and np.abs(changed.max(0)[::-1] - high).max() < 3
    assert changed.size > 0


def test_what_is_shut_away_is_not_drawn():
    world = house()
    shut = TopDown(world.describe(0)).image
    world.set_open(0, 0, True)
    opened = TopDown(world.describe(0)).image
    assert (shut != opened).any()


def test_north_is_up_and_east_is_right():
    picture = TopDown(house().describe(0))
    here, north, east = picture.to_pixels([[2, 2], [2, 3], [3, 2]])
    assert north[1] < here[1] and east[0] > here[0]


def test_agent_ring_and_label_draw_something():
    picture = TopDown(house().describe(0))
    for draw in (lambda: picture.agent(2, 1, 0.5), lambda: picture.ring(3, 1), lambda: picture.label(2, 2, "Mug")):
        before = picture.image.copy()
        draw()
        assert (picture.image != before).any()


def test_footprint_turns_clockwise():
    corners = footprint(0.0, 0.0, math.pi / 2, 2.0, 0.5)
    np.testing.assert_allclose(np.abs(corners), np.broadcast_to([0.25, 1.0], (4, 2)), atol=1e-12)
    front = footprint(0.0, 0.0, math.pi / 4, 0.0, 2.0)[1]
    np.testing.assert_allclose(front, [math.sqrt(0.5), math.sqrt(0.5)], atol=1e-12)
