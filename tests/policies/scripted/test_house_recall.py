"""Nobody beats chance in the hiding tasks without memory of what was shown; the oracle always succeeds."""

import pytest

from embodied_mem.evaluation.evaluate import evaluate

SUITES = ("house-hide-and-recall", "house-rewrite")
CHANCE = (1 / 4, 1 / 4, 1 / 6, 1 / 8)


def success(agent, suite, level, episodes):
    result = evaluate(agent, suite, tasks=[f"level-{level}"], episodes=episodes, env_options={"houses": 64})
    return result["metrics"]["success"]["mean"]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("agent", ["house-memoryless", "house-pose-memory"])
def test_without_memory_it_is_chance(agent, suite):
    # 400 episodes: the standard error is 2.2 points.
    assert success(agent, suite, 0, 400) == pytest.approx(CHANCE[0], abs=0.07)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("level", [0, 1])
def test_oracle_always_succeeds(suite, level):
    assert success("oracle", suite, level, 60) >= 0.98


@pytest.mark.full
@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("agent", ["house-memoryless", "house-pose-memory"])
def test_without_memory_it_is_chance_over_two_thousand_episodes(agent, suite, level):
    assert success(agent, suite, level, 2000) == pytest.approx(CHANCE[level], abs=0.05)


@pytest.mark.full
@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("level", [2, 3])
def test_oracle_succeeds_in_large_houses(suite, level):
    assert success("oracle", suite, level, 200) >= 0.98
