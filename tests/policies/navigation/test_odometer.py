"""The odometer: decisions become actions that lead along routes, and counts are those of the route."""

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from embodied_mem.envs.make import make_vec
from embodied_mem.envs.street.course import find_junctions
from embodied_mem.errors import UsageError
from embodied_mem.policies.navigation import odometer
from embodied_mem.policies.navigation.clause_lessons import _headings

STREET = "embodied_mem/Street-v0"


@pytest.fixture(scope="module", params=["map2seq", "touchdown"])
def walked(request):
    """Play 20 routes link by link with unlimited actions; return env, and what was known at every decision."""
    options = {"language": "varied", "style": request.param, "order": "listed", "items": 20, "max_actions": 90}
    env = make_vec(STREET, 20, autoreset_mode=AutoresetMode.DISABLED, sensors=("vector", "traffic"), **options)
    street = env.unwrapped
    obs, _ = env.reset(seed=0, options={"reset_mask": np.ones(20, bool), "episode": np.arange(20)})
    state, reset = odometer.fresh_state(20), np.ones(20, bool)
    heads, rows, known = _headings(street.graph, street.data.route[:20]), np.arange(20), []
    for _ in range(90):
        state, seen = odometer.look(state, obs["vector"], obs["traffic"], reset)
        facts = street.privileged()
        place = np.minimum(facts["street_visited"], street.data.length[:20]) - 1
        known += [(row, int(place[row]), seen.counts[row].copy()) for row in np.flatnonzero(seen.decides)]
        wanted = odometer.wrap(heads[rows, place] - facts["street_heading"])
        link = np.abs(seen.turned - wanted[:, None]).argmin(1)
        chosen = np.where(place == street.data.length[:20] - 1, seen.open.shape[1], link)
        state, action = odometer.act(state, seen, chosen, np.zeros(20, np.int64))
        obs, _, ended, _, info = env.step(action)
        reset = np.zeros(20, bool)
    yield street, known
    env.close()


def test_chosen_links_lead_along_the_route(walked):
    street, _ = walked
    assert street.world.stopped.all()
    for row in range(20):
        length = int(street.data.length[row])
        assert street.world.path[row, :length].tolist() == street.data.route[row, :length].tolist()


def test_counts_are_those_of_the_route(walked):
    street, known = walked
    c = odometer.C
    crossings = 0
    for row, place, counts in known:
        route = street.data.route[row, : street.data.length[row]]
        passed = [item for item in find_junctions(street.graph, route) if item.place <= place]
        assert counts[c["visited"]] == place + 1 and counts[c["start"]] == (place == 0)
        if 0 < place < len(route) - 1:
            # No side was due, so no turn was counted and the counts run on.
            assert counts[c["since"]] == len(passed)
            assert counts[c["walked"]] == place - (passed[-1].place if passed else 0)
            here = [item for item in passed if item.place == place]
            assert counts[c["crossing"]] == len(here)
            if here:
                crossings += 1
                shown = counts[[c["left"], c["straight"], c["right"]]].astype(bool).tolist()
                assert shown == [here[0].left, here[0].straight, here[0].right]
    assert crossings > 20


def test_a_turn_to_the_side_that_is_due_is_counted_and_begins_a_leg():
    seen = odometer.Look(
        decides=np.array([True, True, True]),
        counts=np.zeros((3, len(odometer.COUNTS)), np.int16),
        angles=np.array([[-90, 0, 85]] * 3, np.int16),
        sides=np.array([[-1, 0, 1]] * 3, np.int8),
        traffic=np.zeros((3, 3), np.int16),
        open=np.ones((3, 3), bool),
        turned=np.array([[-90, 0, 85]] * 3, np.int16),
        there=np.ones((3, 3), bool),
        returned=np.zeros(3, bool),
    )
    seen.counts[:, odometer.C["crossing"]] = 1
    state = {name: np.full(3, 4, np.int32) for name in odometer.fresh_state(3)} | {
        name: np.zeros(3, np.int32) for name in ("todo", "back", "armed")
    }
    state, action = odometer.act(state, seen, np.array([0, 2, 3]), np.array([-1, -1, -1]))
    assert action.tolist() == [odometer.LEFT, odometer.RIGHT, odometer.STOP]
    assert state["turns"].tolist() == [5, 4, 4] and state["leg"].tolist() == [0, 4, 4]


def test_a_return_leads_back_to_a_panorama_of_the_block():
    options = {"language": "varied", "style": "map2seq", "order": "listed", "items": 20, "max_actions": 90}
    env = make_vec(STREET, 20, autoreset_mode=AutoresetMode.DISABLED, sensors=("vector",), **options)
    street = env.unwrapped
    obs, _ = env.reset(seed=0, options={"reset_mask": np.ones(20, bool), "episode": np.arange(20)})
    state, reset, back = odometer.fresh_state(20), np.ones(20, bool), np.zeros(20, np.int64)
    for _ in range(60):
        state, seen = odometer.look(state, obs["vector"], None, reset)
        links, span = seen.open.shape[1], seen.counts[:, odometer.C["span"]]
        turns_back = seen.decides & (span >= 5) & (back == 0)
        back = np.where(turns_back, np.minimum(span, 6), back)
        chosen = np.where(turns_back, links + back, odometer.straightest(seen))
        assert not (seen.decides & (back > 0) & ~turns_back).any(), "who returns does not decide again"
        state, action = odometer.act(state, seen, chosen, np.zeros(20, np.int64))
        obs, *_ = env.step(action)
        reset = np.zeros(20, bool)
    stopped = np.flatnonzero(street.world.stopped)
    assert len(stopped) > 10
    for row in stopped:
        path = street.world.path[row, : street.world.length[row]].tolist()
        turned = len(path) - 1 - back[row]
        assert path[turned:] == path[: turned + 1][::-1][: back[row] + 1]
    env.close()


def test_other_rules_of_motion_are_refused():
    box = spaces.Box(0, 1, (3,))
    with pytest.raises(UsageError, match="four actions of semantics touchdown"):
        odometer.check_spaces(spaces.Dict({"vector": box, "instruction": box}), spaces.Discrete(5))
    with pytest.raises(UsageError, match="sensors vector and instruction"):
        odometer.check_spaces(spaces.Dict({"vector": box}), spaces.Discrete(4))
