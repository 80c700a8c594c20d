import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem import registry
from embodied_mem.policies.scripted.random import RandomAgent


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(3, start=-1), spaces.MultiDiscrete([2, 5]), spaces.Box(-1, 1, (2,), np.float32)],
)
def test_actions_lie_in_the_space_and_repeat_with_the_seed(space):
    def draws(seed):
        agent = registry.get("agent", "random")(action_space=space)
        state = agent.initial_state(8, seed)
        found = []
        for _ in range(20):
            action, state, info = agent.act({}, state, np.zeros(8, bool))
            assert info == {} and all(space.contains(row) for row in action)
            found.append(action)
        return np.stack(found)

    assert np.array_equal(draws(1), draws(1)) and not np.array_equal(draws(1), draws(2))


def test_draws_are_even():
    agent = RandomAgent(spaces.Discrete(4))
    agent.initial_state(500, 0)
    counts = np.bincount(np.concatenate([agent.act({}, {}, np.zeros(500, bool))[0] for _ in range(20)]))
    assert (np.abs(counts - 2500) < 200).all()
