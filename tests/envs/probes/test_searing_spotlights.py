import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import SearingSpotlightsOracle


def disabled(n, seed=0, name="SearingSpotlights-v0", obs="vector", **kwargs):
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
    return SearingSpotlightsOracle().act(observed, {}, None, env.privileged())[0]


def idle(env, observed):
    return np.zeros((env.num_envs, 2), np.int64)


def test_the_oracle_takes_the_coin_then_the_exit():
    env, observed = disabled(1000)
    start = observed[:, 3:11].astype(np.float64) * 84
    legs = [np.hypot(*(start[:, k : k + 2] - start[:, j : j + 2]).T) for k, j in ((0, 3), (0, 6), (3, 6))]
    assert (observed[:, [2, 5, 8]] == 1).all() and min(leg.min() for leg in legs) > 19.9, "all is seen and lies apart"
    total, success, steps = run(env, observed, oracle)
    assert success.all() and (total == 1.25).all() and steps.max() <= 90


def test_the_exit_is_closed_until_the_coins_are_taken():
    env, observed = disabled(200, health=1000)
    goal = observed[:, 9:11] * 84
    taken, done = np.zeros(200, bool), np.zeros(200, bool)
    for _ in range(60):
        way = goal - env.privileged()["spotlights_agent"]
        _, reward, terminated, _, _ = env.step(np.where(way > 1, 2, np.where(way < -1, 1, 0)))
        assert np.array_equal(terminated & ~done, reward >= 1), "only the exit ends it"
        assert (taken | (reward == 1.25))[reward >= 1].all()
        taken |= reward == 0.25
        done |= terminated
    at_exit = abs(goal - env.privileged()["spotlights_agent"]).max(1) < 3
    assert (at_exit & ~taken).sum() > 100, "who stands there without the coin plays on"


def test_moves_are_as_long_in_all_directions_and_stop_at_the_border():
    env, _ = disabled(50, health=1000)
    for action, step in (((2, 0), (2.5, 0)), ((0, 1), (0, -2.5)), ((1, 2), (-(12.5**0.5) / 2, 12.5**0.5 / 2))):
        before = env.privileged()["spotlights_agent"]
        env.step(np.tile(action, (50, 1)))
        free = ((before > 8) & (before < 76)).all(1)
        moved = env.privileged()["spotlights_agent"] - before
        assert free.sum() > 20 and moved[free] == pytest.approx(np.tile(step, (free.sum(), 1)))
    for _ in range(60):
        env.step(np.ones((50, 2), np.int64))
    end = env.privileged()["spotlights_agent"]
    assert ((end == 4).all(1)).sum() > 40


def test_light_shows_things_and_costs_health():
    env, observed = disabled(300, health=10, max_steps=300)
    cost, done, unseen = np.zeros(300), np.zeros(300, bool), 0
    for step in range(1, 301):
        observed, reward, terminated, truncated, info = env.step(idle(env, observed))
        lights = observed[:, 11:].reshape(300, 24, 4)
        place = env.privileged()["spotlights_agent"] / 84
        gap = np.hypot(lights[:, :, 1] - place[:, :1], lights[:, :, 2] - place[:, 1:])
        near = (lights[:, :, 0] == 1) & (abs(gap - lights[:, :, 3]) < 1e-4)
        hit = ((lights[:, :, 0] == 1) & (gap <= lights[:, :, 3])).any(1)
        sure = ~near.any(1)
        assert np.array_equal(observed[sure, 1] == 1, hit[sure])
        assert observed[:, 0] == pytest.approx(max(0.0, 1 - step / 6))
        seen = observed[:, 2] == 1
        assert seen.all() if step < 6 else np.array_equal(seen[sure], hit[sure])
        assert (observed[~seen, 3:5] == 0).all()
        cost += observed[:, 1] * ~done
        newly = terminated & ~done
        assert (cost[newly] == 10).all() and (cost[~terminated] < 10).all()
        unseen += int((~seen).sum())
        done |= terminated | truncated
        if done.all():
            break
    assert terminated.sum() > 200 and truncated.sum() > 3 and unseen > 10000 and not info["success"].any()


def test_lights_have_the_published_sizes_speeds_and_numbers():
    env, observed = disabled(200, health=1e6)
    assert (observed[:, 11:].reshape(200, 24, 4)[:, :, 0].sum(1) == 4).all()
    first = observed[:, 11:].reshape(200, 24, 4)[:, :4] * 84
    assert first[:, :, 3].min() >= 7.5 and first[:, :, 3].max() <= 13.75
    later = env.step(idle(env, observed))[0][:, 11:].reshape(200, 24, 4)[:, :4] * 84
    pace = np.hypot(later[..., 1] - first[..., 1], later[..., 2] - first[..., 2])
    # The way across is at most 2 x 73 pixels, at least 1.84 x 73.
    assert pace.min() > 0.0025 * 1.8 * 73 and pace.max() < 0.0075 * 2.01 * 73.2
    for _ in range(29):
        observed = env.step(idle(env, observed))[0]
    assert (observed[:, 11:].reshape(200, 24, 4)[:, :, 0].sum(1) == 5).all()


def test_play_without_memory_scores_as_stated():
    env, observed = disabled(1500)
    rng = np.random.default_rng(0)

    def react(env, seen):
        coin = seen[:, 5:6] > 0
        way = np.where(coin, seen[:, 6:8], seen[:, 9:11]) - seen[:, 3:5]
        sees = (seen[:, 2] > 0) & ((seen[:, 5] > 0) | (seen[:, 8] > 0))
        return np.where(
            sees[:, None], np.where(way > 0.012, 2, np.where(way < -0.012, 1, 0)), rng.integers(0, 3, (1500, 2))
        )

    total, success, _ = run(env, observed, react)
    assert total.mean() == pytest.approx(0.57, abs=0.06) and success.mean() == pytest.approx(0.39, abs=0.05)


def test_endless_coins_come_back_and_patience_ends():
    env, observed = disabled(100, name="EndlessSearingSpotlights-v0", health=1e6)
    taken = np.zeros(100)
    for _ in range(200):
        before = env.privileged()["spotlights_goal"]
        observed, reward, terminated, _, _ = env.step(oracle(env, observed))
        got = reward > 0
        assert (reward[got] == 0.25).all() and not terminated.any()
        moved = (env.privileged()["spotlights_goal"] != before).any(1)
        assert np.array_equal(moved, got) and (observed[:, 8] == 0).all(), "no exit"
        taken += got
    assert taken.min() >= 5
    env, observed = disabled(50, name="EndlessSearingSpotlights-v0", health=1e6)
    total, success, steps = run(env, observed, idle)
    assert (steps == 160).all() and not success.any() and not total.any()


def test_pictures_are_lit_where_the_vector_says():
    pixels, observed = disabled(20, obs="pixels")
    vector, told = disabled(20)
    y, x = np.mgrid[:84, :84] + 0.5
    assert observed.all(axis=3).mean() > 0.95, "all is lit at first"
    for step in range(40):
        if step >= 6 and step % 8 == 0:
            lights = told[:, 11:].reshape(20, 24, 4) * 84
            gap = (
                np.hypot(x - lights[:, :, 1, None, None], y - lights[:, :, 2, None, None]) - lights[:, :, 3, None, None]
            )
            gap = np.where(lights[:, :, :1, None] > 0, gap, 100.0).min(1)
            lit = observed.any(axis=3)
            assert lit[gap < -1e-3].all() and not lit[gap > 1e-3].any() and lit.any()
            blue = (observed == [60, 160, 255]).all(3).any((1, 2))
            assert blue[told[:, 2] == 1].all()
        observed, told = pixels.step(idle(pixels, observed))[0], vector.step(idle(vector, told))[0]


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"obs": "text"}, "'pixels' or 'vector'"),
        ({"coins": 0}, r"coins in \[1, 5\]"),
        ({"health": 0}, "health > 0"),
        ({"dim": 0}, "dim >= 1"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("SearingSpotlights-v0", 1, **kwargs)
