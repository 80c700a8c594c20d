"""Both rules of motion, turn by turn, on the small city; the teacher; batches equal single rows."""

import numpy as np
import pytest

from embodied_mem.envs.street.env import SEMANTICS, BatchedStreet
from embodied_mem.envs.street.episodes import make_episodes

NAMES = ("forward", "left", "right", "stop", "turn_around")


def walk(city, semantics, start, actions, style="touchdown"):
    """Return the states after each action from a start, without the limit of 55."""
    env = BatchedStreet(data="touchdown", semantics=semantics, autoreset_mode="DISABLED", max_actions=200, style=style)
    place = env.graph.index[start[0]]
    env.data = make_episodes(["x"], [""], [[place]], [start[1]])
    env._limits, env._texts = env._limits[:1], env._texts[:1]
    env.reset(seed=0)
    for name in actions:
        env.step(np.array([NAMES.index(name)]))
    return [tuple(state) for state in env._states(0)]


@pytest.mark.parametrize(
    ("start", "actions", "states"),
    [
        # Forward without a link ahead only snaps; of two links equally near the first in the file is taken.
        (("b", 0), ["forward", "forward"], [("b", 270), ("b", 270)]),
        (("b", 0), ["left"], [("b", 270)]),
        (("b", 0), ["right", "forward", "forward"], [("b", 90), ("c", 90), ("d", 90)]),
        (("c", 90), ["left", "left", "left", "left"], [("c", 0), ("c", 270), ("c", 180), ("c", 90)]),
        (("c", 90), ["right", "right"], [("c", 180), ("c", 270)]),
        # Moving snaps to the link nearest to the old heading.
        (("c", 0), ["forward", "forward"], [("n", 10), ("m", 5)]),
        (("d", 90), ["forward", "right", "forward"], [("e", 100), ("e", 180), ("g", 170)]),
        # Panoramas of one link are never entered, and nothing works on them.
        (("b", 270), ["forward", "left"], [("b", 270), ("b", 90)]),
        (("a", 0), ["forward", "left", "right"], [("a", 0)] * 3),
        (("b", 90), ["stop"], [("b", 90)]),
    ],
)
def test_touchdown(city, start, actions, states):
    assert walk(city, "touchdown", start, actions) == [start, *states]


@pytest.mark.parametrize(
    ("start", "actions", "states"),
    [
        # Straight on at a crossing, and the two turns there; the street behind is no choice on arrival.
        (("b", 90), ["forward", "forward"], [("c", 90), ("d", 90)]),
        (("b", 90), ["forward", "left", "forward"], [("c", 90), ("c", 0), ("n", 0)]),
        (("b", 90), ["forward", "right", "forward"], [("c", 90), ("c", 180), ("s", 180)]),
        # After a turn nothing is behind any more: a second left is the street one came from.
        (("b", 90), ["forward", "left", "left", "forward"], [("c", 90), ("c", 0), ("c", 270), ("b", 270)]),
        # A move keeps the heading; the next one follows the bend.
        (("c", 0), ["forward", "forward", "forward"], [("n", 0), ("m", 10), ("o", 5)]),
        # Turns on a plain street are forward moves.
        (("c", 0), ["forward", "left"], [("n", 0), ("m", 10)]),
        # At a T reached along its bar, left and right are the first and last of the streets ahead.
        (("c", 90), ["forward", "forward", "forward"], [("d", 90), ("e", 90), ("f", 100)]),
        (("c", 90), ["forward", "forward", "left", "forward"], [("d", 90), ("e", 90), ("e", 100), ("f", 100)]),
        (("c", 90), ["forward", "forward", "right", "forward"], [("d", 90), ("e", 90), ("e", 180), ("g", 180)]),
        (("c", 90), ["turn_around", "forward"], [("c", 270), ("b", 270)]),
        # A dead end allows turning round and stopping; anything else is a stop.
        (("s", 180), ["forward", "forward"], [("t", 180), ("t", 180)]),
        (("s", 180), ["forward", "turn_around", "forward"], [("t", 180), ("t", 0), ("t", 0)]),
    ],
)
def test_velma(city, start, actions, states):
    assert walk(city, "velma", start, actions) == [start, *states]


def test_velma_snaps_the_first_heading_and_map2seq_begins_with_a_forward(city):
    assert walk(city, "velma", ("c", 60), [])[0] == ("c", 90)
    assert walk(city, "velma", ("b", 90), ["forward"], style="map2seq") == [("b", 90), ("c", 90), ("d", 90)]
    assert walk(city, "touchdown", ("c", 60), [], style="map2seq") == [("c", 60)]


def test_a_stop_in_a_dead_end_ends_the_episode(city):
    env = BatchedStreet(data="touchdown", semantics="velma", autoreset_mode="DISABLED", record=True)
    env.data = make_episodes(["x"], [""], [[env.graph.index["s"], env.graph.index["t"]]], [180])
    env._limits, env._texts = env._limits[:1], env._texts[:1]
    env.reset(seed=0)
    env.step(np.array([0]))
    _, reward, terminated, truncated, info = env.step(np.array([1]))
    assert terminated[0] and not truncated[0] and reward[0] == 1.0
    assert info["stopped"][0] and info["tc"][0] == 1.0 and info["actions"][0] == 2


def test_episodes_are_cut_and_scored_where_they_stand(city):
    env = BatchedStreet(3, data="touchdown", order="listed", record=True, autoreset_mode="DISABLED", max_actions=3)
    env.reset(seed=0, options={"episode": np.arange(3)})
    for action in ([2, 0, 0], [0, 0, 0], [0, 0, 0]):
        _, reward, terminated, truncated, info = env.step(np.array(action))
    assert truncated.tolist() == [True, True, True] and not terminated.any()
    # Row 1 walked b c d e, the route; row 0 ended on d, row 2 on b.
    assert info["tc"].tolist() == [0.0, 1.0, 0.0] and reward.tolist() == [0.0, 1.0, 0.0]
    assert info["sed"][1] == info["kpa"][1] == 1.0 and info["id"].tolist() == [1, 2, 3]
    assert info["states"][1] == [["b", 90], ["c", 90], ["d", 90], ["e", 100]]
    assert not info["stopped"].any() and info["actions"].tolist() == [3, 3, 3]


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_the_teacher_walks_every_route(city, semantics):
    env = BatchedStreet(
        3, data="touchdown", order="listed", semantics=semantics, record=True, autoreset_mode="DISABLED"
    )
    env.reset(seed=0, options={"episode": np.arange(3)})
    scores = {}
    for _ in range(30):
        _, _, terminated, truncated, info = env.step(np.maximum(env.privileged()["street_teacher"], 0))
        for row in np.flatnonzero(info.get("_tc", np.zeros(3, bool))).tolist():
            scores[row] = (info["tc"][row], info["sed"][row], bool(info["stopped"][row]))
    assert scores == {row: (1.0, 1.0, True) for row in range(3)}


def test_the_teacher_is_silent_off_the_route(city):
    env = BatchedStreet(1, data="touchdown", order="listed", autoreset_mode="DISABLED")
    env.reset(seed=0, options={"episode": np.array([1])})
    env.step(np.array([0]))
    env.step(np.array([1]))
    assert env.privileged()["street_teacher"][0] == 2, "turn back to the route"
    env.step(np.array([0]))
    assert env.privileged()["street_teacher"][0] == -1


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_a_batch_equals_single_walks(semantics):
    rng = np.random.default_rng(0)
    options = {"items": 20, "semantics": semantics, "order": "listed", "record": True, "autoreset_mode": "DISABLED"}
    many, one = BatchedStreet(16, **options), BatchedStreet(1, **options)
    many.reset(seed=0, options={"episode": np.arange(16)})
    actions = rng.choice(
        len(many.actions), p=[0.6, *[0.4 / (len(many.actions) - 1)] * (len(many.actions) - 1)], size=(60, 16)
    )
    steps = [many.step(action) for action in actions]
    for row in range(16):
        one.reset(seed=0, options={"episode": np.array([row])})
        for action, whole in zip(actions, steps):
            alone = one.step(action[[row]])
            assert np.array_equal(alone[0]["vector"][0], whole[0]["vector"][row])
            assert all(left[0] == right[row] for left, right in zip(alone[1:4], whole[1:4]))
            if alone[2][0] or alone[3][0]:
                assert alone[4]["states"][0] == whole[4]["states"][row]
                break


def test_shaping_pays_hops_towards_the_goal(city):
    env = BatchedStreet(1, data="touchdown", order="listed", shaping=0.1, autoreset_mode="DISABLED")
    env.reset(seed=0, options={"episode": np.array([1])})
    gains = [float(env.step(np.array([action]))[1][0]) for action in (0, 1, 1, 0, 3)]
    assert gains == pytest.approx([0.1, 0.0, 0.0, -0.1, 0.0])
