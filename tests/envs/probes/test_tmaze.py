import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.probes import DOWN, LEFT, RIGHT, UP, TMazeOracle


def disabled(n, seed=0, **kwargs):
    env = make_vec("TMaze-v0", n, autoreset_mode="DISABLED", **kwargs)
    return env, env.reset(seed=seed)[0]


def run(env, observed, policy):
    """Play until all rows end; return the returns (N,) and the success (N,)."""
    total, success = np.zeros(env.num_envs), np.zeros(env.num_envs, bool)
    for t in range(5000):
        observed, reward, terminated, _, info = env.step(policy(t, observed))
        total += reward
        success |= info.get("success", False)
        if terminated.all():
            return total, success
    raise AssertionError("episodes did not end")


def test_a_passive_episode_by_hand():
    env, observed = disabled(8, length=3)
    goal = env.privileged()["tmaze_goal"]
    assert set(goal) == {-1, 1}
    assert observed.tolist() == [[0, g] for g in goal]
    for x in range(1, 4):
        observed, reward, terminated, _, info = env.step(np.full(8, RIGHT))
        assert observed.tolist() == [[x == 3, 0]] * 8 and (reward == 0).all() and not terminated.any() and info == {}
    observed, reward, terminated, truncated, info = env.step(np.full(8, UP))
    assert observed.tolist() == [[1, 1]] * 8
    assert reward.tolist() == (goal == 1).tolist() and terminated.all() and not truncated.any()
    assert info["success"].tolist() == (goal == 1).tolist() and info["corridor_length"].tolist() == [3] * 8


def test_an_active_episode_by_hand():
    env, observed = disabled(8, variant="active", length=2)
    goal = env.privileged()["tmaze_goal"]
    assert (observed == 0).all(), "start looks like the corridor"
    observed, reward, *_ = env.step(np.full(8, LEFT))
    assert observed.tolist() == [[0, g] for g in goal] and (reward == 0).all()
    for x in (1, 2, 3):
        observed, reward, terminated, *_ = env.step(np.full(8, RIGHT))
        assert observed.tolist() == [[x == 3, 0]] * 8 and (reward == 0).all() and not terminated.any()
    _, reward, terminated, _, _ = env.step(np.where(goal > 0, UP, DOWN))
    assert (reward == 1).all() and terminated.all()


def test_some_active_episodes_begin_on_the_oracle_cell():
    env, observed = disabled(4000, variant="active", length=3, oracle_starts=0.25)
    shown = env.privileged()["tmaze_cue_shown"]
    assert shown.mean() == pytest.approx(0.25, abs=0.03)
    assert (observed[:, 1] == env.privileged()["tmaze_goal"] * shown).all()
    assert (env.privileged()["tmaze_x"] == ~shown).all()
    assert abs(np.corrcoef(shown, env.privileged()["tmaze_goal"])[0, 1]) < 0.05
    oracle = TMazeOracle()
    _, success = run(env, observed, lambda t, seen: oracle.act(seen, {}, None, env.privileged())[0])
    assert success.all()


def test_the_cue_shows_at_the_first_visit_only():
    env, _ = disabled(4, variant="active", length=5, slack=10)
    for action, shown in ((LEFT, True), (LEFT, False), (RIGHT, False), (LEFT, False)):
        observed = env.step(np.full(4, action))[0]
        assert (observed[:, 1] != 0).all() == shown


def test_walls_and_lag():
    env, _ = disabled(2, length=4, lag_penalty=2.0)
    for action in (UP, DOWN, LEFT):
        observed, reward, *_ = env.step(np.full(2, action))
        assert (observed == 0).all() and reward == pytest.approx(-2.0 / 4)
    assert (env.privileged()["tmaze_x"] == 0).all()
    _, reward, terminated, _, info = env.step(np.full(2, RIGHT)) and env.step(np.full(2, RIGHT))
    assert terminated.all() and (reward == 0).all() and not info["success"].any(), "the horizon is length + 1"


def test_slack_extends_the_horizon_and_an_arm_ends_the_episode():
    env, _ = disabled(2, length=2, slack=3)
    ends = [env.step(np.full(2, LEFT))[2].all() for _ in range(6)]
    assert ends == [False] * 5 + [True]
    env.reset(seed=0)
    ends = [env.step(np.full(2, action))[2].all() for action in (LEFT, RIGHT, RIGHT, DOWN)]
    assert ends == [False, False, False, True]


@pytest.mark.parametrize("variant", ["passive", "active"])
def test_observations_do_not_tell_the_length(variant):
    short, a = disabled(64, variant=variant, length=20)
    long, b = disabled(64, variant=variant, length=1000)
    assert np.array_equal(a, b), "same seed, same cues"
    oracle_a, oracle_b = TMazeOracle(), TMazeOracle()
    for _ in range(19 + (variant == "active") * 2):
        a = short.step(oracle_a.act(a, {}, None, short.privileged())[0])[0]
        b = long.step(oracle_b.act(b, {}, None, long.privileged())[0])[0]
        assert np.array_equal(a, b)


def test_lengths_are_drawn_evenly_and_tell_nothing_of_the_cue():
    env, _ = disabled(4000, length=8, min_length=5)
    facts = env.privileged()
    counts = np.bincount(facts["tmaze_junction"], minlength=9)
    assert counts[:5].sum() == 0 and (np.abs(counts[5:] - 1000) < 120).all()
    assert abs(facts["tmaze_goal"].mean()) < 0.06
    assert abs(np.corrcoef(facts["tmaze_junction"], facts["tmaze_goal"])[0, 1]) < 0.06


@pytest.mark.parametrize("variant", ["passive", "active"])
@pytest.mark.parametrize("length", [1, 10, 1000])
def test_the_oracle_earns_one_at_any_length(variant, length):
    env, observed = disabled(32, variant=variant, length=length)
    oracle = TMazeOracle()
    total, success = run(env, observed, lambda t, seen: oracle.act(seen, {}, None, env.privileged())[0])
    assert success.all() and total == pytest.approx(np.ones(32))


@pytest.mark.parametrize("variant", ["passive", "active"])
def test_play_without_memory_is_at_chance(variant):
    env, observed = disabled(2000, variant=variant, length=6)
    rng = np.random.default_rng(0)

    def react(t, seen):
        return np.where(seen[:, 0] > 0, np.where(rng.random(2000) < 0.5, UP, DOWN), RIGHT)

    total, success = run(env, observed, react)
    assert abs(success.mean() - 0.5) < 0.04 and total.mean() == pytest.approx(success.mean(), abs=1e-6)


def test_a_policy_that_remembers_the_cue_solves_it():
    env, observed = disabled(200, length=50, min_length=1)
    cue = observed[:, 1].copy()
    _, success = run(env, observed, lambda t, seen: np.where(seen[:, 0] > 0, np.where(cue > 0, UP, DOWN), RIGHT))
    assert success.all()


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"variant": "pasive"}, "'passive' or 'active'"),
        ({"length": 0}, "length=0"),
        ({"length": 5, "min_length": 6}, "min_length=6"),
        ({"slack": -1}, "slack"),
        ({"lag_penalty": -0.1}, "lag_penalty"),
        ({"oracle_starts": 1.5}, "oracle_starts"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("TMaze-v0", 1, **kwargs)
