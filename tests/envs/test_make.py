import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from embodied_mem.envs.autoreset import AssignedEpisodes, mode_of
from embodied_mem.envs.base import BatchedEnv
from embodied_mem.envs.make import check_options, find_spec, make_vec, portable_id
from embodied_mem.errors import UsageError


@pytest.mark.parametrize("name", ["TMaze-v0", "embodied_mem/TMaze-v0", "embodied_mem.envs:embodied_mem/TMaze-v0"])
def test_short_full_and_portable_ids_name_the_same_env(name):
    env = make_vec(name, 2, autoreset_mode="DISABLED", length=7)
    assert isinstance(env, BatchedEnv) and env.length == 7 and env.autoreset_mode is AutoresetMode.DISABLED
    assert portable_id(name) == "embodied_mem.envs:embodied_mem/TMaze-v0"


def test_foreign_ids_run_as_copies():
    env = make_vec("CartPole-v1", 3)
    assert isinstance(env, SyncVectorEnv) and mode_of(env) is AutoresetMode.NEXT_STEP
    assert portable_id("CartPole-v1") == "CartPole-v1"
    observed, _ = env.reset(seed=0)
    assert observed.shape == (3, 4)
    done = np.zeros(3, bool)
    for _ in range(30):
        observed, reward, term, trunc, _ = env.step(np.ones(3, int))
        assert (reward[done] == 0).all() and (np.abs(observed[done]) <= 0.05).all()
        done = term | trunc
    env.close()


def test_modes_of_two_instances_do_not_mix():
    first = make_vec("CartPole-v1", 1, autoreset_mode="NEXT_STEP")
    second = make_vec("CartPole-v1", 1, autoreset_mode="DISABLED")
    assert first.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert isinstance(second, AssignedEpisodes) and second.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    assert isinstance(gymnasium.make("CartPole-v1").metadata.get("autoreset_mode"), type(None))


def test_native_vectorisation_of_a_foreign_id_needs_its_own_support():
    env = make_vec("TMaze-v0", 2, vectorization="sync")
    assert isinstance(env, SyncVectorEnv)
    with pytest.raises(UsageError, match="no vector entry point"):
        make_vec("MountainCarContinuous-v0", 2, vectorization="native")


def test_async_copies_play_the_same_episodes_as_sync_ones():
    envs = [make_vec("CartPole-v1", 2, autoreset_mode="DISABLED", vectorization=kind) for kind in ("sync", "async")]
    try:
        observed = [env.reset(seed=1, options={"episode": np.array([3, 4])})[0] for env in envs]
        assert np.array_equal(*observed)
        for _ in range(40):
            left, right = (env.step(np.ones(2, int)) for env in envs)
            assert all(np.array_equal(a, b) for a, b in zip(left[:4], right[:4]))
        assert left[2].all()
    finally:
        for env in envs:
            env.close()


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ({"env_id": "TMazz-v0"}, "did you mean 'TMaze-v0'"),
        ({"env_id": "no_such_module:TMaze-v0"}, "no_such_module"),
        ({"env_id": "TMaze-v0", "lenght": 3}, "did you mean 'length'"),
        ({"env_id": "TMaze-v0", "num_envs": 0}, "num_envs >= 1"),
        ({"env_id": "TMaze-v0", "autoreset_mode": "x"}, "autoreset_mode"),
        ({"env_id": "TMaze-v0", "vectorization": "asink"}, "did you mean 'async'"),
        ({"env_id": "CartPole-v1", "nonsense": 3}, "nonsense"),
        ({"env_id": "RepeatFirst-v0", "difficulty": "esy"}, "did you mean 'easy'"),
    ],
)
def test_bad_calls_give_one_clear_error(call, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec(**call)


@pytest.mark.parametrize("name", ["env_id", "num_envs", "autoreset_mode"])
def test_options_that_the_caller_of_make_vec_sets_are_refused(name):
    with pytest.raises(UsageError, match=f"'{name}' is no option of the environment TMaze-v0"):
        check_options("TMaze-v0", {"length": 5, name: 4})
    check_options("TMaze-v0", {"length": 5})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModuleNotFoundError("No module named 'imageio.v3'", name="imageio.v3"), "the package 'imageio', which is"),
        (ImportError("cannot import name 'x'"), "cannot make envs_tests/Broken-v0: cannot import name 'x'"),
        (ValueError("no such map"), "no such map"),
        (AssertionError(), "AssertionError"),
    ],
)
@pytest.mark.parametrize("vectorization", ["auto", "async", "native"])
def test_what_a_foreign_constructor_raises_is_one_clear_error(error, expected, vectorization):
    def broken(**kwargs):
        raise error

    gymnasium.register("envs_tests/Broken-v0", entry_point=broken, vector_entry_point=broken)
    try:
        with pytest.raises(UsageError, match=expected):
            make_vec("envs_tests/Broken-v0", 2, vectorization=vectorization)
    finally:
        del gymnasium.registry["envs_tests/Broken-v0"]


def test_find_spec_names_the_built_in_ids():
    with pytest.raises(UsageError, match="RepeatPrevious-v0"):
        find_spec("Nothing")


def test_importing_envs_is_light_and_gymnasium_resolves_the_portable_id():
    code = """
import sys, gymnasium
env = gymnasium.make("embodied_mem.envs:embodied_mem/RepeatFirst-v0")
vec = gymnasium.make_vec("embodied_mem.envs:embodied_mem/RepeatFirst-v0", num_envs=2,
                         vectorization_mode="vector_entry_point", difficulty="hard")
assert vec.cards == 832 and env.reset(seed=0)
heavy = {"torch", "ray", "numba", "cv2", "popgym"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
