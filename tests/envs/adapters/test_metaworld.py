"""Meta-World behind our contract: assigned episodes, hidden goals, success that ends, experts that solve."""

import importlib.util

import numpy as np
import pytest

from embodied_mem.envs.adapters.metaworld_texts import INSTRUCTIONS, ML10_TEST, ML10_TRAIN, MT10
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate, load_suite
from embodied_mem.spaces import decode_text

SUITES = {"metaworld-mt10": 10, "metaworld-mt50": 50, "metaworld-ml10": 5, "metaworld-ml10-train": 10}
needed = pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="needs metaworld (envs-mujoco)")


def make(n, **kwargs):
    return make_vec("MetaWorld-v0", n, autoreset_mode="Disabled", **kwargs)


def begin(env, episodes, seed=5):
    n = env.num_envs
    return env.reset(seed=seed, options={"reset_mask": np.ones(n, bool), "episode": np.asarray(episodes)})[0]


@needed
def test_task_lists_are_the_packages():
    from metaworld import env_dict

    assert set(INSTRUCTIONS) == set(env_dict.ALL_V3_ENVIRONMENTS) and set(MT10) == set(env_dict.MT10_V3)
    assert list(env_dict.ML10_V3["train"]) == list(ML10_TRAIN) and list(env_dict.ML10_V3["test"]) == list(ML10_TEST)


@pytest.mark.parametrize("name", SUITES)
def test_suites_state_the_protocol(name):
    suite = load_suite(name)
    assert len(suite.tasks) == SUITES[name] and suite.episodes == 50
    hidden = {"metaworld-ml10", "metaworld-ml10-train"}
    assert {task.kwargs["goal"] for task in suite.tasks} == {"hidden" if name in hidden else "shown"}


@needed
def test_an_episode_depends_on_seed_and_number_alone():
    env = make(2, task="push-v3")
    first = begin(env, [3, 8])
    assert not np.array_equal(first["vector"][0], first["vector"][1])
    assert decode_text(first["instruction"][0]) == "push the puck to the goal"
    assert env.observation_space.contains(first)
    moves = np.random.default_rng(0).uniform(-1, 1, (6, 4)).astype(np.float32)
    one = [env.step(np.stack([move, move]))[0]["vector"][1] for move in moves]
    begin(env, [8, 8])
    other = [env.step(np.stack([move, move]))[0]["vector"][0] for move in moves]
    assert np.array_equal(one, other), "the row makes no difference"
    env.close()


@needed
def test_a_hidden_goal_is_for_experts_only():
    shown, hidden = make(1, task="reach-v3"), make(1, task="reach-v3", goal="hidden")
    one, other = begin(shown, [2])["vector"], begin(hidden, [2])["vector"]
    assert one[0, 36:].any() and not other[0, 36:].any() and np.array_equal(one[:, :36], other[:, :36])
    assert np.allclose(hidden.unwrapped.privileged()["observation"][0, 36:], one[0, 36:])
    shown.close()
    hidden.close()


@needed
def test_experts_solve_it_with_the_goal_shown_and_hidden():
    result = evaluate("expert", "metaworld-mt10", tasks=["reach-v3"], episodes=2, num_envs=2)
    assert result["metrics"]["success"]["mean"] == 1.0 and result["metrics"]["length"]["mean"] < 100
    result = evaluate("oracle", "metaworld-ml10", tasks=["door-close-v3"], episodes=1, num_envs=1)
    assert result["metrics"]["success"]["mean"] == 1.0


@needed
@pytest.mark.full
@pytest.mark.parametrize("task", MT10)
def test_experts_solve_the_ten_tasks(task):
    result = evaluate("expert", "metaworld-mt10", tasks=[task], episodes=10, num_envs=1)
    assert result["metrics"]["success"]["mean"] >= 0.7


@needed
def test_an_episode_is_cut_at_the_horizon_without_success():
    env = make(1, task="pick-place-v3", max_steps=4)
    begin(env, [0])
    for step in range(4):
        _, _, terminated, truncated, info = env.step(np.zeros((1, 4), np.float32))
        assert not terminated[0] and truncated[0] == (step == 3)
    assert not info["success"][0] and info["_success"][0]
    env.close()


@needed
@pytest.mark.full
def test_pictures_are_drawn():
    env = make(1, task="drawer-open-v3", sensors=("rgb",), width=48, height=32)
    try:
        seen = begin(env, [0])["rgb"]
    except UsageError as error:
        pytest.skip(f"no OpenGL here: {error}")
    assert seen.shape == (1, 32, 48, 3) and seen.std() > 20
    env.close()


@pytest.mark.parametrize(
    "options, match",
    [
        ({"task": "reach-v2"}, "did you mean 'reach-v3'"),
        ({"goal": "seen"}, "shown.*hidden"),
        ({"sensors": ("depth",)}, "unknown sensor 'depth'"),
    ],
)
def test_bad_options_are_refused(options, match):
    if "sensors" in options and importlib.util.find_spec("metaworld") is None:
        pytest.skip("needs metaworld (envs-mujoco)")
    with pytest.raises(UsageError, match=match):
        make(1, **options)
