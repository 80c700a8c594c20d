import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import EndlessTMazeOracle

FORWARD, LEFT, RIGHT = range(3)


def disabled(n, seed=0, **kwargs):
    env = make_vec("EndlessTMaze-v0", n, autoreset_mode="DISABLED", **kwargs)
    return env, env.reset(seed=seed)[0]


def run(env, observed, policy):
    """Play until all rows end; return the returns (N,), success (N,) and the steps taken."""
    total, success = np.zeros(env.num_envs), np.zeros(env.num_envs, bool)
    for step in range(1, 5000):
        observed, reward, terminated, truncated, info = env.step(policy(env, observed))
        total += reward
        success |= info.get("success", False)
        if (terminated | truncated).all():
            return total, success, step
    raise AssertionError("episodes did not end")


def oracle(env, observed):
    return EndlessTMazeOracle().act(observed, {}, None, env.privileged())[0]


def test_two_corridors_by_hand():
    env, observed = disabled(16, corridors=2, length=2, penalty=-0.125, wrong_turn=-0.5)
    cue = np.where(observed[:, 1] == 1, LEFT, RIGHT)
    assert (observed[:, 0] == 0).all() and (observed[:, 1] + observed[:, 2] == 1).all() and set(cue) == {LEFT, RIGHT}
    again, reward, terminated, *_ = env.step(cue)
    assert np.array_equal(again, observed) and (reward == -0.125).all() and not terminated.any(), (
        "no turn in a corridor"
    )
    for x in (0.5, 1.0):
        observed, reward, *_ = env.step(np.full(16, FORWARD))
        assert observed.tolist() == [[x, 0, 0]] * 16 and (reward == 0).all()
    observed, reward, *_ = env.step(np.full(16, FORWARD))
    assert observed.tolist() == [[1, 0, 0]] * 16 and (reward == -0.125).all()
    observed, reward, terminated, truncated, info = env.step(cue)
    assert (reward == 1).all() and not (terminated | truncated).any() and info == {}
    second = np.where(observed[:, 1] == 1, LEFT, RIGHT)
    assert (observed[:, 0] == 0).all() and 0 < (second != cue).sum() < 16, "cues are independent"
    env.step(np.full(16, FORWARD))
    env.step(np.full(16, FORWARD))
    wrong = np.arange(16) < 8
    _, reward, terminated, truncated, info = env.step(np.where(wrong, LEFT + RIGHT - second, second))
    assert reward.tolist() == [-0.5] * 8 + [1.0] * 8 and terminated.all() and not truncated.any()
    assert info["success"].tolist() == (~wrong).tolist() and info["corridors_passed"].tolist() == [1] * 8 + [2] * 8


def test_the_limit_truncates():
    env, _ = disabled(3, corridors=2, length=3)
    for step in range(1, 6 * 4 * 2 + 1):
        _, reward, terminated, truncated, info = env.step(np.full(3, LEFT))
        assert not terminated.any() and truncated.all() == (step == 48) and reward == pytest.approx(-0.01)
    assert not info["success"].any()


@pytest.mark.parametrize(("corridors", "length", "shortest"), [(3, 10, None), (10, 6, 2), (1, 50, 1)])
def test_the_oracle_passes_every_corridor(corridors, length, shortest):
    env, observed = disabled(1000, corridors=corridors, length=length, min_length=shortest)
    total, success, steps = run(env, observed, oracle)
    assert success.all() and (total == corridors).all() and steps <= corridors * (length + 1)


@pytest.mark.parametrize("corridors", [1, 3, 5])
def test_play_without_memory_and_with_the_first_cue_only(corridors):
    rng = np.random.default_rng(0)
    env, observed = disabled(4000, corridors=corridors, length=4)
    first = np.where(observed[:, 1] == 1, LEFT, RIGHT)

    def guess(env, seen):
        return np.where(seen[:, 0] == 1, rng.integers(LEFT, RIGHT + 1, 4000), FORWARD)

    def stale(env, seen):
        return np.where(seen[:, 0] == 1, first, FORWARD)

    for policy, chance in ((guess, 2.0**-corridors), (stale, 2.0 ** -(corridors - 1))):
        env.reset(seed=0)
        success = run(env, observed, policy)[1]
        assert success.mean() == pytest.approx(chance, abs=3 * np.sqrt(chance * (1 - chance) / 4000) + 1e-9)


def test_who_keeps_the_latest_cue_and_feels_for_the_junction_passes():
    env, observed = disabled(500, corridors=4, length=9, min_length=3)
    memory = {"cue": np.zeros(500, int), "x": np.full(500, -1.0)}

    def remember(env, seen):
        shown = seen[:, 1:].any(1)
        memory["cue"] = np.where(shown, np.where(seen[:, 1] == 1, LEFT, RIGHT), memory["cue"])
        stuck = ~shown & (seen[:, 0] == memory["x"])
        memory["x"] = np.where(stuck, -1.0, seen[:, 0])
        return np.where(stuck, memory["cue"], FORWARD)

    total, success, _ = run(env, observed, remember)
    assert success.all() and total == pytest.approx(np.full(500, 4 - 4 * 0.01), abs=1e-6), "one vain step a corridor"


def test_lengths_are_drawn_evenly_per_corridor():
    env, _ = disabled(4000, length=8, min_length=5)
    counts = np.bincount(env.privileged()["endless_junction"], minlength=9)
    assert counts[:5].sum() == 0 and (abs(counts[5:] - 1000) < 120).all()


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"corridors": 0}, "corridors >= 1"),
        ({"length": 3, "min_length": 4}, r"min_length in \[1, 3\]"),
        ({"penalty": 0.1}, "penalty <= 0"),
        ({"wrong_turn": 1.0}, "wrong_turn <= 0"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("EndlessTMaze-v0", 1, **kwargs)
