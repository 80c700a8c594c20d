import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import StreamOracle


def play(policy, rows=1000, seed=0, **kwargs):
    """Return symbols (T, N), answers (T, N), rewards (T, N), the last info and the environment."""
    env = make_vec("GrammarStream-v0", rows, autoreset_mode="DISABLED", **kwargs)
    observed, _ = env.reset(seed=seed)
    seen, answers, rewards = [], [], []
    while True:
        seen.append(observed.argmax(1))
        assert (observed.sum(1) == 1).all()
        answers.append(env.privileged()["stream_answer"])
        observed, reward, terminated, _, info = env.step(policy(env, seen))
        rewards.append(reward)
        if terminated.any():
            return np.stack(seen), np.stack(answers), np.stack(rewards), info, env


def oracle(env, seen):
    return StreamOracle().act(seen[-1], {}, None, env.privileged())[0]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_answers_follow_from_the_rules(order):
    symbols, answers, rewards, info, env = play(oracle, order=order, symbols=5, branches=2, length=40)
    allowed = [set(row[:2].tolist()) for row in env.rules]
    assert len(allowed) == 5 ** (order - 1) and (answers[0] == -1).all()
    for row in range(200):
        latest, steps = symbols[0, row], [0] * (order - 1)
        for t in range(1, 40):
            context = sum(step * 5**k for k, step in enumerate(reversed(steps)))
            step = int(symbols[t, row] - latest) % 5
            assert answers[t, row] == (step in allowed[context])
            if answers[t, row]:
                latest, steps = symbols[t, row], [*steps, step][1:]
    assert info["success"].all() and rewards.sum(0) == pytest.approx(np.ones(1000), abs=1e-5)


def test_symbols_are_uniform_in_either_case_so_play_without_memory_is_at_chance():
    symbols, answers, rewards, *_ = play(lambda env, seen: np.ones(1000, np.int64))
    assert rewards.sum(0).mean() == pytest.approx(0.5, abs=0.01)
    for answer in (0, 1):
        counts = np.bincount(symbols[answers == answer], minlength=8) / (answers == answer).sum()
        assert counts == pytest.approx(np.full(8, 1 / 8), abs=0.01)
    assert play(lambda env, seen: np.ones(1000, np.int64), gap=0.2)[2].sum(0).mean() == pytest.approx(0.8, abs=0.01)


def test_who_does_not_skip_gaps_loses_the_thread():
    symbols, answers, _, _, env = play(oracle, order=1, branches=4)
    allowed = np.isin(np.arange(8), env.rules[0, :4])
    naive = allowed[(symbols[1:] - symbols[:-1]) % 8] == answers[1:]
    assert 0.55 < naive.mean() < 0.85


def test_the_grammar_is_the_same_in_all_episodes_and_differs_between_grammars():
    one, two = (make_vec("GrammarStream-v0", 1, grammar=k).rules for k in (0, 1))
    assert np.array_equal(one, make_vec("GrammarStream-v0", 3).rules) and not np.array_equal(one, two)


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"branches": 8}, r"branches in \[1, 7\]"),
        ({"order": 5}, r"order in \[1, 4\]"),
        ({"gap": 1.0}, "gap < 1"),
        ({"length": 1}, "length >= 2"),
        ({"grammar": -1}, "grammar >= 0"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("GrammarStream-v0", 1, **kwargs)
