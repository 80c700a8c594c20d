"""Hand-made houses and worlds that several House tests share."""

from __future__ import annotations

import math

import numpy as np
import pytest

from embodied_mem.envs.house.batch import HouseWorld, WorldConfig
from embodied_mem.envs.house.builder import PlanBuilder
from embodied_mem.envs.house.generator import GeneratorConfig, generate
from embodied_mem.envs.house.library import PlanLibrary


def two_rooms(openness=1.0, height=2.7):
    """Two 4 x 4 m rooms side by side along x, a 1 m door at z 1.5..2.5, a window on the far wall of the first."""
    builder = PlanBuilder("two rooms", height)
    left = builder.room("Kitchen", [(0, 0), (0, 4), (4, 4), (4, 0)], style=(0, 2))
    right = builder.room("Bedroom", [(4, 0), (4, 4), (8, 4), (8, 0)], style=(1, 0), floor_rgb=(90, 120, 90))
    builder.door((4, 1.5), (4, 2.5), left, right, openness=openness)
    builder.window((1, 4), (3, 4), left, sill=0.9, top=2.0)
    return builder, left, right


def furnished():
    """`two_rooms` with a cabinet (an apple inside), a table (a mug on it), a rug and a picture."""
    builder, left, right = two_rooms()
    cabinet = builder.box("Cabinet", left, x=0.35, z=2.0, yaw=math.pi / 2, size=(0.8, 0.9, 0.5))
    apple = builder.box("Apple", left, parent=cabinet, inside=True)
    table = builder.box("DiningTable", right, x=6.0, z=2.0, yaw=0.3, size=(1.2, 0.75, 0.8))
    mug = builder.box("Mug", right, parent=table, x=6.0, z=2.0)
    builder.box("Rug", left, x=2.0, z=1.0)
    builder.box("Painting", right, x=6.0, z=3.98, y=1.4, yaw=math.pi, size=(0.8, 0.6, 0.03))
    return builder.build(), dict(cabinet=cabinet, apple=apple, table=table, mug=mug)


def world_of(plan, n=1, **config):
    """A world whose rows all play in one plan."""
    library = PlanLibrary()
    plan_id = library.add(plan)
    world = HouseWorld(n, library, WorldConfig(**config))
    world.load(np.arange(n), np.full(n, plan_id))
    return world


def put_agent(world, x, z, yaw, horizon=0.0, row=0):
    world.place(np.array([row]), np.array([x]), np.array([z]), np.array([yaw]), horizon)


@pytest.fixture(scope="session")
def varied_world():
    """12 rows at random poses in generated houses of 1 to 6 rooms; some doors shut, some containers open."""
    library, n = PlanLibrary(), 12
    world = HouseWorld(n, library, WorldConfig(width=48, height=40))
    plans = []
    for k in range(n):
        rooms = 1 + k % 6
        config = GeneratorConfig(rooms=(rooms, rooms), boxes=12 * rooms, containers=2, closed_doors=0.3)
        plans.append(library.add(generate(k, config)))
    world.load(np.arange(n), np.array(plans))
    draw = np.random.default_rng(3)
    for row, plan_id in enumerate(plans):
        spots = world.free_positions(plan_id)
        x, z = spots[draw.integers(len(spots))]
        put_agent(world, x, z, 30.0 * draw.integers(12), float(draw.choice([-30.0, 0.0, 30.0])), row)
        for box in world.containers(plan_id)[::2]:
            world.set_open(row, int(box), True)
    return world
