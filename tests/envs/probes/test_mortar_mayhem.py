import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import MortarMayhemOracle

STAY, LEFT, RIGHT, FORWARD = range(4)
MOVES = [(0, 1), (1, 0), (0, -1), (-1, 0), (0, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)]


def disabled(n, seed=0, name="MortarMayhem-v0", obs="vector", **kwargs):
    env = make_vec(name, n, autoreset_mode="DISABLED", obs=obs, **kwargs)
    return env, env.reset(seed=seed)[0]


def run(env, observed, policy):
    """Play until all rows end; return the returns (N,), success (N,) and steps of each (N,)."""
    n = env.num_envs
    total, success, steps, done = np.zeros(n), np.zeros(n, bool), np.zeros(n, int), np.zeros(n, bool)
    for _ in range(3000):
        observed, reward, terminated, truncated, info = env.step(policy(env, observed))
        total, steps = total + reward, steps + ~done
        success |= info.get("success", False)
        done = terminated | truncated
        if done.all():
            return total, success, steps
    raise AssertionError("episodes did not end")


def oracle(env, observed):
    return MortarMayhemOracle().act(observed, {}, None, env.privileged())[0]


def commands_of(seen):
    """Return the shown commands (T, N), -1 for none."""
    return np.where(seen[:, :, 6:15].any(2), seen[:, :, 6:15].argmax(2), -1)


@pytest.mark.parametrize("moves", [5, 9])
def test_commands_are_shown_in_turn_and_lead_to_tiles_of_the_arena(moves):
    env, observed = disabled(500, commands=4, moves=moves, show=2, pause=3)
    seen, start = [observed], np.rint(observed[:, :2] * 4).astype(int)
    for _ in range(20):
        observed = env.step(np.full(500, FORWARD))[0]
        seen.append(observed)
    shown = commands_of(np.stack(seen))
    assert np.array_equal(np.rint(observed[:, :2] * 4), start), "actions are ignored while commands show"
    for k in range(4):
        assert (shown[5 * k : 5 * k + 2] == shown[5 * k]).all() and (shown[5 * k] >= 0).all()
        assert (shown[5 * k + 2 : 5 * k + 5] == -1).all()
        start = start + np.array(MOVES)[shown[5 * k]]
        assert (start >= 0).all() and (start <= 4).all()
    assert set(shown[shown >= 0].tolist()) == set(range(moves))
    assert (shown[20] == -1).all()


@pytest.mark.parametrize("kwargs", [{}, {"moves": 9, "time": 5, "commands": 5}])
def test_the_oracle_carries_out_every_command(kwargs):
    env, observed = disabled(1000, **kwargs)
    total, success, steps = run(env, observed, oracle)
    count = kwargs.get("commands", 10)
    assert success.all() and total == pytest.approx(0.1 * count)
    assert (steps == count * (3 + 1) + count * (kwargs.get("time", 6) + 2)).all()


def test_who_remembers_the_list_succeeds_and_wrong_tiles_burn():
    env, observed = disabled(400, commands=3)
    shown, at = [], np.rint(observed[:, :2] * 4).astype(int)
    for t in range(12):
        if t % 4 == 0:
            shown.append(observed[:, 6:15].argmax(1))
        observed = env.step(np.zeros(400, np.int64))[0]
    total = np.zeros(400)
    for k in range(3):
        # Rows below 200 keep to the list, the others stay where they are.
        at = at + np.array(MOVES)[shown[k]]
        for step in range(8):
            here, heading = np.rint(observed[:, :2] * 4).astype(int), observed[:, 2:6].argmax(1)
            way = at - here
            wanted = np.select([way[:, 1] > 0, way[:, 0] > 0, way[:, 1] < 0], [0, 1, 2], 3)
            turn = (wanted - heading) % 4
            action = np.where((way == 0).all(1), STAY, np.where(turn == 0, FORWARD, np.where(turn == 3, LEFT, RIGHT)))
            action[200:] = STAY
            observed, reward, terminated, _, info = env.step(action)
            total += reward
            if k == 0:
                moves = (shown[0] != 4) & (np.arange(400) >= 200)
                assert np.array_equal(terminated, moves & (step >= 5)), "the tiles burn after six steps"
                assert (observed[~terminated, 15] == (5 <= step < 7)).all()
                assert np.array_equal(reward > 0, ~moves & (step == 7))
    assert info["success"][:200].all() and total[:200] == pytest.approx(0.3)
    stays = np.stack(shown) == 4
    assert total[200:] == pytest.approx(0.1 * np.cumprod(stays, axis=0).sum(0)[200:])


@pytest.mark.parametrize(("name", "expected"), [("MortarMayhem-v0", 0.03), ("EndlessMortarMayhem-v0", 0.05)])
def test_standing_still_scores_as_stated(name, expected):
    env, observed = disabled(3000, name=name)
    total, success, _ = run(env, observed, lambda env, seen: np.zeros(3000, np.int64))
    assert total.mean() == pytest.approx(expected, abs=0.006) and not success.any()


def test_the_endless_list_grows_by_one_and_the_arena_wraps():
    env, observed = disabled(50, name="EndlessMortarMayhem-v0", max_steps=400)
    seen, rewards, wraps = [observed], [], 0
    for _ in range(400):
        observed, reward, terminated, truncated, info = env.step(oracle(env, observed))
        moved = abs(np.rint(observed[:, :2] * 4) - np.rint(seen[-1][:, :2] * 4)).max(1)
        wraps += int((moved == 4).sum())
        assert set(moved.astype(int)) <= {0, 1, 4}
        seen.append(observed)
        rewards.append(reward)
    assert truncated.all() and not terminated.any() and info["success"].all() and wraps > 0
    shown, paid, t = commands_of(np.stack(seen)), np.stack(rewards) > 0, 0
    for known in range(1, 8):
        assert (shown[t : t + 3] >= 0).all() and (shown[t + 3 : t + 4 + 8 * known] == -1).all()
        assert np.flatnonzero(paid[t : t + 4 + 8 * known].all(1)).tolist() == [4 + 8 * k + 7 for k in range(known)]
        t += 4 + 8 * known
    assert (info["commands_done"] == paid.sum(0)).all()


def test_pictures_show_command_agent_and_fire():
    pixels, observed = disabled(40, obs="pixels", commands=2)
    vector, told = disabled(40, commands=2)
    signs = {}
    for _ in range(15):
        board = observed[:, 2:82, 2:82].reshape(40, 5, 16, 5, 16, 3)
        at = np.rint(told[:, :2] * 4).astype(int)
        blue = (board == [60, 160, 255]).all(5).any(axis=(2, 4))
        fire = (board == [200, 50, 20]).all(5).any(axis=(2, 4)).sum((1, 2))
        shown = commands_of(told[None])[0]
        free = (shown < 0) | (at != 2).any(1)
        assert (blue[np.arange(40), at[:, 0], at[:, 1]] | ~free).all() and (blue.sum((1, 2)) <= 1).all()
        assert (fire == np.where(told[:, 15] == 1, 24, 0)).all()
        for row in range(40):
            sign = (observed[row, 34:50, 34:50] == [255, 230, 60]).all(2)
            assert np.array_equal(signs.setdefault(int(shown[row]), sign), sign)
        played = oracle(vector, told)
        observed, told = pixels.step(played)[0], vector.step(played)[0]
    assert len({sign.tobytes() for sign in signs.values()}) == len(signs) == 6 and not signs[-1].any()


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"obs": "text"}, "'pixels' or 'vector'"),
        ({"moves": 7}, "moves 5 or 9"),
        ({"commands": 0}, "commands >= 1"),
        ({"time": 4}, "time >= 5"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("MortarMayhem-v0", 1, **kwargs)
