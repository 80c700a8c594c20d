"""The contracted hop table equals breadth-first search on graphs of every shape that streets have."""

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.geometry.graphs import graph_distances
from embodied_mem.geometry.hops import HopTable


def compare(num_nodes, edges):
    edges = np.array(edges, dtype=np.int64).reshape(-1, 2)
    nodes = np.arange(num_nodes)
    ours = HopTable(num_nodes, edges).hops(nodes[:, None], nodes[None])
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[both[:, 0] != both[:, 1]]
    assert np.array_equal(ours, graph_distances(num_nodes, both, nodes))


@pytest.mark.parametrize(
    "edges",
    [
        [[0, 1], [1, 2], [2, 3]],
        [[0, 1], [1, 2], [2, 0]],  # a ring without a junction
        [[0, 1], [1, 2], [2, 3], [3, 1]],  # a loop that hangs on one junction
        [[0, 1], [0, 1], [1, 0], [2, 2]],  # repeats, both ways, a self-loop, nodes apart
        [[0, 1], [1, 2], [0, 3], [3, 2], [0, 4], [4, 5], [5, 2]],  # three chains between two junctions
        [],
    ],
)
def test_shapes(edges):
    compare(7, edges)


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_of_chains(seed):
    rng = np.random.default_rng(seed)
    junctions, edges, count = 6, [], 6
    for _ in range(9):
        a, b = rng.integers(junctions, size=2)
        inner = list(range(count, count + int(rng.integers(0, 5))))
        count += len(inner)
        chain = [int(a), *inner, int(b)]
        edges += list(zip(chain, chain[1:]))
    compare(count, edges)


def test_nodes_outside_are_refused():
    with pytest.raises(UsageError, match=r"node indices in \[0, 2\]"):
        HopTable(3, np.array([[0, 3]]))
    with pytest.raises(UsageError, match=r"node indices in \[0, 2\]"):
        HopTable(3, np.array([[0, 1]])).hops(np.array([0]), np.array([-1]))
