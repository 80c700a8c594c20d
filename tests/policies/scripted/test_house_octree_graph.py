"""The octree explorer of House: it finds goals it was never told about, and what it remembers is in its state."""

import copy

import numpy as np
import pytest
import torch

from embodied_mem.envs.house.classes import class_id
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.memory.spatial.octree import Octree
from embodied_mem.policies.rows import why_not_rows
from embodied_mem.policies.scripted._landmarks import Landmarks
from embodied_mem.policies.scripted._octree_floor import CELL, DEPTH, floor_of
from embodied_mem.policies.scripted.house_octree_graph import COLUMNS, HouseOctreeGraph

ENV = "embodied_mem/House-MultiObjectNav-v0"
ANGLE = ((np.arange(COLUMNS) + 0.5) / COLUMNS - 0.5) * 2 * np.pi


def test_it_beats_random_and_wiping_it_costs():
    options = {"level": 0, "split": "test", "goals": 3, "kinds": 2, "max_steps": 60}
    task = Task(ENV, "multion", kwargs=options, splits={"test": {}}, success_distance=1.0)
    suite = Suite("mine", "maps", (task,), episodes=8, num_envs=8)
    found = evaluate("house-octree-graph", suite, controls=["wiped:3"], device="cpu")
    random = evaluate("random", suite, device="cpu")["metrics"]
    whole, wiped = found["metrics"], found["controls"]["wiped:3"]
    assert whole["success"]["mean"] > 0.5 > random["success"]["mean"]
    assert whole["progress"]["mean"] > wiped["progress"]["mean"]


@pytest.fixture(scope="module")
def started():
    env = make_vec("House-ObjectNav-v0", 2, level=0, **HouseOctreeGraph.env_options(""))
    obs, _ = env.reset(seed=0)
    agent = HouseOctreeGraph()
    agent.record = True
    fresh = agent.initial_state(2)
    _, state, info = agent.act(obs, fresh, np.ones(2, bool))
    yield obs, agent, fresh, state, info["inspect"]
    env.close()


def test_the_octree_shows_the_room_and_the_state_is_rows(started):
    obs, _, fresh, state, inspect = started
    assert why_not_rows(state, 2) is None
    for row in range(2):
        floor = floor_of(state["octree"][row], np.zeros(2))
        assert 1.0 < floor.free.sum() * CELL**2 < 60.0 and floor.solid.any()
        assert not (floor.free & floor.solid).any()
        # a ray's end is solid, unless nothing but the simulator's floor level is there
        assert floor.near(np.array([[0.0, 0.0]]), CELL / 2).sum() == 1
        held = np.isfinite(inspect["leaf"][row][:, 0]).sum()
        assert held == len({tuple(cell) for cell in inspect["leaf"][row][:held, :2].tolist()})
    assert len(fresh["octree"][0]) == 0 and len(fresh["memory"]["long"][0]) == 0
    assert (inspect["edge"] == inspect["edge"].transpose(0, 2, 1)).all()


def test_what_is_seen_is_recalled_and_a_fresh_row_knows_nothing(started):
    obs, agent, fresh, state, _ = started
    for row in range(2):
        seen = sorted({int(code) for code in obs["scan"][row, :, 1]} - {0, 1, 2, 3, 4, 5})
        assert seen
        for code in seen:
            found = agent.landmarks.recall(row, code, np.zeros(2), state["memory"])
            column = int(np.where(obs["scan"][row, :, 1] == code, obs["scan"][row, :, 0], np.inf).argmin())
            bearing = obs["pose"][row, 3] + ANGLE[column]
            place = obs["scan"][row, column, 0] * np.array([np.sin(bearing), np.cos(bearing)])
            assert np.linalg.norm(found.places - place, axis=1).min() < 1.5
        assert agent.landmarks.recall(row, seen[0], np.zeros(2), fresh["memory"]).source == "none"


def thing(name, reach=2.0):
    """A scan whose middle columns show one thing ahead, walls elsewhere."""
    scan = np.zeros((1, COLUMNS, 6), np.float32)
    scan[0, :, 0], scan[0, :, 1] = 3.0, 3
    scan[0, 88:92, :2] = reach, class_id(name)
    return scan


def test_near_things_are_recent_and_far_ones_come_from_long_term_memory():
    marks = Landmarks()
    state, octrees = marks.initial_state(1), np.array([Octree(1, cell=CELL, depth=DEPTH)], object)
    state = marks.visit(np.zeros((1, 2)), thing("Bed"), state, octrees)
    news, state = marks.write(np.zeros(1, int), np.zeros((1, 3)), ANGLE, thing("Bed"), state)
    assert news.all()
    again, same = marks.write(np.zeros(1, int), np.zeros((1, 3)), ANGLE, thing("Bed"), state)
    assert not again.any() and len(same["long"][0]) == len(state["long"][0])
    before = copy.copy(state["long"][0])
    _, later = marks.write(np.zeros(1, int), np.zeros((1, 3)), ANGLE, thing("Sofa", 2.5), state)
    assert len(later["long"][0]) > len(state["long"][0]) == len(before)
    near = marks.recall(0, class_id("Bed"), np.array([0.0, 1.0]), later)
    # the graph moves on, the place in the world does not
    later = marks.visit(np.array([[8.0, 0.0]]), thing("Sofa"), later, octrees)
    far = marks.recall(0, class_id("Bed"), np.array([8.0, 0.0]), later)
    assert (near.source, far.source) == ("short", "long")
    for found in (near, far):
        assert np.abs(found.places[0] - [0.0, 2.0]).max() < 0.3
    assert marks.recall(0, class_id("Fridge"), np.zeros(2), later).source == "none"


def test_a_route_ends_where_the_target_is_seen():
    marks, octree = Landmarks(), Octree(1, cell=CELL, depth=DEPTH)
    wall = np.arange(-2.0, 3.0, CELL / 2)
    octree.insert(torch.tensor([[x, -0.75, 1.0] for x in wall]), torch.ones(len(wall), 1))
    state, octrees = marks.initial_state(1), np.array([octree], object)
    # along the wall, round its end, and back on the other side
    for x, z in [(0, 0), (1.5, 0), (3, 0), (4, 1), (3, 2), (1.5, 2.5), (3, 2), (4, 1), (3, 0), (1.5, 0), (0, 0)]:
        state = marks.visit(np.array([[x, z]], float), thing("Bed"), state, octrees)
    way, metres = marks.route(0, np.array([0.5, 2.0]), state, octree)
    assert way[-1].tolist() == [1.5, 2.5] and len(way) == 6 and metres > 5.0


def test_other_observations_are_refused():
    agent = HouseOctreeGraph()
    with pytest.raises(UsageError, match="house-octree-graph reads"):
        agent.act({"vector": np.zeros((1, 4))}, agent.initial_state(1), np.ones(1, bool))
