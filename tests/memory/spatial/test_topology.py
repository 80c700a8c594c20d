"""Nodes by novelty, loops that revisit, running means, edges by the rule, planning equal to networkx."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial.planning import a_star, distances, trace
from embodied_mem.memory.spatial.topology import TopologyConfig, TopologyGraph
from embodied_mem.memory.state import merge, select


def random_graphs(count, N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.rand(count, N, N, generator=generator, dtype=torch.float64) + 0.01
    density = torch.rand(count, 1, 1, generator=generator) * 0.5
    weights = weights.masked_fill(torch.rand(count, N, N, generator=generator) > density, torch.inf)
    return weights


def test_planning_equals_networkx_on_200_random_graphs():
    nx = pytest.importorskip("networkx")
    count, N = 200, 12
    weights = random_graphs(count, N)
    source, target = (torch.randint(N, (count,), generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    best, before = distances(weights, source)
    paths = trace(before, source, target)
    unreachable = 0
    for k in range(count):
        graph = nx.DiGraph()
        graph.add_nodes_from(range(N))
        graph.add_weighted_edges_from(
            (i, j, float(weights[k, i, j])) for i, j in weights[k].isfinite().nonzero().tolist()
        )
        want = nx.single_source_dijkstra_path_length(graph, int(source[k]))
        for node in range(N):
            assert float(best[k, node]) == pytest.approx(want.get(node, float("inf")), abs=1e-12)
        path = [node for node in paths[k].tolist() if node >= 0]
        free = a_star(weights[k], int(source[k]), int(target[k]), torch.zeros(N))
        if int(target[k]) not in want:
            assert path == [] and free == []
            unreachable += 1
            continue
        for found in (path, free):
            assert found[0] == int(source[k]) and found[-1] == int(target[k])
            assert nx.path_weight(graph, found, "weight") == pytest.approx(want[int(target[k])], abs=1e-12)
    assert 10 < unreachable < 150


def test_a_star_with_straight_distances_finds_the_shortest_way():
    places = torch.rand(20, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    metres = torch.cdist(places, places)
    weights = metres.masked_fill((metres > 0.4) | (metres == 0), torch.inf)
    best, _ = distances(weights.unsqueeze(0), torch.tensor([0]))
    for target in range(20):
        path = a_star(weights, 0, target, metres[:, target])
        length = sum(float(weights[a, b]) for a, b in zip(path, path[1:]))
        assert (path == [] and not best[0, target].isfinite()) or length == pytest.approx(float(best[0, target]))


def test_closed_nodes_are_not_entered():
    line = torch.full((1, 3, 3), torch.inf)
    line[0, 0, 1] = line[0, 1, 2] = 1.0
    assert distances(line, torch.tensor([0]))[0].tolist() == [[0.0, 1.0, 2.0]]
    best, _ = distances(line, torch.tensor([0]), torch.tensor([[True, False, True]]))
    assert best[0, 2].isinf()


def ring(places=8):
    angle = torch.arange(places) * (2 * torch.pi / places)
    return torch.eye(places), torch.stack([angle.sin(), torch.zeros(places), angle.cos()], -1) * 5


def walk(graph, state, order, features, places, noise=0.0, cost=None):
    generator = torch.Generator().manual_seed(0)
    visits = []
    for node in order:
        v = features[node] + noise * torch.randn(features.shape[1], generator=generator)
        visit, state = graph.advance(v.unsqueeze(0), places[node].unsqueeze(0), state, cost=cost)
        visits.append(visit)
    return visits, state


def test_ten_laps_of_eight_places_make_eight_nodes_and_one_loop_closure():
    graph = TopologyGraph(TopologyConfig(dim=8, nodes=16))
    features, places = ring()
    visits, state = walk(graph, graph.initial_state(1), list(range(8)) * 10, features, places, noise=0.05)
    assert int((state["time"] >= 0).sum()) == 8 and sum(int(v.new) for v in visits) == 8
    assert [k for k, v in enumerate(visits) if v.closed] == [8]
    assert state["visits"][0, :8].tolist() == [10] * 8
    assert torch.allclose(state["place"][0, :8], places, atol=1e-5)
    side = 2 * 5 * torch.sin(torch.tensor(torch.pi / 8))
    assert int(state["weight"].isfinite().sum()) == 16
    assert torch.allclose(state["weight"][0, 7, 0], side, atol=1e-5)
    # from place 7 the short way to 1 leads over 0
    path, total = graph.plan(state, torch.tensor([1]))
    assert path[0, :4].tolist() == [7, 0, 1, -1] and float(total) == pytest.approx(2 * float(side), abs=1e-4)


def test_edges_count_metres_and_the_instruction_and_are_averaged():
    graph = TopologyGraph(TopologyConfig(dim=2, nodes=4))
    features, places = torch.eye(2), torch.tensor([[0.0, 0, 0], [3.0, 0, 4.0]])
    _, state = walk(graph, graph.initial_state(1), [0, 1], features, places, cost=torch.tensor([2.0]))
    assert float(state["weight"][0, 0, 1]) == pytest.approx(5.0 + 0.5 * 2.0)
    _, state = walk(graph, state, [0], features, places)
    assert float(state["weight"][0, 1, 0]) == float(state["weight"][0, 0, 1]) == pytest.approx((6.0 + 5.0) / 2)


def test_features_are_normalised_and_a_radius_tells_twins_apart():
    features, places = torch.tensor([[1.0, 0], [100.0, 0]]), torch.tensor([[0.0, 0, 0], [9.0, 0, 0]])
    for radius, nodes in ((0.0, 1), (2.0, 2)):
        graph = TopologyGraph(TopologyConfig(dim=2, nodes=4, radius=radius))
        _, state = walk(graph, graph.initial_state(1), [0, 1], features, places)
        assert int((state["time"] >= 0).sum()) == nodes


def test_a_full_graph_gives_up_the_node_visited_longest_ago_with_its_edges():
    graph = TopologyGraph(TopologyConfig(dim=8, nodes=3))
    features, places = ring()
    visits, state = walk(graph, graph.initial_state(1), [0, 1, 2, 3], features, places)
    assert visits[-1].new and int(visits[-1].node) == 0 and state["visits"][0].tolist() == [1, 1, 1]
    assert not state["weight"][0, 0, 1].isfinite() and state["weight"][0, 0, 2].isfinite()


def test_a_proposed_loop_becomes_an_edge_and_nothing_is_proposed_with_minus_one():
    graph = TopologyGraph(TopologyConfig(dim=8, nodes=8))
    features, places = ring()
    _, state = walk(graph, graph.initial_state(1), [0, 1, 2, 3], features, places)
    closed = graph.propose(state, torch.tensor([0]))
    assert graph.plan(closed, torch.tensor([0]))[0][0, :3].tolist() == [3, 0, -1]
    untouched = graph.propose(state, torch.tensor([-1]))
    assert all(torch.equal(untouched[key], state[key]) for key in state)
    # a node that does not exist cannot be reached
    assert graph.plan(state, torch.tensor([7]))[1].isinf().all()
    assert graph.plan(graph.initial_state(1), torch.tensor([0]))[0].max() == -1


def test_rows_are_independent_and_reset_alone():
    graph = TopologyGraph(TopologyConfig(dim=8, nodes=8))
    generator = torch.Generator().manual_seed(1)
    state = graph.initial_state(3)
    alone = [select(state, [row]) for row in range(3)]
    for t in range(20):
        v, p = torch.randn(3, 8, generator=generator), torch.randn(3, 3, generator=generator)
        reset = torch.tensor([t == 9, False, t % 5 == 0])
        _, state = graph.advance(v, p, state, reset)
        alone = [graph.advance(v[r : r + 1], p[r : r + 1], alone[r], reset[r : r + 1])[1] for r in range(3)]
    want = merge(alone)
    assert all(torch.allclose(state[key].double(), want[key].double()) for key in state)
    assert state["clock"].tolist() == [11, 20, 5]


def test_bad_sizes_are_refused():
    with pytest.raises(UsageError, match="0 < delta < 2"):
        TopologyConfig(delta=2.5)
    graph = TopologyGraph(TopologyConfig(dim=8))
    with pytest.raises(UsageError, match="expected feature"):
        graph.advance(torch.zeros(1, 7), torch.zeros(1, 3), graph.initial_state(1))
