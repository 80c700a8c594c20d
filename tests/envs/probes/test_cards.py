import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.policies.scripted.probes import RepeatOracle

CARDS = {
    ("RepeatPrevious-v0", "easy"): (52, 4),
    ("RepeatPrevious-v0", "medium"): (104, 32),
    ("RepeatPrevious-v0", "hard"): (156, 64),
    ("RepeatFirst-v0", "easy"): (52, 1),
    ("RepeatFirst-v0", "medium"): (416, 1),
    ("RepeatFirst-v0", "hard"): (832, 1),
}


def play(name, difficulty, n, policy, seed=0):
    """Return observations (T+1, N), rewards (T, N) and the last info of one episode in every row."""
    env = make_vec(name, n, autoreset_mode="DISABLED", difficulty=difficulty)
    observed, _ = env.reset(seed=seed)
    seen, rewards = [observed], []
    while True:
        observed, reward, terminated, truncated, info = env.step(policy(env, seen))
        seen.append(observed)
        rewards.append(reward)
        assert not truncated.any()
        if terminated.any():
            return np.stack(seen), np.stack(rewards), info


@pytest.mark.parametrize(("name", "difficulty"), list(CARDS))
def test_the_oracle_earns_one_and_every_card_is_dealt(name, difficulty):
    cards, first = CARDS[name, difficulty]
    oracle = RepeatOracle()
    seen, rewards, info = play(name, difficulty, 16, lambda env, seen: oracle.act(seen, {}, None, env.privileged())[0])
    assert len(rewards) == cards - 1
    assert rewards.sum(0) == pytest.approx(np.ones(16), abs=1e-4)
    assert info["success"].all() and (info["accuracy"] == 1).all()
    assert (rewards[: first - 1] == 0).all() and rewards[first - 1 :] == pytest.approx(1 / (cards - first))
    for row in range(16):
        assert np.bincount(seen[:, row]).tolist() == [cards // 4] * 4


def test_the_answer_is_the_card_k_minus_one_before_the_latest():
    def remember(env, seen):
        return seen[-4] if len(seen) >= 4 else np.zeros(64, np.int64)

    _, rewards, info = play("RepeatPrevious-v0", "easy", 64, remember)
    assert info["success"].all() and rewards.sum(0) == pytest.approx(np.ones(64), abs=1e-5)


def test_the_answer_is_the_first_card():
    _, rewards, info = play("RepeatFirst-v0", "easy", 64, lambda env, seen: seen[0])
    assert info["success"].all() and rewards.sum(0) == pytest.approx(np.ones(64), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "shift", "expected"),
    [
        # The other 51 cards hold 12 of the suit on the table and 13 of each other suit.
        ("RepeatPrevious-v0", 0, 2 * 12 / 51 - 1),
        ("RepeatPrevious-v0", 1, 2 * 13 / 51 - 1),
        ("RepeatPrevious-v0", None, -0.5),
        ("RepeatFirst-v0", 0, 2 * (1 + 50 * 12 / 51) / 51 - 1),
        ("RepeatFirst-v0", 1, 2 * (50 * 13 / 51) / 51 - 1),
        ("RepeatFirst-v0", None, -0.5),
    ],
)
def test_play_without_memory_is_at_chance(name, shift, expected):
    def react(env, seen):
        return np.zeros(4000, np.int64) if shift is None else (seen[-1] + shift) % 4

    _, rewards, info = play(name, "easy", 4000, react)
    # A constant answer is right or wrong for a whole game of RepeatFirst: one draw per row.
    tolerance = 0.05 if (name, shift) == ("RepeatFirst-v0", None) else 0.01
    assert rewards.sum(0).mean() == pytest.approx(expected, abs=tolerance)
    assert info["accuracy"].mean() == pytest.approx((expected + 1) / 2, abs=tolerance)
