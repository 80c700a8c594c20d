import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from embodied_mem.envs.restart import MAX_FAILURES, RestartingEnv


class Fails(gymnasium.Env):
    """Raises at the steps of its life named in ``at``."""

    observation_space = spaces.Box(0, 100, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, at=(), life=None):
        self.at, self.life, self.t = at, life if life is not None else [0], 0

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.life[0] += 1
        if self.life[0] in self.at:
            raise RuntimeError("crash")
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, self.t == 9, False, {}


def test_one_failure_truncates_one_episode_and_leaves_the_neighbour_alone():
    life = [0]
    env = SyncVectorEnv([lambda: RestartingEnv(lambda: Fails((4,), life)), lambda: RestartingEnv(Fails)])
    env.reset(seed=0)
    seen = [env.step(np.zeros(2, np.int64)) for _ in range(6)]
    assert [step[3].tolist() for step in seen] == [[False, False]] * 3 + [[True, False]] + [[False, False]] * 2
    assert seen[3][0][:, 0].tolist() == [3.0, 4.0], "the failed row keeps its last observation"
    assert seen[3][4]["env_failure"].tolist() == [1, 0]
    assert seen[5][0][:, 0].tolist() == [1.0, 6.0]


def test_an_environment_that_only_fails_is_given_up():
    env = RestartingEnv(lambda: Fails(range(100), [0]))
    env.reset(seed=0)
    for _ in range(MAX_FAILURES):
        assert env.step(0)[3]
        env.reset()
    with pytest.raises(RuntimeError, match="crash"):
        env.step(0)
