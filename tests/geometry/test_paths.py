import networkx as nx
import numpy as np
import pytest

from embodied_mem.geometry import Grid, distance_field, field_at, graph_distances, graph_path, grid_path
from embodied_mem.geometry._grid_kernels import MOVES, move_is_free


def random_grid(seed, shape=(14, 17), blocked=0.25, cell=0.2):
    free = np.random.default_rng(seed).random(shape) > blocked
    free[0, 0] = True
    return Grid(free, cell, x0=-1.0, z0=0.5)


def networkx_field(grid, goal, neighbours):
    graph = nx.DiGraph()
    for r, c in np.argwhere(grid.free):
        graph.add_node((r, c))
        for dr, dc in MOVES[:neighbours]:
            if move_is_free(grid.free, r, c, dr, dc):
                graph.add_edge((r, c), (r + dr, c + dc), weight=grid.cell * np.hypot(dr, dc))
    out = np.full(grid.free.shape, np.inf)
    for node, value in nx.single_source_dijkstra_path_length(graph, goal).items():
        out[node] = value
    return out


@pytest.mark.parametrize("neighbours", [4, 8, 16])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_field_equals_an_independent_dijkstra(seed, neighbours):
    grid = random_grid(seed)
    got = distance_field(grid, np.array([[0, 0]]), neighbours=neighbours)
    np.testing.assert_allclose(got, networkx_field(grid, (0, 0), neighbours), rtol=1e-5, atol=1e-6)


def test_sixteen_moves_are_within_three_percent_of_the_straight_line():
    grid = Grid(np.ones((61, 61), bool), 0.1)
    field = distance_field(grid, np.array([[30, 30]]))
    rows, columns = np.indices(field.shape)
    straight = 0.1 * np.hypot(rows - 30, columns - 30)
    far = straight > 0
    ratio = field[far] / straight[far]
    assert ratio.min() > 1 - 1e-5 and ratio.max() < 1.028


def test_no_move_squeezes_between_two_diagonal_obstacles():
    free = np.ones((2, 2), bool)
    free[0, 1] = free[1, 0] = False
    field = distance_field(Grid(free, 1.0), np.array([[0, 0]]))
    assert np.isinf(field[1, 1])


def test_goal_costs_and_mask_goals():
    grid = Grid(np.ones((1, 9), bool), 1.0)
    field = distance_field(grid, np.array([[0, 0], [0, 8]]), costs=np.array([0.0, 5.0]))
    np.testing.assert_allclose(field[0], [0, 1, 2, 3, 4, 5, 6, 6, 5])
    mask = np.zeros((1, 9), bool)
    mask[0, [0, 8]] = True
    np.testing.assert_allclose(distance_field(grid, mask)[0], [0, 1, 2, 3, 4, 3, 2, 1, 0])


def test_wrong_arguments_name_what_was_expected():
    grid = Grid(np.ones((3, 3), bool), 1.0)
    with pytest.raises(ValueError, match="neighbours in"):
        distance_field(grid, np.array([[0, 0]]), neighbours=5)
    with pytest.raises(ValueError, match="expected goals"):
        distance_field(grid, np.zeros((2, 3)))


@pytest.mark.parametrize("seed", range(5))
def test_path_has_the_length_the_field_promises(seed):
    grid = random_grid(seed, (20, 20), 0.2)
    field = distance_field(grid, np.array([[0, 0]]))
    cells = np.argwhere(np.isfinite(field))
    start = grid.centres_of(cells[field[tuple(cells.T)].argmax()])
    path = grid_path(field, grid, start)
    length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    assert length == pytest.approx(field[np.isfinite(field)].max(), rel=1e-4)
    assert (grid.cells_of(path[-1]) == 0).all()


def test_path_from_a_cut_off_place_is_refused():
    free = np.ones((5, 5), bool)
    free[:, 2] = False
    grid = Grid(free, 1.0)
    field = distance_field(grid, np.array([[0, 0]]))
    with pytest.raises(ValueError, match="reaches a goal"):
        grid_path(field, grid, np.array([4.9, 0.5]) + 3)


def test_point_values_are_continuous_and_close_to_the_cells():
    grid = Grid(np.ones((20, 20), bool), 0.25, x0=1.0, z0=-2.0)
    field = distance_field(grid, np.array([[10, 10]]))
    line = np.stack([np.linspace(1.2, 5.8, 400), np.full(400, 1.3)], 1)
    values = field_at(field, grid, line)
    assert np.abs(np.diff(values)).max() < grid.cell / 3
    straight = np.linalg.norm(line - grid.centres_of(np.array([10, 10])), axis=1)
    assert (values >= straight - 1e-5).all() and (values <= 1.03 * straight + 0.5 * grid.cell).all()


def test_cells_and_centres_are_inverse():
    grid = Grid(np.ones((7, 5), bool), 0.3, x0=-2.0, z0=4.0)
    cells = np.argwhere(grid.free)
    np.testing.assert_array_equal(grid.cells_of(grid.centres_of(cells)), cells)
    np.testing.assert_array_equal(grid.cells_of(np.array([[99.0, -99.0]])), [[0, 4]])


def test_graph_distances_and_path_match_networkx():
    rng = np.random.default_rng(3)
    edges = rng.integers(0, 30, (60, 2))
    edges = edges[edges[:, 0] != edges[:, 1]]
    weights = rng.uniform(0.1, 2.0, len(edges))
    graph = nx.Graph()
    graph.add_nodes_from(range(30))
    for (a, b), weight in zip(edges, weights):
        if not graph.has_edge(a, b) or graph[a][b]["weight"] > weight:
            graph.add_edge(a, b, weight=weight)
    got = graph_distances(30, edges, np.array([4]), weights)[0]
    for node, value in nx.single_source_dijkstra_path_length(graph, 4).items():
        assert got[node] == pytest.approx(value)
    target = int(np.argmax(np.where(np.isfinite(got), got, -1)))
    path = graph_path(30, edges, 4, target, weights)
    assert nx.path_weight(graph, path, "weight") == pytest.approx(got[target])


def test_graph_without_a_path_gives_an_empty_list_and_hops_are_the_default():
    edges = np.array([[0, 1], [1, 2]])
    assert graph_path(4, edges, 0, 3) == []
    np.testing.assert_array_equal(graph_distances(4, edges, np.array([0]))[0], [0, 1, 2, np.inf])
    with pytest.raises(ValueError, match="node indices"):
        graph_distances(2, edges, np.array([0]))
