"""Varied instructions: they name what a route asks for, differ from each other, and strolls keep their rules."""

import re

import numpy as np
import pytest

from embodied_mem.envs.street.course import LEADS_BACK, NO_LINK, find_junctions, find_legs, link_sides, stroll
from embodied_mem.envs.street.env import BatchedStreet
from embodied_mem.envs.street.graph import StreetGraph
from embodied_mem.envs.street.landmarks import place_landmarks
from embodied_mem.envs.street.phrasing import say
from embodied_mem.envs.street.town import town_graph
from embodied_mem.envs.street.writer import decisions, write_episodes
from embodied_mem.errors import UsageError


@pytest.mark.parametrize("style", ["map2seq", "touchdown"])
def test_a_text_has_the_turns_of_its_route_in_order(style):
    graph = town_graph(0)
    found = write_episodes(graph, "train", style, 60, seed=3, language="varied")
    for text, route, length in zip(found.texts, found.route, found.length):
        turns = [junction.turn for junction in find_junctions(graph, route[:length]) if junction.turn]
        # sides of scenery ("on your left") and of corners say nothing about turns
        plain = re.sub(
            r"(?:on|to) (?:your|the) (?:near |far )?(?:left|right)|(?:near |far )?(?:left|right) corner",
            "",
            text.lower(),
        )
        plain = re.sub(r"right (?:before|after|past|away)|immediately (?:before|after|past)", "", plain)
        said = [1 if word == "right" else -1 for word in re.findall(r"\b(left|right)\b", plain)]
        assert said == turns, text
    assert len(set(found.texts)) > 55


def test_texts_are_seeded_and_a_route_can_be_told_in_many_ways():
    graph = town_graph(0)
    layer, draw = place_landmarks(graph, 0), np.random.default_rng(0)
    found = write_episodes(graph, "train", "map2seq", 4, seed=1, language="varied")
    again = write_episodes(graph, "train", "map2seq", 4, seed=1, language="varied")
    assert found.texts == again.texts and np.array_equal(found.route, again.route)
    assert found.texts != write_episodes(graph, "train", "map2seq", 4, seed=1).texts
    route = found.route[0, : found.length[0]]
    told = {say(graph, layer, route, int(found.heading[0]), "map2seq", draw) for _ in range(30)}
    assert len(told) >= 28
    openings = {text.split()[0] for text in told}
    assert len(openings) >= 5


def test_legs_and_junctions_are_the_decisions_of_the_route():
    graph = town_graph(0)
    found = write_episodes(graph, "train", "map2seq", 20, seed=2, language="varied")
    for route, length in zip(found.route, found.length):
        walked = route[:length]
        assert [(item.place, item.turn) for item in find_junctions(graph, walked)] == [
            (item.place, item.turn) for item in decisions(graph, walked)
        ]
        legs = find_legs(graph, walked)
        assert legs[-1].turn is None and all(leg.turn is not None for leg in legs[:-1])
        assert [leg.begin for leg in legs[1:]] == [leg.turn.place for leg in legs[:-1]]
        for junction in find_junctions(graph, walked):
            assert junction.turn == 0 or junction.opens(junction.turn)


def test_strolls_never_meet_themselves_and_keep_to_their_area():
    graph, draw = town_graph(0), np.random.default_rng(0)
    allowed, turns = ~graph.unseen, 0
    for _ in range(40):
        route = stroll(graph, allowed, 30, draw)
        assert route is not None and len(route) == 31 == len(set(route.tolist())) and allowed[route].all()
        for here, there in zip(route, route[1:]):
            graph.link_heading(int(here), int(there))
        turns += sum(abs(item.turn) for item in find_junctions(graph, route))
    assert turns > 40, "a stroll turns more than once on average"
    assert stroll(graph, np.zeros(len(allowed), bool), 30, draw) is None


def test_the_environment_plays_varied_texts_and_shows_motion_and_traffic():
    env = BatchedStreet(4, language="varied", items=8, sensors=("vector", "motion", "traffic", "instruction"))
    obs, _ = env.reset(seed=0)
    vector, motion = obs["vector"], obs["motion"]
    assert np.array_equal(motion, vector[:, -7:]) and motion.shape == (4, 7)
    assert np.allclose(np.square(obs["traffic"]).sum(1), 1.0)
    assert env.single_observation_space["traffic"].contains(obs["traffic"][0])
    assert not env.privileged()["street_reached"].any()
    with pytest.raises(UsageError, match="language"):
        BatchedStreet(1, language="french")


def test_a_jog_at_a_junction_is_no_turn_and_the_middle_link_leads_straight_on():
    """A street to the north leaves its junction at 40 degrees and bends back; the middle one of three links is it."""
    xz = np.zeros((9, 2))
    route = [0, 1, 2, 3, 4, 5, 6]
    heads = {(0, 1): 0, (1, 2): 0, (2, 3): 0, (3, 4): 40, (4, 5): 0, (5, 6): 0, (3, 7): 75, (3, 8): 320}
    links = [(a, head, b) for (a, b), head in heads.items()] + [
        (b, (head + 180) % 360, a) for (a, b), head in heads.items()
    ]
    graph = StreetGraph([str(k) for k in range(9)], xz, np.array(links))
    (junction,) = find_junctions(graph, route)
    assert (junction.place, junction.turn) == (3, 0) and junction.left and junction.straight and junction.right
    (turned,) = find_junctions(graph, [0, 1, 2, 3, 7])
    assert turned.turn == 1


def test_sides_of_links():
    bends = np.array([[-178, -38, 49, 67], [-90, 95, 180, 0], [10, 85, 179, 0], [-2, 180, 0, 0]])
    there = np.array([[True] * 4, [True, True, True, False], [True, True, True, False], [True, True, False, False]])
    found = link_sides(bends, bends, there)
    assert found[0].tolist() == [LEADS_BACK, -1, 0, 1], "of three the middle one leads straight on"
    assert found[1].tolist() == [-1, 1, LEADS_BACK, NO_LINK], "a T"
    assert found[2].tolist() == [0, 1, LEADS_BACK, NO_LINK], "a side street"
    assert found[3].tolist() == [0, LEADS_BACK, NO_LINK, NO_LINK]
