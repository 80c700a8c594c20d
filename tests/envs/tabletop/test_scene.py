"""The arm, the cameras and the options that all tabletop tasks share."""

import importlib.util
import pickle

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.spaces import decode_text

from .conftest import need_packages


@pytest.fixture(scope="module")
def physics():
    need_packages()
    from embodied_mem.envs.tabletop.parts import block
    from embodied_mem.envs.tabletop.physics import Physics

    return Physics(3, block("block", "1 0 0 1"))


def test_kinematics_agree_with_mujoco(physics):
    import mujoco

    data = mujoco.MjData(physics.model)
    generator = np.random.default_rng(0)
    physics.joints[:] = generator.uniform(physics.limits[:, 0], physics.limits[:, 1], (3, 7))
    physics.read()
    for row in range(3):
        data.qpos[:] = physics.qpos[row]
        mujoco.mj_kinematics(physics.model, data)
        # The package's own site lies 3.7 cm behind our tool point on the same axis, turned alike.
        site = data.site("end_effector")
        axis = physics.rotation[row][:, 2]
        assert np.allclose(site.xpos + 0.037 * axis, physics.tool[row], atol=1e-6)
        assert np.allclose(site.xmat.reshape(3, 3), physics.rotation[row], atol=1e-6)
    physics.clear(np.arange(3))


def test_the_arm_reaches_a_pose_and_stays(physics):
    physics.clear(np.arange(3))
    goals = np.array([[0.45, 0.2, 0.1], [0.6, -0.25, 0.05], [0.4, 0.0, 0.35]])
    rotations = np.tile(physics.home_rotation, (3, 1, 1))
    for _ in range(60):
        physics.aim(goals, rotations, np.ones(3, bool))
        physics.step(np.arange(3))
    assert np.abs(physics.tool - goals).max() < 0.002
    assert np.abs(physics.rotation - rotations).max() < 0.01
    physics.clear(np.arange(3))


def test_a_step_of_some_rows_equals_that_of_all_and_threads_change_nothing(physics):
    from embodied_mem.envs.tabletop.physics import Physics

    threaded = Physics(3, physics.scenery, threads=2)
    for some in (physics, threaded):
        some.clear(np.arange(3))
        some.command[:, 0] += [0.1, 0.2, 0.3]
    before = physics.state.copy()
    physics.step(np.array([2]))
    threaded.step(np.arange(3))
    assert np.array_equal(physics.state[:2], before[:2]) and np.array_equal(physics.state[2], threaded.state[2])
    copied = pickle.loads(pickle.dumps(physics))
    assert np.array_equal(copied.state, physics.state) and np.shares_memory(copied.qpos, copied.state)
    physics.clear(np.arange(3))


def test_pictures_show_the_cue_in_both_senses(make):
    sensors = ("rgb", "depth", "semantic", "rgb_wrist", "depth_wrist", "intrinsics")
    env = make("RememberColor3", 2, sensors=sensors, width=64, height=64)
    try:
        observed, _ = env.reset(seed=0)
    except UsageError as error:
        pytest.skip(f"no OpenGL here: {error}")
    assert env.observation_space.contains(observed)
    cues = np.array([env.camera.classes()[f"item{answer}"] for answer in env.answer])
    for row in range(2):
        cue = observed["semantic"][row] == cues[row]
        assert 4 < cue.sum() < 400, "the cue is in the picture"
        colour = observed["rgb"][row][cue].mean(axis=0)
        assert colour.argmax() == env.answer[row], "red, green, blue"
        # The front camera is 1.05 m away from the cue.
        assert np.abs(observed["depth"][row][cue] - 1.0).max() < 0.15
    hidden = env.step(np.zeros((2, 7), np.float32))
    for _ in range(env.watch):
        hidden = env.step(np.zeros((2, 7), np.float32))
    assert not np.isin(hidden[0]["semantic"], list(env.camera.classes().values())[2:]).any()
    env.close()


def test_a_step_in_which_no_row_plays_begins_the_next_episode():
    from embodied_mem.envs.make import make_vec

    env = make_vec("Tabletop-Intercept-v0", 1)
    env.reset(seed=0)
    still = np.zeros((1, 7), np.float32)
    for _ in range(100):
        _, _, terminated, _, _ = env.step(still)
        if terminated[0]:
            break
    observed, reward, terminated, truncated, _ = env.step(still)
    assert reward[0] == 0 and not terminated[0] and not truncated[0]
    assert observed["vector"][0, 17] == 1, "something is shown again"


def test_the_instruction_is_the_text_and_states_what_decides(make):
    env = make("PutBlockBack", 1)
    observed, _ = env.reset(seed=0)
    assert decode_text(observed["instruction"][0]) == env.text and "decides" in env.text


def test_objects_can_be_left_out_of_the_vector(make):
    full, bare = make("RememberColor3", 1), make("RememberColor3", 1, objects=False)
    one, other = full.reset(seed=0)[0]["vector"], bare.reset(seed=0)[0]["vector"]
    assert other.shape == (1, 19) and np.array_equal(one[:, :19], other) and one.shape == (1, 19 + 9)


@pytest.mark.parametrize(
    "options, match",
    [
        ({"control": "torque"}, "control to be one of"),
        ({"sensors": ("rbg",)}, "unknown sensor 'rbg'.*did you mean 'rgb'"),
        ({"sensors": "rgb"}, "distinct names"),
        ({"level": 3}, "level in"),
        ({"threads": 0}, "threads"),
        ({"width": 4096}, "width in"),
    ],
)
def test_bad_options_are_refused(options, match, make):
    with pytest.raises(UsageError, match=match):
        make("RememberColor3", 1, **options)


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    from embodied_mem.envs.tabletop import model

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "gymnasium_robotics" else found(name, *rest)
    )
    with pytest.raises(UsageError, match=r"gymnasium-robotics.*envs-mujoco"):
        model.arm_folder()
