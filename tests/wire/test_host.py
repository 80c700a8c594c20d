"""The host for other Pythons: any single environment, old Gym's methods included, with assigned episodes."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.wire.host import Copies, host, main, space_json

pytest.importorskip("websockets")


class Newer:
    """Gymnasium's methods: an episode of `length` steps counts up from a seeded number."""

    observation_space = spaces.Dict({"vector": spaces.Box(-np.inf, np.inf, (2,), np.float32), "n": spaces.Discrete(9)})
    action_space = spaces.Discrete(3)

    def __init__(self, length=3):
        self.length = length

    def reset(self, *, seed=None, options=None):
        self.t, self.start = 0, np.random.default_rng(seed).random()
        return self.look(), {}

    def look(self):
        return {"vector": np.array([self.start, self.t]), "n": self.t}

    def step(self, action):
        assert isinstance(action, int)
        self.t += 1
        info = {"success": self.start > 0.5, "object": object(), "name": f"t{self.t}"}
        return self.look(), float(action), self.t >= self.length, False, info

    def render(self):
        return np.full((2, 2, 3), self.t, np.uint8)

    def close(self):
        pass


class Older(Newer):
    """Old Gym's: seed(), reset() of an observation, four values."""

    def seed(self, number):
        self.number = number

    def reset(self):
        return super().reset(seed=self.number)[0]

    def step(self, action):
        obs, reward, done, _, info = super().step(action)
        return obs, reward, done, {**info, "TimeLimit.truncated": done}


@pytest.mark.parametrize("make", [Newer, Older])
def test_foreign_environments_play_assigned_episodes_over_the_wire(make):
    with host(make, {"length": 4}, port=0, rows=3) as server:
        env = make_vec(f"remote:{server.address}", 3, autoreset_mode="DISABLED")
        obs, _ = env.reset(seed=5, options={"reset_mask": np.ones(3, bool), "episode": np.array([7, 8, 7])})
        starts = obs["vector"][:, 0]
        assert starts[0] == starts[2] != starts[1] and env.single_observation_space.contains(
            {"vector": obs["vector"][0], "n": obs["n"][0]}
        )
        for step in range(4):
            obs, reward, terminated, truncated, info = env.step(np.array([0, 1, 2]))
            assert reward.tolist() == [0, 1, 2] and obs["n"].tolist() == [step + 1] * 3
        ended = truncated if make is Older else terminated
        assert ended.all() and not (terminated & truncated).any()
        assert info["success"].tolist() == (starts > 0.5).tolist() and info["_success"].all()
        assert info["name"].tolist() == ["t4"] * 3 and "object" not in info
        # Finished rows stay; the one that is reset plays its episode again.
        obs, *_ = env.reset(options={"reset_mask": np.array([False, True, False]), "episode": np.array([0, 7, 0])})
        assert obs["n"].tolist() == [4, 0, 4] and obs["vector"][1, 0] == starts[0]
        obs, reward, *_ = env.step(np.array([1, 1, 1]))
        assert reward.tolist() == [0, 1, 0] and obs["n"].tolist() == [4, 1, 4]
        env.close()


def test_next_step_begins_anew_one_step_later():
    env = Copies(Newer, 2, "NEXT_STEP")
    first = env.reset(seed=0)[0]["vector"][:, 0]
    for _ in range(3):
        obs, _, terminated, _, _ = env.step(np.zeros(2, int))
    assert terminated.all() and obs["n"].tolist() == [3, 3]
    obs, reward, terminated, _, info = env.step(np.ones(2, int))
    assert not terminated.any() and obs["n"].tolist() == [0, 0] and reward.tolist() == [0, 0] and not info
    assert (obs["vector"][:, 0] != first).all()
    again = Copies(Newer, 1, "NEXT_STEP")
    assert again.reset(seed=1)[0]["vector"][0, 0] == first[1]


@pytest.mark.parametrize(
    ("kwargs", "word"),
    [
        ({"options": {"more": 1}}, "options reset_mask and episode"),
        ({"options": {"reset_mask": [True, True]}}, "reset_mask as bool"),
        ({"options": {"episode": np.array([1, -1])}}, "episode numbers >= 0"),
        ({"options": {"episode": np.zeros(2)}}, "episode as integers"),
        ({"seed": [1, 2]}, "one seed >= 0"),
        ({"options": {"reset_mask": np.array([True, False])}}, "first reset of all rows"),
    ],
)
def test_bad_resets_are_refused(kwargs, word):
    with pytest.raises(UsageError, match=word):
        Copies(Newer, 2, "DISABLED").reset(**kwargs)


def test_same_step_and_steps_before_a_reset_are_refused():
    with pytest.raises(UsageError, match="DISABLED or NEXT_STEP"):
        Copies(Newer, 2, "SAME_STEP")
    with pytest.raises(UsageError, match="expected reset before step"):
        Copies(Newer, 2, "DISABLED").step(np.zeros(2, int))


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, 2], np.float32)),
        spaces.Box(0, 255, (2, 2, 3), np.uint8),
        spaces.Discrete(4, start=2),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary((3,)),
        spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Dict({"c": spaces.Box(0, 1, (1,))})}),
    ],
)
def test_spaces_are_told_by_name_as_gymnasiums_are(space):
    from embodied_mem.spaces import space_from_json

    assert space_from_json(space_json(space)) == space


def test_old_gyms_discrete_has_no_start():
    Discrete = type("Discrete", (SimpleNamespace,), {})
    assert space_json(Discrete(n=3)) == {"type": "Discrete", "n": 3, "start": 0}


def test_it_imports_nothing_that_another_python_lacks():
    code = (
        "import sys, embodied_mem.wire.host; "
        "print(sorted({'torch', 'gymnasium', 'ray', 'scipy', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_runs_as_a_process_and_stops_when_told(tmp_path):
    (tmp_path / "my_suite.py").write_text(
        "import numpy as np\n"
        "class Box:\n    low, high, shape, dtype = np.zeros(1), np.ones(1), (1,), np.float32\n"
        "class Discrete:\n    n = 2\n"
        "class Env:\n"
        "    observation_space, action_space = Box(), Discrete()\n"
        "    def seed(self, number): self.number = number\n"
        "    def reset(self): return np.zeros(1)\n"
        "    def step(self, action): return np.ones(1), 1.5, True, {'success': True}\n"
        "    def close(self): pass\n"
        "def make_env(task): assert task == 3; return Env()\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-m", "embodied_mem.wire.host", "my_suite:make_env", "--port", "0", "--option", "task=3"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}
    )
    try:
        env = make_vec(f"remote:{running.stdout.readline().split()[-1]}", 2, autoreset_mode="DISABLED")
        env.reset(seed=0)
        obs, reward, terminated, _, info = env.step(np.zeros(2, int))
        assert obs.dtype == np.float32 and reward.tolist() == [1.5, 1.5] and terminated.all() and info["success"].all()
        env.close()
        running.send_signal(signal.SIGTERM)
        assert running.wait(20) == 0
    finally:
        running.kill()
        running.stdout.close()


def test_bad_words_are_one_line(capsys):
    assert main(["no_such_module:make"]) == 2
    assert "no_such_module" in capsys.readouterr().err
