import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import StreamOracle


def play(policy, rows=1000, seed=0, **kwargs):
    """Return observations (T, N, 2), answers (T, N), rewards (T, N) and the last info of one episode per row."""
    env = make_vec("NParity-v0", rows, autoreset_mode="DISABLED", **kwargs)
    observed, _ = env.reset(seed=seed)
    seen, answers, rewards = [], [], []
    while True:
        seen.append(observed)
        answers.append(env.privileged()["stream_answer"])
        observed, reward, terminated, _, info = env.step(policy(env, seen))
        rewards.append(reward)
        if terminated.any():
            return np.stack(seen), np.stack(answers), np.stack(rewards), info


def oracle(env, seen):
    return StreamOracle().act(seen[-1], {}, None, env.privileged())[0]


@pytest.mark.parametrize("n", [2, 5, 9])
def test_the_answer_is_the_parity_of_the_last_n_bits(n):
    seen, answers, rewards, info = play(oracle, n=n, length=20)
    bits = seen[:, :, 0] > 0
    assert set(np.unique(seen[:, :, 0])) == {-1, 1} and (seen[:, :, 1] == 1).all()
    for t in range(20):
        expected = np.full(1000, -1) if t + 1 < n else bits[t + 1 - n : t + 1].sum(0) % 2
        assert np.array_equal(answers[t], expected)
    assert rewards.sum(0) == pytest.approx(np.ones(1000), abs=1e-5) and info["success"].all()
    assert bits.mean() == pytest.approx(0.5, abs=0.02)


def test_mixed_numbers_are_shown_drawn_evenly_and_judged_by_their_own():
    seen, answers, rewards, info = play(oracle, rows=3000, n=5, min_n=2, length=12)
    number = np.rint(seen[0, :, 1] * 5).astype(int)
    assert (seen[:, :, 1] == seen[:1, :, 1]).all()
    assert np.bincount(number, minlength=6)[2:] / 3000 == pytest.approx(np.full(4, 0.25), abs=0.03)
    bits = seen[:, :, 0] > 0
    for row in range(100):
        k = number[row]
        expected = [-1] * (k - 1) + [bits[t + 1 - k : t + 1, row].sum() % 2 for t in range(k - 1, 12)]
        assert answers[:, row].tolist() == expected
    assert rewards.sum(0) == pytest.approx(np.ones(3000), abs=1e-5) and info["success"].all()


def test_play_without_memory_is_at_chance():
    _, _, rewards, _ = play(lambda env, seen: (seen[-1][:, 0] > 0).astype(np.int64), n=3)
    # 62,000 questions of standard error 0.002; neighbours share bits but are uncorrelated.
    assert rewards.sum(0).mean() == pytest.approx(0.5, abs=0.01)


def test_one_bit_less_than_needed_is_at_chance_too():
    def short_sighted(env, seen):
        return (np.stack(seen[-2:])[:, :, 0] > 0).sum(0) % 2

    assert play(short_sighted, n=3)[2].sum(0).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [({"n": 1}, "n >= 2"), ({"n": 4, "min_n": 5}, r"min_n in \[2, 4\]"), ({"n": 9, "length": 8}, "length >= 9")],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("NParity-v0", 1, **kwargs)
