"""The Touchdown graph and the dev splits as they are published; skipped without data."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.envs.street.data import split_file
from embodied_mem.envs.street.episodes import read_episodes
from embodied_mem.envs.street.graph import graph_file, read_graph, touchdown_graph
from embodied_mem.envs.street.writer import write_episodes

pytestmark = pytest.mark.data


@pytest.fixture(autouse=True)
def needs_data():
    if not (Path(os.environ.get("EMBODIED_MEM_DATA", "")) / "touchdown" / "nodes.txt.gz").is_file():
        pytest.skip("EMBODIED_MEM_DATA holds no street graph")


def test_the_graph_loads_fast_and_is_what_was_published():
    began = time.process_time()
    graph = read_graph(graph_file("nodes.txt"), graph_file("links.txt"))
    assert time.process_time() - began < 3.0
    assert len(graph.names) == 29_641 and len(graph.links) == 61_319
    assert np.bincount(graph.out_degree).tolist() == [0, 214, 28_056, 496, 870, 5]
    assert int(graph.unseen.sum()) == 9_003
    length = np.linalg.norm(graph.xz[graph.links[:, 0]] - graph.xz[graph.links[:, 2]], axis=1)
    assert np.median(length) == pytest.approx(10.0, abs=0.1)


@pytest.mark.parametrize(
    ("dataset", "split", "low", "high", "mean", "shortest"),
    [
        ("touchdown", "dev_unseen", 2, 66, 33.7, 382),
        ("map2seq", "dev_unseen", 35, 45, 40.0, 800),
        ("map2seq", "dev_seen", 35, 45, 40.0, 800),
    ],
)
def test_routes_are_connected_and_have_their_statistics(dataset, split, low, high, mean, shortest):
    graph = touchdown_graph()
    found = read_episodes(split_file(dataset, split), graph)
    assert len(found) == 800 and found.length.min() == low and found.length.max() == high
    assert found.length.mean() == pytest.approx(mean, abs=0.15)
    links = set(zip(graph.links[:, 0].tolist(), graph.links[:, 2].tolist()))
    for route, length in zip(found.route.tolist(), found.length.tolist()):
        assert all(pair in links for pair in zip(route[: length - 1], route[1:length]))
    ends = found.route[np.arange(800), found.length - 1]
    hops = graph.hops(found.route[:, 0], ends)
    assert int((hops == found.length - 1).sum()) == shortest


def test_synthetic_training_routes_avoid_the_unseen_area():
    graph = touchdown_graph()
    found = write_episodes(graph, "train", "map2seq", 50, seed=0)
    assert not graph.unseen[found.route[found.route >= 0]].any()
