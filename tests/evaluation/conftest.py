"""Agents and an environment that make the effect of every control visible."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem import registry
from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv
from embodied_mem.evaluation import Suite, Task

SYMBOLS = 1_000


class CountingEnv(BatchedEnv):
    """Episodes of `length` steps (varied by key); the first observation names the episode, the action is recorded."""

    def __init__(self, num_envs=1, *, length=6, vary=0, **kwargs):
        self.length, self.vary = length, vary
        self.single_observation_space = spaces.Dict({"vector": spaces.Box(-1.0, SYMBOLS, (2,), np.float32)})
        self.single_action_space = spaces.Discrete(SYMBOLS)
        super().__init__(num_envs, **kwargs)
        self.cue = np.zeros(self.num_envs, np.int64)
        self.horizon = np.zeros(self.num_envs, np.int64)
        self.t = np.zeros(self.num_envs, np.int64)
        self.right = np.zeros(self.num_envs, np.int64)

    def _begin(self, rows, keys):
        self.cue[rows] = rng.integers(keys, 0, 1, SYMBOLS)
        self.horizon[rows] = self.length + rng.integers(keys, 1, 0, self.vary + 1)
        self.t[rows] = 0
        self.right[rows] = 0

    def _advance(self, actions, active):
        right = (actions == self.cue) & active
        self.right += right
        self.t += active
        return right.astype(np.float32), (self.t >= self.horizon) & active, np.zeros(self.num_envs, bool)

    def _observe(self):
        return {"vector": np.stack([np.where(self.t == 0, self.cue, -1), self.t], 1).astype(np.float32)}

    def _final_info(self):
        return {"success": self.right == self.horizon, "horizon": self.horizon.copy()}

    def privileged(self):
        return {"cue": self.cue.copy()}

    def describe(self, row):
        return {"cue": int(self.cue[row])}

    def trace(self, row):
        return {"t": int(self.t[row])}


class Rememberer:
    """Names the cue of the first observation for as long as its state holds it; 0 where the state is fresh."""

    needs_privileged = False

    def initial_state(self, n, seed=None):
        return {"cue": np.zeros((n, 1), np.int64)}

    def act(self, obs, state, reset, privileged=None):
        cue = np.where(reset, 0, state["cue"][:, 0])
        shown = obs["vector"][:, 0].astype(np.int64)
        cue = np.where(shown >= 0, shown, cue)
        return cue, {"cue": cue[:, None]}, {}


class Guesser:
    """Draws its answers, to show that random play is reproducible too."""

    needs_privileged = False

    def initial_state(self, n, seed=None):
        self._rng = np.random.default_rng(seed)
        return {}

    def act(self, obs, state, reset, privileged=None):
        return self._rng.integers(0, 2, len(reset)), state, {}


class Knower:
    """Reads the hidden cue."""

    needs_privileged = True

    def initial_state(self, n, seed=None):
        return {}

    def act(self, obs, state, reset, privileged=None):
        return privileged["cue"], state, {}


@pytest.fixture
def fake():
    """The environment under a Gymnasium id with an oracle, the agents, and a suite of it."""
    name = "evaluation_tests/Counting-v0"
    gymnasium.register(name, vector_entry_point=CountingEnv)
    registry.register("agent", "counting-knower", oracle_for=(name,))(Knower)
    yield SimpleNamespace(
        id=name,
        Env=CountingEnv,
        Rememberer=Rememberer,
        Guesser=Guesser,
        Knower=Knower,
        suite=lambda **kwargs: Suite(
            "counting",
            "name the cue",
            (Task(name, "probe", kwargs=kwargs),),
            episodes=24,
            controls=("wiped:3", "shuffled", "oracle"),
            num_envs=8,
        ),
    )
    registry.unregister("agent", "counting-knower")
    del gymnasium.registry[name]
