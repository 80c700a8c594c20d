import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import FreeMovementOracle


def disabled(n, seed=0, obs="vector", **kwargs):
    env = make_vec("FreeMysteryPath-v0", n, autoreset_mode="DISABLED", obs=obs, **kwargs)
    return env, env.reset(seed=seed)[0]


def run(env, observed, policy):
    """Play until all rows end; return the returns (N,), success (N,) and the last observations."""
    total, success = np.zeros(env.num_envs), np.zeros(env.num_envs, bool)
    for _ in range(600):
        observed, reward, terminated, truncated, info = env.step(policy(env, observed))
        total += reward
        success |= info.get("success", False)
        if (terminated | truncated).all():
            return total, success, observed
    raise AssertionError("episodes did not end")


def oracle(env, observed):
    return FreeMovementOracle().act(observed, {}, None, env.privileged())[0]


def side_of(observed):
    """Return a border on which the origin lies: 0 left, 1 top, 2 right, 3 bottom."""
    y, x = (observed[:, 3:] * 84).T
    return np.select([np.isclose(x, 6), np.isclose(y, 6), np.isclose(x, 78)], [0, 1, 2], 3)


def test_the_oracle_crosses_from_any_side():
    env, observed = disabled(600)
    assert np.allclose(observed[:, :2], observed[:, 3:]) and not observed[:, 2].any()
    total, success, last = run(env, observed, oracle)
    assert success.all() and total == pytest.approx(1)
    starts, ends = observed[:, 3:] * 84, last[:, :2] * 84
    near = np.stack([np.isclose(starts, 6), np.isclose(starts, 78)])
    across = np.stack([ends >= 72 - 1e-3, ends <= 12 + 1e-3])
    assert (near & across).any((0, 2)).all(), "the goal lies on the border opposite the origin"


def test_progress_is_paid_per_cell():
    env, observed = disabled(300, reward_progress=0.25)
    total, success, _ = run(env, observed, oracle)
    assert success.all() and total == pytest.approx(1 + 0.25 * env._cells) and (env._cells >= 6).all()


def test_moves_are_three_pixels_in_the_picture_and_a_fall_leads_back():
    rows = 400
    env, observed = disabled(rows)
    rng, fell, done = np.random.default_rng(0), 0, np.zeros(rows, bool)
    for _ in range(60):
        actions = rng.integers(0, 3, (rows, 2))
        way = np.array([0.0, -1.0, 1.0])[actions][:, ::-1] * 3
        way[(actions > 0).all(1)] *= np.sqrt(0.5)
        before, facts = observed, env.privileged()["free_way"]
        observed, reward, terminated, truncated, _ = env.step(actions)
        waited = (before[:, 2] == 1) & ~done
        assert np.allclose(observed[waited, :2], observed[waited, 3:]), "it stands on the origin again"
        free = ~waited & ~done
        want = np.clip(before[free, :2] * 84 + way[free], 6, 78)
        assert np.allclose(observed[free, :2] * 84, want, atol=1e-3)
        along = FreeMovementOracle().choose({"free_way": facts}) == actions
        assert not observed[free & along.all(1), 2].any(), "the way of the oracle holds"
        assert not reward[observed[:, 2] == 1].any()
        fell += int((observed[free, 2] == 1).sum())
        done |= terminated | truncated
    assert fell > 300


def test_the_scripted_policy_without_memory_scores_as_stated():
    rows, rng = 400, np.random.default_rng(0)

    def drift(env, observed):
        """Draw the move anew at every step: onward, or to either side, half of these aslant."""
        onward = np.array([(2, 0), (0, 2), (1, 0), (0, 1)])[side_of(observed)]
        draw = rng.random(rows)
        across = np.where(draw < 0.6, 0, np.where(draw < 0.8, 1, 2))[:, None]
        sideways = np.where(onward[:, :1] > 0, across * [0, 1], across * [1, 0])
        aslant = (rng.random(rows) < 0.5)[:, None]
        return np.where(across > 0, sideways + aslant * onward, onward)

    env, observed = disabled(rows)
    total, success, _ = run(env, observed, drift)
    assert total.mean() == pytest.approx(0.16, abs=0.06) and np.array_equal(total, success)


def test_pictures_show_agent_and_origin_where_the_vector_says():
    pixels, observed = disabled(40, obs="pixels")
    vector, told = disabled(40)
    rng = np.random.default_rng(1)
    for _ in range(30):
        body = (observed == 250).all(3) | (observed == [230, 40, 40]).all(3)
        red = (observed == [230, 40, 40]).all(3).any((1, 2))
        assert np.array_equal(red, told[:, 2] == 1)
        for row in range(40):
            assert np.argwhere(body[row]).mean(0) + 0.5 == pytest.approx(told[row, :2] * 84, abs=0.51)
            apart = abs(told[row, :2] - told[row, 3:]).max() * 84 > 12
            blue = np.argwhere((observed[row] == [40, 110, 200]).all(1 + 1))
            assert not apart or blue.mean(0) + 0.5 == pytest.approx(told[row, 3:] * 84, abs=0.51)
        played = rng.integers(0, 3, (40, 2))
        observed, told = pixels.step(played)[0], vector.step(played)[0]


@pytest.mark.parametrize(
    ("kwargs", "expected"), [({"obs": "text"}, "'pixels' or 'vector'"), ({"max_steps": 0}, "max_steps >= 1")]
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("FreeMysteryPath-v0", 1, **kwargs)
