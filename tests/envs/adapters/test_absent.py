"""Adapters whose package is not here: they say what installs it, and do what the facts say with a fake in its place."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate, load_suite
from embodied_mem.spaces import decode_text

PACKAGES = {
    "ManiSkill-v0": ("mani_skill", r"pip install 'embodied-mem\[envs-sapien\]'"),
    "MikasaRobo-v0": ("mani_skill", "pip install --no-deps mikasa-robo-suite==1.0.0"),
    "Robosuite-v0": ("robosuite", "pip install robosuite"),
    "Libero-v0": ("libero", "pip install hf-libero"),
    "SimplerEnv-v0": ("simpler_env", "install it from its repository, simpler-env/SimplerEnv"),
}


@pytest.fixture
def module(monkeypatch):
    """Put a module with attributes into the place of a package."""

    def put(name, **attributes):
        made = ModuleType(name)
        made.__path__ = []
        vars(made).update(attributes)
        monkeypatch.setitem(sys.modules, name, made)
        return made

    return put


def begin(env, episodes):
    n = env.num_envs
    return env.reset(seed=1, options={"reset_mask": np.ones(n, bool), "episode": np.asarray(episodes)})[0]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_what_installs_it(name):
    package, command = PACKAGES[name]
    if importlib.util.find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    with pytest.raises(UsageError, match=f"'{package}' is missing: .*{command}"):
        make_vec(name, 1)


@pytest.mark.parametrize(
    "name, tasks, episodes",
    [
        ("maniskill", 6, 100),
        ("mikasa-robo", 4, 50),
        ("robosuite", 5, 50),
        ("libero-spatial", 10, 50),
        ("libero-object", 10, 50),
        ("libero-goal", 10, 50),
        ("libero-10", 10, 50),
        ("libero-90", 90, 50),
        ("simpler-bridge", 4, 24),
    ],
)
def test_suites_state_the_protocol(name, tasks, episodes):
    suite = load_suite(name)
    assert (len(suite.tasks), suite.episodes) == (tasks, episodes)


def test_shell_game_is_skipped_with_its_reason_and_no_five_task_mean_is_claimed():
    suite = load_suite("mikasa-robo")
    assert not any("ShellGame" in task.name for task in suite.tasks)
    assert "ShellGameTouch-VLA-v0 is skipped" in suite.notes[0] and "YCB" in suite.notes[0]
    assert "not the published mean of five" in suite.notes[1]
    with pytest.raises(UsageError, match="RememberColor task for objects"):
        make_vec("MikasaRobo-v0", 1, task="InterceptMedium-VLA-v0", objects=True)
    with pytest.raises(UsageError, match="ShellGameTouch-VLA-v0 cannot be played: .*YCB"):
        make_vec("MikasaRobo-v0", 1, task="ShellGameTouch-VLA-v0")


class Batched(gymnasium.Env):
    """A world with ManiSkill's shapes: a leading 1 everywhere; it succeeds at step 3, after 1 of cue and 1 hidden."""

    cue_steps_per_env, empty_steps_per_env = np.array([1]), np.array([1])
    initial_poses = {key: np.full((1, 3), float(key)) for key in (2, 0, 1)}

    def __init__(self, **options):
        assert options["control_mode"] == "pd_ee_delta_pose"
        self.action_space = spaces.Box(-1.0, 1.0, (7,), np.float32)
        self.scene = SimpleNamespace(sensors={"base_camera": 0, "hand_camera": 0})
        hand = SimpleNamespace(pose=SimpleNamespace(p=np.zeros((1, 3))))
        self.agent = SimpleNamespace(tcp=hand, is_static=lambda limit: np.array([limit == 0.2]))
        self.cubes = {key: SimpleNamespace(pose=SimpleNamespace(p=self.initial_poses[key])) for key in (1, 2)}
        self.cubes[0] = SimpleNamespace(pose=SimpleNamespace(p=np.array([[0.5, 0.5, 999.0]])))
        self.played = []

    def _seen(self):
        frames = {"rgb": np.full((1, 128, 128, 3), self.draw, np.uint8)}
        agent = {"qpos": np.full((1, 9), self.draw / 100, np.float32), "qvel": np.full((1, 9), self.t, np.float32)}
        drawn = {name: frames for name in self.scene.sensors}
        return {"agent": agent, "sensor_data": drawn, "extra": {"tcp_pose": np.ones((1, 7), np.float32)}}

    @property
    def elapsed_steps(self):
        return np.array([self.t])

    def _info(self):
        return {
            "success": np.array([self.t >= 3]),
            "oracle_info": np.array([self.draw % 3]),
            "language_instruction": ["touch the colour shown"],
        }

    def reset(self, *, seed=None, options=None):
        self.draw, self.t = int(np.random.default_rng(seed).integers(100)), 0
        return self._seen(), self._info()

    def step(self, action):
        # ManiSkill writes into tensors that it made before, which inference mode forbids.
        assert action.shape == (1, 7) and not torch.is_inference_mode_enabled()
        self.played.append(action[0])
        self.t += 1
        return self._seen(), np.array([0.5]), np.array([False]), np.array([False]), self._info()


def test_mikasa_with_a_fake_package(module):
    for name in ("mani_skill", "mani_skill.envs", "mikasa_robo_suite", "mikasa_robo_suite.vla"):
        module(name)
    module("mikasa_robo_suite.vla.memory_envs")
    gymnasium.register("RememberColor3-VLA-v0", Batched, disable_env_checker=True)
    try:
        options = {"sensors": ("rgb", "rgb_wrist", "vector", "instruction"), "width": 32, "height": 32}
        env = make_vec("MikasaRobo-v0", 2, autoreset_mode="Disabled", **options)
        seen = begin(env, [0, 1])
        assert seen["rgb"].shape == (2, 32, 32, 3) and seen["vector"].shape == (2, 25)
        assert decode_text(seen["instruction"][0]) == "touch the colour shown"
        facts = env.unwrapped.privileged()
        assert facts["oracle_info"].shape == (2, 1) and facts["waits"].all() and facts["still"].all()
        assert facts["tcp"].shape == (2, 3) and facts["cubes"][:, :, 0].tolist() == [[0.0, 1.0, 2.0]] * 2
        assert "oracle_info" not in seen and env.unwrapped.horizon == 25
        for step in range(3):
            _, reward, terminated, _, info = env.step(np.ones((2, 7), np.float32))
            assert terminated.all() == (step == 2) and (reward == 0.5).all()
            assert env.unwrapped.privileged()["waits"].any() == (step < 1)
        assert info["success"].all()
        assert [move.any() for move in env.unwrapped.copy(0).unwrapped.played] == [False, False, True]
        env.close()
        options = {"sensors": ("rgb", "vector"), "hold": False, "objects": True}
        env = make_vec("MikasaRobo-v0", 1, autoreset_mode="Disabled", **options)
        seen = begin(env, [0])
        assert seen["vector"][0, 25:].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 1]
        env.step(np.ones((1, 7), np.float32))
        world = env.unwrapped.copy(0).unwrapped
        assert world.played[0].all() and list(world.scene.sensors) == ["base_camera"]
        env.close()
        result = evaluate("random", "mikasa-robo", tasks=["RememberColor3-VLA-v0"], episodes=2)
        assert result["metrics"]["success"]["mean"] == 1.0 and "skipped" in result["notes"][0]
    finally:
        gymnasium.registry.pop("RememberColor3-VLA-v0")


def test_robosuite_with_a_fake_package(module):
    class World:
        def __init__(self, name, **options):
            self.drawn = options["use_camera_obs"]

        def _seen(self):
            picture = np.zeros((16, 24, 3), np.uint8)
            picture[0] = 255
            return {"robot0_proprio-state": np.full(32, self.draw), "agentview_image": picture}

        def reset(self):
            self.draw, self.t = np.random.uniform(), 0
            return self._seen()

        def step(self, action):
            self.t += 1
            return self._seen(), 0.0, False, {}

        def _check_success(self):
            return self.t >= 2

        def close(self):
            pass

    module("robosuite", make=World, load_controller_config=lambda default_controller: default_controller)
    options = {"sensors": ("rgb", "vector", "instruction"), "width": 24, "height": 16}
    env = make_vec("Robosuite-v0", 2, autoreset_mode="Disabled", **options)
    outside = np.random.get_state()[1].copy()
    seen = begin(env, [4, 4])
    assert np.array_equal(np.random.get_state()[1], outside), "the global generator is left as it was"
    assert np.array_equal(seen["vector"][0], seen["vector"][1]) and seen["rgb"][0, -1].min() == 255, "turned upright"
    for step in range(2):
        terminated = env.step(np.zeros((2, 7), np.float32))[2]
        assert terminated.all() == (step == 1)
    env.close()


def test_libero_with_a_fake_package(module, monkeypatch):
    idle = []

    class World:
        def __init__(self, bddl_file_name, camera_heights, camera_widths):
            assert bddl_file_name == "task7.bddl"

        def seed(self, seed):
            pass

        def reset(self):
            pass

        def _seen(self):
            parts = {
                "robot0_eef_pos": self.state[:3],
                "robot0_eef_quat": np.zeros(4),
                "robot0_gripper_qpos": np.zeros(2),
            }
            return {**parts, "agentview_image": np.zeros((64, 64, 3), np.uint8)}

        def set_init_state(self, state):
            self.state, self.t = state, 0
            return self._seen()

        def step(self, action):
            idle.append(action[-1])
            self.t += 1
            return self._seen(), 0.0, self.t >= 12, {}

        def check_success(self):
            return self.t >= 12

        def close(self):
            pass

    bench = SimpleNamespace(
        get_task=lambda number: SimpleNamespace(language=f"task {number}"),
        get_task_init_states=lambda number: np.arange(50)[:, None] * np.ones(5),
        get_task_bddl_file_path=lambda number: f"task{number}.bddl",
    )
    module("libero")
    module("libero.libero")
    module("libero.libero.benchmark", get_benchmark_dict=lambda: {"libero_10": lambda: bench})
    module("libero.libero.envs", OffScreenRenderEnv=World)
    monkeypatch.delenv("LIBERO_CONFIG_PATH", raising=False)
    with pytest.raises(UsageError, match="LIBERO_CONFIG_PATH"):
        make_vec("Libero-v0", 1, suite="libero_10")
    monkeypatch.setenv("LIBERO_CONFIG_PATH", "somewhere")
    env = make_vec("Libero-v0", 2, suite="libero_10", task_number=7, autoreset_mode="Disabled")
    seen = begin(env, [3, 53])
    assert (seen["vector"][:, 0] == 3).all(), "the listed initial state of the episode"
    assert len(idle) == 20 and set(idle) == {-1}, "ten idle steps with an open gripper"
    assert decode_text(seen["instruction"][0]) == "task 7" and env.unwrapped.horizon == 520
    env.step(np.zeros((2, 7), np.float32))
    terminated = env.step(np.zeros((2, 7), np.float32))[2]
    assert terminated.all()
    env.close()


def test_simpler_env_with_a_fake_package(module):
    class World:
        def reset(self, seed, options):
            self.layout = options["obj_init_options"]["episode_id"]
            return {}, {}

        def get_language_instruction(self):
            return "put the spoon on the towel"

        def step(self, action):
            return {}, 1.0, True, False, {}

        def close(self):
            pass

    module("simpler_env", make=lambda task: World())
    module("simpler_env.utils")
    module("simpler_env.utils.env")
    module(
        "simpler_env.utils.env.observation_utils",
        get_image_from_maniskill2_obs_dict=lambda env, seen: np.full((48, 64, 3), env.layout, np.uint8),
    )
    env = make_vec("SimplerEnv-v0", 2, autoreset_mode="Disabled", width=32, height=24)
    seen = begin(env, [5, 29])
    assert (seen["rgb"] == 5).all() and seen["rgb"].shape == (2, 24, 32, 3)
    _, _, terminated, _, info = env.step(np.zeros((2, 7), np.float32))
    assert terminated.all() and info["success"].all()
    env.close()
