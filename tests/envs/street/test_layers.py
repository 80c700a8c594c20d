"""The made-up town, the landmark layer, synthetic instructions, sensors, and panorama features that users bring."""

import pickle

import numpy as np
import pytest

from embodied_mem.envs.street.env import BatchedStreet
from embodied_mem.envs.street.landmarks import NAMES, SIGHT, place_landmarks, view_of
from embodied_mem.envs.street.panoramas import Panoramas
from embodied_mem.envs.street.sensors import vector_names
from embodied_mem.envs.street.town import town_graph
from embodied_mem.envs.street.writer import decisions, write_episodes
from embodied_mem.errors import UsageError
from embodied_mem.spaces import decode_text


def test_the_town_is_one_part_with_streets_both_ways():
    graph = town_graph(0)
    n = len(graph.names)
    assert np.isfinite(graph.hops(np.zeros(n, int), np.arange(n))).all()
    assert {2, 3, 4} <= set(graph.out_degree.tolist()) and 0.2 < graph.unseen.mean() < 0.4
    pairs = {(a, b) for a, _, b in graph.links.tolist()}
    assert pairs == {(b, a) for a, b in pairs}
    assert town_graph(1).names != graph.names


def test_landmarks_are_seeded_sparse_and_near():
    graph = town_graph(0)
    layer, again, other = place_landmarks(graph, 3), place_landmarks(graph, 3), place_landmarks(graph, 4)
    assert np.array_equal(layer.name, again.name) and not np.array_equal(layer.first, other.first)
    assert layer.distance.max() <= SIGHT and layer.name.max() < len(NAMES) == len(set(NAMES))
    # About one per 60 m of street, each seen from a handful of panoramas.
    assert 0.5 < len(layer.name) / len(graph.names) < 1.5


def test_views_are_five_and_nothing_is_behind():
    assert [view_of(bearing, 0) for bearing in (270, 315, 0, 45, 90)] == [0, 1, 2, 3, 4]
    assert view_of(180, 0) is None and view_of(247, 0) is None and view_of(248, 0) == 0
    assert view_of(10, 350) == 2


@pytest.mark.parametrize(("style", "low", "high"), [("map2seq", 35, 45), ("touchdown", 10, 60)])
def test_routes_are_shortest_and_keep_to_their_area(style, low, high):
    graph = town_graph(0)
    for split, area in (("train", ~graph.unseen), ("test", graph.unseen)):
        found = write_episodes(graph, split, style, 60, seed=1)
        assert len(found) == 60 and found.length.min() >= low and found.length.max() <= high
        for route, length, heading in zip(found.route, found.length, found.heading):
            assert area[route[:length]].all()
            inside = graph.hops(route[0], route[length - 1])
            # Shortest inside the area; over the whole town there may be a shorter one.
            assert inside <= length - 1
            first = graph.link_heading(int(route[0]), int(route[1]))
            assert heading == (0 if style == "touchdown" else first)
    repeated = write_episodes(graph, "test", style, 60, seed=1)
    assert repeated.texts == found.texts and repeated.texts != write_episodes(graph, "test", style, 60, 2).texts


def test_texts_name_every_turn_of_their_route():
    graph = town_graph(0)
    found = write_episodes(graph, "train", "map2seq", 80, seed=0)
    for text, route, length in zip(found.texts, found.route, found.length):
        turns = [item.turn for item in decisions(graph, route[:length]) if item.turn]
        words = text.lower().replace("on the left", "").replace("on the right", "").replace("on your ", "")
        said = [
            1 if word.strip(".,") == "right" else -1 for word in words.split() if word.strip(".,") in ("left", "right")
        ]
        said = said[1:] if words.startswith("turn ") and len(said) > len(turns) else said
        # "right before", the only other use of the word, follows the last turn.
        assert said[: len(turns)] == turns and "stop" in words


def test_too_small_an_area_is_an_error(city):
    with pytest.raises(UsageError, match="found 0 of 5 routes"):
        BatchedStreet(1, graph="touchdown", items=5)


def test_every_sensor_fits_its_space():
    sensors = ("vector", "instruction", "landmarks", "text_obs", "pose")
    env = BatchedStreet(5, sensors=sensors, items=20, semantics="velma", autoreset_mode="NEXT_STEP")
    obs, _ = env.reset(seed=0)
    for k in range(80):
        assert set(obs) == set(sensors) and env.observation_space.contains(obs)
        obs = env.step(np.full(5, 0 if k % 7 else 1))[0]
    assert obs["landmarks"].sum() > 0


def test_the_vector_holds_what_it_says(city):
    env = BatchedStreet(1, data="touchdown", order="listed", sensors=("vector", "pose"), autoreset_mode="DISABLED")
    obs, _ = env.reset(seed=0, options={"episode": np.array([1])})
    named = dict(zip(vector_names(), obs["vector"][0].tolist()))
    assert named["junction_2"] == 1 and named["angle_0"] == 0 and named["angle_1"] == 1 and named["link_2"] == 0
    assert named["last_forward"] == named["step"] == 0
    env.step(np.array([0]))
    obs = env.step(np.array([1]))[0]
    named = dict(zip(vector_names(), obs["vector"][0].tolist()))
    assert named["junction_4"] == 1 and named["heading_change"] == -0.5 and named["last_left"] == 1
    assert [named[f"angle_{k}"] for k in range(4)] == pytest.approx([-0.5, 0.0, 0.5, 1.0])
    assert named["step"] == pytest.approx(2 / 55)
    assert obs["pose"][0] == pytest.approx([0.0, 0.0, 10.0, -np.pi / 2, 0.0], abs=0.01), (
        "ten metres ahead, looking left"
    )


def test_text_observations_announce_junctions(city):
    env = BatchedStreet(1, data="touchdown", order="listed", sensors=("text_obs",), autoreset_mode="DISABLED")
    obs, _ = env.reset(seed=0, options={"episode": np.array([1])})
    assert "intersection" not in decode_text(obs["text_obs"][0])
    text = decode_text(env.step(np.array([0]))[0]["text_obs"][0])
    assert text.startswith("You reach an intersection of 4 streets.") and "0 go forward, 1 turn left" in text
    assert "intersection" not in decode_text(env.step(np.array([1]))[0]["text_obs"][0]), "only on arrival"


def test_features_in_a_folder_turn_with_the_heading(city, tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    for name in "bcde":
        np.save(folder / f"{name}.npy", np.tile(np.arange(8.0), (2, 1)))
    env = BatchedStreet(
        1, data="touchdown", order="listed", sensors=("panorama",), panoramas=folder, autoreset_mode="DISABLED"
    )
    obs, _ = env.reset(seed=0, options={"episode": np.array([1])})
    # Heading 90 is two of eight columns clockwise from the yaw 0 in the middle.
    assert obs["panorama"].shape == (1, 2, 8) and obs["panorama"][0, 0, 4] == 6.0
    assert env.observation_space.contains(obs)
    with pytest.raises(UsageError, match="no features of panorama 'n'"):
        env.panoramas.look(env.graph.index["n"], 0)


def test_features_in_a_pickle_are_the_nearest_heading(city, tmp_path):
    graph = BatchedStreet(1, data="touchdown").graph
    path = tmp_path / "features.pickle"
    path.write_bytes(pickle.dumps({"b": {90: np.ones((5, 3)), 270: np.zeros((5, 3))}}))
    features = Panoramas(path, graph)
    assert features.shape == (5, 3) and features.look(graph.index["b"], 40).max() == 1.0
    assert features.look(graph.index["b"], 200).max() == 0.0
    path.write_bytes(pickle.dumps({"b": Panoramas}))
    with pytest.raises(UsageError, match="which is not read"):
        Panoramas(path, graph)
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(UsageError, match="at least one panorama"):
        Panoramas(path, graph)
    with pytest.raises(UsageError, match="found nothing there"):
        Panoramas(tmp_path / "none", graph)
