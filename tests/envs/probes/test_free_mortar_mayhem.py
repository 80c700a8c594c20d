import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import FreeMovementOracle

MOVES = np.array([(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)])


def disabled(n, seed=0, obs="vector", **kwargs):
    env = make_vec("FreeMortarMayhem-v0", n, autoreset_mode="DISABLED", obs=obs, **kwargs)
    return env, env.reset(seed=seed)[0]


def run(env, observed, policy):
    """Play until all rows end; return the returns (N,), success (N,) and steps of each (N,)."""
    n = env.num_envs
    total, success, steps, done = np.zeros(n), np.zeros(n, bool), np.zeros(n, int), np.zeros(n, bool)
    for _ in range(400):
        observed, reward, terminated, truncated, info = env.step(policy(env, observed))
        total, steps = total + reward, steps + ~done
        success |= info.get("success", False)
        done = terminated | truncated
        if done.all():
            return total, success, steps
    raise AssertionError("episodes did not end")


def oracle(env, observed):
    return FreeMovementOracle().act(observed, {}, None, env.privileged())[0]


@pytest.mark.parametrize("kwargs", [{}, {"moves": 5, "time": 12, "commands": 5}])
def test_the_oracle_carries_out_every_command(kwargs):
    env, observed = disabled(300, **kwargs)
    total, success, steps = run(env, observed, oracle)
    count = kwargs.get("commands", 10)
    assert success.all() and total == pytest.approx(0.1 * count)
    assert (steps == count * 4 + count * (kwargs.get("time", 18) + 6)).all()


def test_the_agent_moves_three_pixels_in_eight_directions_and_stays_inside():
    env, observed = disabled(9, commands=1)
    for _ in range(4):
        started = observed[:, :2].copy()
        observed = env.step(np.full((9, 2), 2))[0]
        assert np.array_equal(observed[:, :2], started), "actions are ignored while commands show"
    pixels = observed[:, :2] * 80
    assert np.allclose(pixels % 16, 8), "it starts in the middle of a tile"
    actions = np.stack(np.divmod(np.arange(9), 3), axis=1)
    way = np.array([0.0, -1.0, 1.0])[actions][:, ::-1] * 3
    way[(actions > 0).all(1)] *= np.sqrt(0.5)
    moved = env.step(actions)[0][:, :2] * 80
    assert np.allclose(moved, np.clip(pixels + way, 6, 74), atol=1e-4)
    for _ in range(16):
        moved = env.step(np.full((9, 2), 1))[0][:, :2] * 80
    assert moved.min() >= 6 - 1e-4


def test_who_remembers_the_list_succeeds_and_wrong_tiles_burn():
    rows = 200
    env, observed = disabled(rows, commands=3)
    shown, at = [], np.floor(observed[:, :2] * 5).astype(int)
    for t in range(12):
        if t % 4 == 0:
            shown.append(observed[:, 2:11].argmax(1))
        observed = env.step(np.zeros((rows, 2), np.int64))[0]
    total, target = np.zeros(rows), at
    for k in range(3):
        # Rows below 100 keep to the list, the others stay where they are.
        target = target + MOVES[shown[k]]
        for step in range(24):
            way = ((target + 0.5) * 16 - observed[:, :2] * 80)[:, ::-1]
            action = np.where(way > 1.5, 2, np.where(way < -1.5, 1, 0))
            action[100:] = 0
            observed, reward, terminated, _, info = env.step(action)
            total += reward
            if k == 0:
                burnt = (shown[0] != 4) & (np.arange(rows) >= 100)
                assert np.array_equal(terminated, burnt & (step >= 17)), "the tiles burn after eighteen steps"
                assert (observed[~terminated, 11] == (17 <= step < 23)).all()
    assert info["success"][:100].all() and total[:100] == pytest.approx(0.3)
    stays = np.stack(shown) == 4
    assert total[100:] == pytest.approx(0.1 * np.cumprod(stays, axis=0).sum(0)[100:])


def test_standing_still_scores_as_stated():
    env, observed = disabled(3000)
    total, success, _ = run(env, observed, lambda env, seen: np.zeros((3000, 2), np.int64))
    assert total.mean() == pytest.approx(0.02, abs=0.004) and not success.any()


def test_pictures_show_the_agent_where_the_vector_says():
    pixels, observed = disabled(30, obs="pixels", commands=2)
    vector, told = disabled(30, commands=2)
    burnt = np.zeros(30, bool)
    for _ in range(40):
        blue = (observed == [60, 160, 255]).all(3)
        hidden = (observed[:, 34:50, 34:50] == [255, 230, 60]).all(3).any((1, 2))
        for row in np.flatnonzero(~hidden & ~burnt):
            middle = np.argwhere(blue[row]).mean(0)
            assert middle + 0.5 == pytest.approx(told[row, :2] * 80 + 2, abs=0.51)
        fire = (observed == [200, 50, 20]).all(3).any((1, 2))
        assert np.array_equal(fire, told[:, 11] == 1)
        played = oracle(vector, told)
        observed, (told, _, burnt, _, _) = pixels.step(played)[0], vector.step(played)


@pytest.mark.parametrize(
    ("kwargs", "expected"), [({"obs": "text"}, "'pixels' or 'vector'"), ({"time": 11}, "time >= 12")]
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("FreeMortarMayhem-v0", 1, **kwargs)
