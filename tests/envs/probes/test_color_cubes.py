import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import ColorCubesOracle

UP, RIGHT, DOWN, LEFT = range(4)


def disabled(n, seed=0, **kwargs):
    env = make_vec("ColorCubes-v0", n, autoreset_mode="DISABLED", **kwargs)
    return env, env.reset(seed=seed)[0]


def run(env, observed, policy):
    """Play until all rows end; return the returns (N,) and success (N,)."""
    total, success, done = np.zeros(env.num_envs), np.zeros(env.num_envs, bool), np.zeros(env.num_envs, bool)
    for _ in range(5000):
        observed, reward, terminated, truncated, info = env.step(policy(env, observed))
        assert not truncated.any() and not reward[done].any()
        total += reward
        done |= terminated
        success |= info.get("success", False)
        if done.all():
            return total, success
    raise AssertionError("episodes did not end")


def oracle(env, observed):
    return ColorCubesOracle().act(observed, {}, None, env.privileged())[0]


def cell(place, grid=8):
    return np.rint(place * (grid - 1)).astype(int)


@pytest.mark.parametrize("level", ["trivial", "medium", "extreme"])
def test_the_oracle_earns_one(level):
    env, observed = disabled(1500, level=level)
    total, success = run(env, observed, oracle)
    assert success.all() and total == pytest.approx(np.ones(1500), abs=1e-5)


def test_a_trivial_episode_by_hand():
    env, observed = disabled(50, level="trivial", grid=5)
    facts = env.privileged()
    assert (observed[:, 2:4] == 1).all() and (observed[:, 6] == 1).all()
    assert np.array_equal(cell(observed[:, :2], 5), facts["cubes_agent"])
    assert np.array_equal(cell(observed[:, 4:6], 5), facts["cubes_places"][:, 0])
    hidden = env.step(np.full(50, UP))[0]
    assert np.array_equal(hidden[:, :2], observed[:, :2]) and (hidden[:, 2:] == 0).all(), "an update takes one step"
    row = cell(hidden[:, 0], 5)
    moved, reward, terminated, _, _ = env.step(np.full(50, UP))
    assert np.array_equal(cell(moved[:, 0], 5), np.maximum(row - 1, 0)) and (moved[:, 2:] == 0).all()
    reached = (env.privileged()["cubes_agent"] == facts["cubes_places"][:, 0]).all(1)
    assert np.array_equal(reward, reached) and np.array_equal(terminated, reached)
    for _ in range(7):
        # Row 0 is the border: the rest of the 2 (5 - 1) moves is spent there.
        _, reward, terminated, _, _ = env.step(np.full(50, UP))
    assert terminated.all()


def test_a_reached_cube_moves_and_another_target_is_named():
    env, observed = disabled(300, level="medium", teleport=0.0, phases=2)
    seen = np.zeros(300, bool)
    for _ in range(16):
        before = env.privileged()
        observed, reward, terminated, _, _ = env.step(oracle(env, observed))
        after, new = env.privileged(), (reward > 0) & ~terminated
        assert (reward[new] == 0.5).all() and (observed[new, 2:4] == 1).all()
        assert (after["cubes_target"][new] != before["cubes_target"][new]).all()
        moved = (after["cubes_places"] != before["cubes_places"]).any(2)
        assert np.array_equal(moved.sum(1), new.astype(int))
        rows = np.flatnonzero(new)
        assert moved[rows, before["cubes_target"][rows]].all()
        assert (observed[rows, 14 + after["cubes_target"][rows]] == 1).all()
        assert np.array_equal(cell(observed[rows, 4:14]).reshape(-1, 5, 2), after["cubes_places"][rows])
        assert (observed[~new][:, 2:] == 0).all()
        seen |= new
    assert seen.all()


def test_teleports_come_at_their_rate_and_are_shown():
    env, observed = disabled(2000, level="medium", teleport=0.2)
    rng = np.random.default_rng(0)
    jumps = moves = 0
    for _ in range(10):
        before, free = env.privileged(), observed[:, 2] == 0
        observed, reward, terminated, _, _ = env.step(rng.integers(0, 4, 2000))
        after = env.privileged()
        which = (after["cubes_places"] != before["cubes_places"]).any(2)
        moved = which.sum(1)
        plain = free & (reward == 0) & ~terminated
        jumps, moves = jumps + moved[plain].sum(), moves + plain.sum()
        assert moved.max() <= 1 and np.array_equal(moved[plain] > 0, observed[plain, 2] == 1)
        assert (observed[plain, 14:] == 0).all(), "a teleport does not name the target"
        places = after["cubes_places"] @ [8, 1]
        assert all(len(set(row)) == 5 for row in places.tolist())
        assert not (places == (after["cubes_agent"] @ [8, 1])[:, None])[which].any(), "never onto the agent"
        if terminated.any():
            break
    assert jumps / moves == pytest.approx(0.2, abs=0.02)


def test_extreme_updates_list_places_without_colours():
    env, observed = disabled(400, level="extreme", teleport=0.3)
    assert (observed[:, 3] == 1).all(), "the first one shows colours"
    found = 0
    for _ in range(12):
        observed, reward, terminated, _, _ = env.step(oracle(env, observed))
        assert (observed[:, 3] == 0).all()
        rows = np.flatnonzero(observed[:, 2] == 1)
        listed = cell(observed[rows, 4:14]).reshape(-1, 5, 2) @ [8, 1]
        assert np.array_equal(listed, np.sort(env.privileged()["cubes_places"][rows] @ [8, 1], axis=1))
        found += len(rows)
    assert found > 500


def loop(grid):
    """Return the action (G * G,) of a closed walk through all cells, G even."""
    action = np.zeros((grid, grid), int)
    action[0] = RIGHT
    for row in range(grid):
        action[row, 1:] = RIGHT if row % 2 == 0 else LEFT
        action[row, -1 if row % 2 == 0 else 1] = DOWN
    action[-1, 1:] = LEFT
    action[:, 0] = UP
    action[0, 0] = RIGHT
    return action.reshape(-1)


def test_the_loop_without_memory_scores_as_stated():
    walk = loop(8)
    at, visited = 0, set()
    for _ in range(64):
        visited.add(at)
        at += {UP: -8, DOWN: 8, LEFT: -1, RIGHT: 1}[walk[at]]
    assert at == 0 and len(visited) == 64

    def react(env, observed):
        return walk[cell(observed[:, :2]) @ [8, 1]]

    env, observed = disabled(3000, level="trivial")
    assert run(env, observed, react)[0].mean() == pytest.approx(14 / 63, abs=3 * np.sqrt(14 * 49 / 63**2 / 3000))
    env, observed = disabled(3000, level="medium")
    total, success = run(env, observed, react)
    assert total.mean() == pytest.approx(0.09, abs=0.015) and success.mean() == pytest.approx(0.01, abs=0.01)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"level": "hard"}, "unknown difficulty 'hard'.*trivial"),
        ({"grid": 2}, "grid >= 3"),
        ({"cubes": 63}, r"cubes in \[1, 62\]"),
        ({"phases": 0}, "phases >= 1"),
        ({"teleport": 1.0}, "teleport < 1"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("ColorCubes-v0", 1, **kwargs)
