import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import StreamOracle


def play(policy, n=2000, seed=0, **kwargs):
    """Return observations (T, N, F), answers (T, N), rewards (T, N) and the last info of one episode per row."""
    env = make_vec("AssociativeRecall-v0", n, autoreset_mode="DISABLED", **kwargs)
    observed, _ = env.reset(seed=seed)
    seen, answers, rewards = [], [], []
    while True:
        seen.append(observed)
        answers.append(env.privileged()["stream_answer"])
        observed, reward, terminated, truncated, info = env.step(policy(env, seen))
        rewards.append(reward)
        assert not truncated.any()
        if terminated.any():
            assert terminated.all() and (observed == 0).all(), "the last observation is blank"
            return np.stack(seen), np.stack(answers), np.stack(rewards), info


def oracle(env, seen):
    return StreamOracle().act(seen[-1], {}, None, env.privileged())[0]


def test_an_episode_is_writes_blanks_and_queries_of_the_latest_values():
    seen, answers, rewards, info = play(oracle, n=300, pairs=3, rewrites=4, keys=5, values=4, delay=2)
    assert len(seen) == 7 + 2 + 3
    names, values, query = seen[:, :, :5], seen[:, :, 5:9], seen[:, :, 9]
    assert (names[:7].sum(2) == 1).all() and (values[:7].sum(2) == 1).all() and (query[:9] == 0).all()
    assert (seen[7:9] == 0).all() and (query[9:] == 1).all() and (values[9:] == 0).all()
    changed = []
    for row in range(300):
        held = {}
        for key, value in zip(names[:7, row].argmax(1).tolist(), values[:7, row].argmax(1).tolist()):
            if key in held:
                changed.append(held[key] != value)
            held[key] = value
        asked = names[9:, row].argmax(1).tolist()
        assert sorted(asked) == sorted(held) and len(held) == 3
        assert [held[key] for key in asked] == answers[9:, row].tolist()
    assert len(changed) == 4 * 300 and all(changed), "a rewrite changes the value"
    assert (answers[:9] == -1).all() and (rewards[:9] == 0).all()
    assert info["success"].all() and rewards.sum(0) == pytest.approx(np.ones(300))


def test_the_oracle_earns_one_in_a_thousand_episodes_and_fewer_queries_may_be_asked():
    _, answers, rewards, info = play(oracle, queries=2)
    assert ((answers >= 0).sum(0) == 2).all() and rewards.sum(0) == pytest.approx(np.ones(2000))
    assert info["success"].all() and (info["accuracy"] == 1).all()


@pytest.mark.parametrize("answer", ["constant", "key"])
def test_play_without_memory_is_at_chance(answer):
    def react(env, seen):
        return np.full(2000, 3) if answer == "constant" else seen[-1][:, :8].argmax(1)

    _, _, rewards, info = play(react)
    # 12,000 answers of standard error 0.003.
    assert rewards.sum(0).mean() == pytest.approx(1 / 8, abs=0.01) and info["accuracy"].mean() == pytest.approx(
        rewards.sum(0).mean(), abs=1e-6
    )


def test_who_keeps_the_first_value_is_right_for_keys_that_were_not_rewritten():
    held = np.full((2000, 8), -1)

    def keep_first(env, seen):
        now = seen[-1]
        key, shows = now[:, :8].argmax(1), now[:, 8:16].any(1)
        rows = np.flatnonzero(shows & (held[np.arange(2000), key] < 0))
        held[rows, key[rows]] = now[rows, 8:16].argmax(1)
        return np.maximum(held[np.arange(2000), key], 0)

    _, _, rewards, _ = play(keep_first, pairs=4, rewrites=3)
    assert rewards.sum(0).mean() == pytest.approx((1 - 1 / 4) ** 3, abs=0.02)


def test_values_and_keys_are_uniform():
    seen, answers, *_ = play(oracle, n=4000)
    counts = np.bincount(answers[answers >= 0], minlength=8) / (answers >= 0).sum()
    assert counts == pytest.approx(np.full(8, 1 / 8), abs=0.01)
    assert seen[:10, :, :8].mean((0, 1)) == pytest.approx(np.full(8, 1 / 8), abs=0.01)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"pairs": 0}, "pairs >= 1"),
        ({"pairs": 9}, "keys >= 9"),
        ({"values": 1}, "values >= 2"),
        ({"queries": 7}, r"queries in \[1, 6\]"),
        ({"rewrites": -1}, "rewrites >= 0"),
        ({"delay": 1.5}, "delay >= 0.*got 1.5"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("AssociativeRecall-v0", 1, **kwargs)
