import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import MysteryPathOracle

STAY, LEFT, RIGHT, FORWARD = range(4)


def disabled(n, seed=0, name="MysteryPath-v0", obs="vector", **kwargs):
    env = make_vec(name, n, autoreset_mode="DISABLED", obs=obs, **kwargs)
    return env, env.reset(seed=seed)[0]


def run(env, observed, policy):
    """Play until all rows end; return the returns (N,) and success (N,)."""
    total, success = np.zeros(env.num_envs), np.zeros(env.num_envs, bool)
    for _ in range(5000):
        observed, reward, terminated, truncated, info = env.step(policy(env, observed))
        total += reward
        success |= info.get("success", False)
        if (terminated | truncated).all():
            return total, success
    raise AssertionError("episodes did not end")


def oracle(env, observed):
    return MysteryPathOracle().act(observed, {}, None, env.privileged())[0]


def cells(observed):
    """Return agent (N, 2), origin (N, 2), heading (N,)."""
    return np.rint(observed[:, :2] * 6), np.rint(observed[:, 7:9] * 6), observed[:, 2:6].argmax(1)


def test_origins_lie_on_all_borders_and_paths_lead_across():
    env, observed = disabled(2000)
    agent, origin, heading = cells(observed)
    assert np.array_equal(agent, origin)
    border = np.stack([origin[:, 1] == 0, origin[:, 0] == 0, origin[:, 1] == 6, origin[:, 0] == 6], axis=1)
    assert border[np.arange(2000), heading].all(), "the first heading leads away from the border"
    assert np.bincount(heading) / 2000 == pytest.approx(np.full(4, 0.25), abs=0.04)
    ends = {}
    for _ in range(60):
        played = oracle(env, observed)
        observed, reward, terminated, _, info = env.step(played)
        for row in np.flatnonzero(reward):
            ends[row] = cells(observed)[0][row]
        if terminated.all():
            break
    assert len(ends) == 2000
    for row in range(200):
        side = heading[row]
        assert ends[row][int(side % 2 == 0)] == (6 if side < 2 else 0), "the goal lies on the opposite border"


@pytest.mark.parametrize("kwargs", [{}, {"reward_progress": 0.25}])
def test_the_oracle_earns_one(kwargs):
    env, observed = disabled(1000, **kwargs)
    total, success = run(env, observed, oracle)
    progress = kwargs.get("reward_progress", 0)
    assert success.all() and total == pytest.approx(1 + progress * env._cells)
    assert progress == 0 or (env._cells >= 6).all()


def test_a_fall_is_shown_and_leads_back_to_the_origin():
    env, observed = disabled(500)
    fell = back = 0
    rng = np.random.default_rng(0)
    done = np.zeros(500, bool)
    for _ in range(40):
        before, facts = observed, env.privileged()
        played = rng.integers(1, 4, 500)
        observed, reward, terminated, truncated, _ = env.step(played)
        (was, origin, turned), (now, _, heading) = cells(before), cells(observed)
        waited = (before[:, 6] == 1) & ~done
        assert np.array_equal(now[waited], origin[waited]) and np.array_equal(heading[waited], turned[waited])
        good = (played == FORWARD) & (facts["path_heading"] == facts["path_onward"]) & ~waited & ~done
        assert not observed[good, 6].any(), "the way along the path holds"
        fell += int((observed[~waited & ~done, 6] == 1).sum())
        back += int(waited.sum())
        moved = (now != was).any(1)
        assert not (moved & (played != FORWARD) & ~waited).any() and not reward[observed[:, 6] == 1].any()
        done |= terminated | truncated
    assert fell > 500 and back > 500


def test_the_scripted_policy_without_memory_scores_as_stated():
    rows, rng = 600, np.random.default_rng(0)

    def drift(env, observed):
        """Draw a wanted heading anew at every step: onward half of the time, else to either side."""
        _, origin, heading = cells(observed)
        onward = np.select([origin[:, 1] == 0, origin[:, 0] == 0, origin[:, 1] == 6], [0, 1, 2], 3)
        draw = rng.random(rows)
        turn = (onward + np.where(draw < 0.5, 0, np.where(draw < 0.75, 1, 3)) - heading) % 4
        return np.where(turn == 0, FORWARD, np.where(turn == 3, LEFT, RIGHT))

    env, observed = disabled(rows)
    total, success = run(env, observed, drift)
    assert total.mean() == pytest.approx(0.09, abs=0.05) and np.array_equal(total, success)


def test_endless_progress_and_its_ends():
    env, observed = disabled(300, name="EndlessMysteryPath-v0", max_steps=100)
    total, success = run(env, observed, oracle)
    assert success.all() and total == pytest.approx(0.1 * env._cells, rel=1e-5) and total.min() > 4
    env, observed = disabled(300, name="EndlessMysteryPath-v0")
    ended = np.zeros(300, bool)
    for step in range(1, 21):
        _, reward, terminated, _, _ = env.step(np.full(300, LEFT))
        ended |= terminated
        assert not reward.any() and terminated.all() == (step == 20), "20 steps without a new cell"
    env, observed = disabled(300, name="EndlessMysteryPath-v0")
    # Straight on from the origin: a fall at the farthest cell is forgiven once, then the same way again is not.
    falls, ends = np.zeros(300, int), np.zeros(300, bool)
    for _ in range(12):
        observed, _, terminated, _, _ = env.step(np.full(300, FORWARD))
        falls += (observed[:, 6] == 1) & ~ends
        ends |= terminated
    twice = falls == 2
    assert twice.sum() > 100 and ends[twice].all() and not (falls > 2).any()


def test_pictures_show_agent_and_origin_where_the_vector_says():
    pixels, observed = disabled(60, obs="pixels")
    vector, told = disabled(60)
    rng = np.random.default_rng(1)
    for _ in range(30):
        board = observed.reshape(60, 7, 12, 7, 12, 3)
        agent, origin, _ = cells(told)
        seen = board.any(axis=(2, 4, 5))
        assert seen.all(), "the floor is never black"
        white = (board == 250).all(axis=5).any(axis=(2, 4))
        red = (board == [230, 40, 40]).all(axis=5).any(axis=(2, 4))
        blue = (board == [40, 110, 200]).all(axis=5).any(axis=(2, 4))
        expected = np.zeros((60, 7, 7), bool)
        expected[np.arange(60), agent[:, 0].astype(int), agent[:, 1].astype(int)] = True
        assert np.array_equal(white, expected)
        assert np.array_equal(red, expected & (told[:, 6] == 1)[:, None, None])
        assert blue[np.arange(60), origin[:, 0].astype(int), origin[:, 1].astype(int)].all()
        assert (blue.sum((1, 2)) == 1).all()
        played = rng.integers(1, 4, 60)
        observed, told = pixels.step(played)[0], vector.step(played)[0]


@pytest.mark.parametrize(
    ("kwargs", "expected"), [({"obs": "text"}, "'pixels' or 'vector'"), ({"max_steps": 0}, "max_steps >= 1")]
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("MysteryPath-v0", 1, **kwargs)
