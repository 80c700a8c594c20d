"""MemoryBench's three tasks on a grid of 9 x 9 cells, by key frames "go to this cell", with an expert.

Blue are the spots, red is what lies there (blocks, open drawers), green the button, which is blue too once pressed; red
in a corner is something carried. Kinds are channels: a brightness is easily lost in the norms of a small network.
Where the agent is shows nowhere: the frame before the decisive one would tell then what it did about the cue. So that
frame and the decisive one are the same whatever the cue was.
"""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem import registry
from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv

SIDE = 9
CENTRE, BUTTON = 4 * SIDE + 4, 7 * SIDE + 7
SPOTS = {
    "reopen": [1 * SIDE + 1, 1 * SIDE + 4, 1 * SIDE + 7],
    "put_back": [2 * SIDE + 2, 2 * SIDE + 6, 6 * SIDE + 2, 6 * SIDE + 6],
    "rearrange": [4 * SIDE + 1, 4 * SIDE + 7],
}
LENGTH = {"reopen": 3, "put_back": 5, "rearrange": 5}


def cell_of(actions):
    """Actions (B, 2) in [-1, 1] to the nearest cell (B,)."""
    place = np.rint((np.clip(actions, -1, 1) + 1) / 2 * (SIDE - 1)).astype(int)
    return place[:, 0] * SIDE + place[:, 1]


def action_of(cells):
    """Cells (B,) to actions (B, 2) at their centres."""
    return (np.stack([cells // SIDE, cells % SIDE], 1) / (SIDE - 1) * 2 - 1).astype(np.float32)


class BatchedGrid(BatchedEnv):
    """Every step must be done right, in order; a step at the wrong cell ends the episode."""

    metadata = {"render_modes": []}
    single_observation_space = spaces.Dict(
        {"rgb": spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8), "vector": spaces.Box(-1, 1, (1,), np.float32)}
    )
    single_action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, num_envs=1, *, task="put_back", **kwargs):
        super().__init__(num_envs, **kwargs)
        self.task, self.spots = task, np.array(SPOTS[task])
        self.answer, self.time = (np.zeros(num_envs, np.int64) for _ in range(2))
        self.won = np.zeros(num_envs, bool)

    def _begin(self, rows, keys):
        self.answer[rows], self.time[rows] = rng.integers(keys, 0, 0, len(self.spots)), 0

    def wanted(self):
        """(B,) the right cell now."""
        spot = self.spots[self.answer]
        fixed = lambda cell: np.full(self.num_envs, cell)  # noqa: E731
        ways = {
            "reopen": [spot, fixed(BUTTON), spot],
            "put_back": [spot, fixed(CENTRE), fixed(BUTTON), fixed(CENTRE), spot],
            "rearrange": [fixed(CENTRE), self.spots[1 - self.answer % 2], fixed(BUTTON), spot, fixed(CENTRE)],
        }
        way = np.stack(ways[self.task] + [spot] * (5 - len(ways[self.task])))
        return way[np.minimum(self.time, 4), np.arange(self.num_envs)]

    def _advance(self, actions, active):
        cells = cell_of(actions)
        right = cells == self.wanted()
        self.time += active
        self.won = active & right & (self.time >= LENGTH[self.task])
        return self.won.astype(np.float32), active & (~right | self.won), np.zeros_like(active)

    def _observe(self):
        n, t, spot = self.num_envs, self.time, self.spots[self.answer]
        rows = np.arange(n)
        picture = np.zeros((n, SIDE * SIDE, 3), np.uint8)
        picture[:, self.spots, 2], picture[:, CENTRE, 2] = 255, 255
        picture[:, BUTTON, 1] = 255
        picture[:, BUTTON, 2] = np.where(t > LENGTH[self.task] // 2, 255, 0)
        carries = np.zeros(n, bool)
        if self.task == "reopen":
            picture[rows[t == 0], spot[t == 0], 0] = 255
        elif self.task == "put_back":
            picture[rows[t == 0], spot[t == 0], 0] = 255
            picture[(t == 2) | (t == 3), CENTRE, 0] = 255
            carries = (t == 1) | (t == 4)
        else:
            other = self.spots[1 - self.answer % 2]
            stays, moved = t <= 3, (t >= 2)
            picture[rows[stays], spot[stays], 0], picture[rows[moved], other[moved], 0] = 255, 255
            picture[t == 0, CENTRE, 0] = 255
            carries = (t == 1) | (t == 4)
        picture[:, 0, 0] = np.where(carries, 255, 0)
        return {"rgb": picture.reshape(n, SIDE, SIDE, 3), "vector": np.zeros((n, 1), np.float32)}

    def _final_info(self):
        return {"success": self.won.copy()}

    def privileged(self):
        return {"wanted": self.wanted()}


class Grid(SingleEnv):
    """N=1 view."""

    batched = BatchedGrid


class Goer:
    """Always goes to the right cell."""

    needs_privileged = True

    def initial_state(self, n, seed=None):
        return {}

    def act(self, obs, state, reset, privileged=None):
        return action_of(privileged["wanted"]), state, {}


ENV = "embodied_mem/GridBench-v0"


@pytest.fixture
def grid():
    """Id of the environment; ``task`` is one of its options."""
    gymnasium.register(ENV, entry_point=Grid, vector_entry_point=BatchedGrid)
    with registry.scope("agent"):
        registry.register("agent", "goer", expert_for=(ENV,))(Goer)
        yield ENV
    gymnasium.registry.pop(ENV)
