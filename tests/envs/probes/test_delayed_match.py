import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import StreamOracle


def play(policy, rows=1000, seed=0, **kwargs):
    """Return observations (T, N, S+1), answers (T, N), rewards (T, N) and the last info of one episode per row."""
    env = make_vec("DelayedMatch-v0", rows, autoreset_mode="DISABLED", **kwargs)
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


@pytest.mark.parametrize(("delay", "symbols"), [(1, 2), (3, 2), (7, 5)])
def test_the_answer_compares_with_the_symbol_delay_steps_earlier(delay, symbols):
    seen, answers, rewards, info = play(oracle, delay=delay, symbols=symbols, length=30)
    symbol = seen[:, :, :symbols].argmax(2)
    assert (seen[:, :, :symbols].sum(2) == 1).all() and (seen[:, :, -1] == 1).all()
    assert (answers[:delay] == -1).all()
    assert np.array_equal(answers[delay:], symbol[delay:] == symbol[:-delay])
    assert rewards.sum(0) == pytest.approx(np.ones(1000), abs=1e-5) and info["success"].all()
    assert answers[delay:].mean() == pytest.approx(0.5, abs=0.02)
    assert np.bincount(symbol.ravel()) / symbol.size == pytest.approx(np.full(symbols, 1 / symbols), abs=0.02)
    if symbols > 2:
        shift = ((symbol[delay:] - symbol[:-delay]) % symbols)[answers[delay:] == 0]
        assert np.bincount(shift)[1:] / len(shift) == pytest.approx(np.full(symbols - 1, 1 / (symbols - 1)), abs=0.02)


def test_mixed_delays_are_shown_and_judged_by_their_own():
    seen, answers, rewards, _ = play(oracle, rows=600, delay=6, min_delay=2, symbols=3, length=20)
    delay = np.rint(seen[0, :, -1] * 6).astype(int)
    assert set(delay) == {2, 3, 4, 5, 6}
    symbol = seen[:, :, :3].argmax(2)
    for row in range(200):
        d = delay[row]
        expected = [-1] * d + (symbol[d:, row] == symbol[:-d, row]).astype(int).tolist()
        assert answers[:, row].tolist() == expected
    assert rewards.sum(0) == pytest.approx(np.ones(600), abs=1e-5)


@pytest.mark.parametrize("symbols", [2, 4])
def test_play_without_memory_is_at_chance(symbols):
    rewards = play(lambda env, seen: seen[-1][:, 0].astype(np.int64), symbols=symbols)[2]
    assert rewards.sum(0).mean() == pytest.approx(0.5, abs=0.01)


def test_a_shorter_memory_is_at_chance_too():
    def wrong_lag(env, seen):
        if len(seen) < 3:
            return np.zeros(1000, np.int64)
        return (seen[-1][:, :2] == seen[-3][:, :2]).all(1).astype(np.int64)

    assert play(wrong_lag, delay=3)[2].sum(0).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"delay": 0}, "delay >= 1"),
        ({"symbols": 1}, "symbols >= 2"),
        ({"delay": 3, "min_delay": 4}, r"min_delay in \[1, 3\]"),
        ({"delay": 8, "length": 8}, "length >= 9"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("DelayedMatch-v0", 1, **kwargs)
