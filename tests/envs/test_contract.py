"""What every registered environment keeps to. A new id is picked up from the registration by itself."""

import copy
import importlib.util
import pickle
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from embodied_mem.envs import ENVIRONMENTS
from embodied_mem.envs.base import BatchedEnv, SingleEnv, take
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.spaces import as_dict_space

IN_CI = "Tabletop-RememberColor3-v0"
"""The one environment under MuJoCo that the short form plays."""


def contract_of(item):
    """Return the id of an environment; it is skipped where a package is missing, and a long form if it is slow."""
    missing = [name for name in item.needs if importlib.util.find_spec(name) is None]
    marks = [pytest.mark.skip(reason=f"needs {', '.join(missing)}")] if missing else []
    if item.needs and item.name != IN_CI:
        marks.append(pytest.mark.full)
    return pytest.param(item.name, marks=marks)


# What needs a program of its own keeps its contract in tests/envs/<package>; adapters keep the common one.
IDS = [contract_of(item) for item in ENVIRONMENTS if not item.external or item.needs]
# Simulators of other packages, which cannot be pickled in the midst of an episode.
COPIES = {item.name for item in ENVIRONMENTS if item.external and item.needs}
# Steps after which an episode of random play has ended in some row, and exceptions.
ENOUGH = 600
LONG = {"LabyrinthExplore-v0": 1023, "LabyrinthEscape-v0": 1023}
FIXED_NAMES = {"rgb", "depth", "semantic", "scan", "vector", "goal", "instruction", "intrinsics", "pose"}
FIXED_NAMES |= {"rgb_wrist", "depth_wrist", "semantic_wrist"}


def actions(env, steps, seed=0):
    """Return random actions (steps, N, ...) in which a row's actions do not depend on N."""
    columns = []
    for row in range(env.num_envs):
        env.single_action_space.seed(seed + row)
        columns.append(np.stack([env.single_action_space.sample() for _ in range(steps)]))
    return np.stack(columns, axis=1)


def equal(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")


def rows_of(observed, rows):
    return {key: value[rows] for key, value in observed.items()} if isinstance(observed, dict) else observed[rows]


def trajectory(env, played):
    return [env.step(action) for action in played]


@pytest.mark.parametrize("name", IDS)
def test_ids_make_both_forms(name):
    single = gymnasium.make(f"embodied_mem/{name}")
    assert isinstance(single.unwrapped, SingleEnv) and single.spec.max_episode_steps is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vector = gymnasium.make_vec(
            f"embodied_mem.envs:embodied_mem/{name}",
            num_envs=2,
            vectorization_mode="vector_entry_point",
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
    assert isinstance(vector, BatchedEnv) and vector.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert single.observation_space == vector.single_observation_space
    assert isinstance(single.unwrapped.vector, type(vector))
    single.close()
    vector.close()


@pytest.mark.parametrize("name", IDS)
def test_gymnasiums_own_checker_passes(name):
    env = gymnasium.make(f"embodied_mem/{name}").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize("name", IDS)
def test_observations_lie_in_their_space_and_have_fixed_names(name):
    env = make_vec(name, 3)
    assert set(as_dict_space(env.single_observation_space).spaces) <= FIXED_NAMES
    observed, info = env.reset(seed=1)
    assert info == {} and env.observation_space.contains(observed)
    for action in actions(env, 60):
        observed, reward, terminated, truncated, _ = env.step(action)
        assert env.observation_space.contains(observed)
        assert all(env.single_observation_space.contains(take(observed, row)) for row in range(3))
        assert reward.dtype == np.float32 and reward.shape == (3,) and np.isfinite(reward).all()
        assert terminated.dtype == truncated.dtype == np.bool_ and terminated.shape == truncated.shape == (3,)


@pytest.mark.parametrize("name", IDS)
def test_episodes_depend_on_seed_and_count_for_any_n(name):
    many, one = make_vec(name, 4, autoreset_mode="DISABLED"), make_vec(name, 1, autoreset_mode="DISABLED")
    played = actions(many, 40)
    for count in range(3):
        seed = {"seed": 20} if count == 0 else {}
        first_many, _ = many.reset(**seed)
        first_one, _ = one.reset(**({"seed": 22} if count == 0 else {}))
        assert equal(rows_of(first_many, [2]), first_one)
        for action in played:
            a, b = many.step(action), one.step(action[2:3])
            assert equal(rows_of(a[0], [2]), b[0])
            assert all(equal(x[2:3], y) for x, y in zip(a[1:4], b[1:4]))


@pytest.mark.parametrize("name", IDS)
def test_assigned_episodes_depend_on_seed_and_number_alone(name):
    many, one = make_vec(name, 4, autoreset_mode="DISABLED"), make_vec(name, 1, autoreset_mode="DISABLED")
    many.reset(seed=9)
    observed, _ = many.reset(options={"episode": np.array([5, 6, 7, 5])})
    alone, _ = one.reset(seed=9, options={"episode": np.array([5])})
    assert equal(rows_of(observed, [0]), rows_of(observed, [3])) and equal(rows_of(observed, [0]), alone)
    for action in actions(one, 40):
        everywhere = many.step(np.repeat(action, 4, axis=0))
        single = one.step(action)
        assert equal(rows_of(everywhere[0], [3]), single[0]) and equal(everywhere[1][[3]], single[1])
    # Episode 6 begun late, in another row, beside rows that play on.
    late, _ = many.reset(options={"reset_mask": np.array([True, False, False, False]), "episode": np.full(4, 6)})
    fresh, _ = one.reset(seed=9, options={"episode": np.array([6])})
    assert equal(rows_of(late, [0]), fresh)
    other = opening(one, 6, seed=10)
    assert any(not equal(other, opening(one, e)) for e in range(30)), "episodes differ"


def opening(env, episode, **seed):
    """Return what an episode of a single row begins with; where it looks the same, the hidden state differs."""
    observed, _ = env.reset(**seed, options={"episode": np.array([episode])})
    return {"observed": copy.deepcopy(observed), "hidden": copy.deepcopy(env.privileged())}


@pytest.mark.parametrize("name", IDS)
def test_masked_resets_leave_other_rows_untouched(name):
    env, twin = make_vec(name, 3, autoreset_mode="DISABLED"), make_vec(name, 3, autoreset_mode="DISABLED")
    env.reset(seed=0)
    twin.reset(seed=0)
    played = actions(env, 20)
    mask = np.array([False, True, False])
    for action in played[:7]:
        before = env.step(action)[0]
        twin.step(action)
    after, _ = env.reset(options={"reset_mask": mask})
    assert equal(rows_of(before, ~mask), rows_of(after, ~mask))
    for action in played[7:]:
        a, b = env.step(action), twin.step(action)
        assert equal(rows_of(a[0], ~mask), rows_of(b[0], ~mask)) and equal(a[1][~mask], b[1][~mask])


@pytest.mark.parametrize("name", IDS)
def test_the_single_view_equals_the_batch(name):
    single = gymnasium.make(f"embodied_mem/{name}").unwrapped
    vector = make_vec(name, 2, autoreset_mode="DISABLED")
    first, _ = vector.reset(seed=3)
    assert equal(take(first, 1), single.reset(seed=4)[0])
    for action in actions(vector, LONG.get(name, ENOUGH)):
        observed, reward, terminated, truncated, info = vector.step(action)
        one = single.step(action[1])
        assert equal(take(observed, 1), one[0])
        assert (float(reward[1]), bool(terminated[1]), bool(truncated[1])) == one[1:4]
        assert isinstance(one[1], float) and isinstance(one[2], bool) and isinstance(one[3], bool)
        if one[2] or one[3]:
            assert set(one[4]) == {key for key in info if not key.startswith("_")}
            break
        assert one[4] == {}
    assert equal(take(vector.reset(options={"episode": np.array([8, 8])})[0], 0), single_at(name, 3, 8))


def single_at(name, seed, episode):
    env = gymnasium.make(f"embodied_mem/{name}").unwrapped
    return env.reset(seed=seed, options={"episode": episode})[0]


@pytest.mark.parametrize("name", IDS)
def test_the_three_modes_agree_up_to_the_first_end_and_obey_their_rules_there(name):
    envs = {mode: make_vec(name, 3, autoreset_mode=mode) for mode in ("NEXT_STEP", "SAME_STEP", "DISABLED")}
    played = actions(envs["DISABLED"], LONG.get(name, ENOUGH))
    for env in envs.values():
        env.reset(seed=6)
    ended = np.zeros(3, bool)
    for action in played:
        next_step, same_step, disabled = (envs[mode].step(action) for mode in ("NEXT_STEP", "SAME_STEP", "DISABLED"))
        for other in (next_step, same_step):
            assert all(equal(a, b) for a, b in zip(other[1:4], disabled[1:4]))
        ended = disabled[2] | disabled[3]
        assert equal(next_step[0], disabled[0])
        assert equal(rows_of(same_step[0], ~ended), rows_of(disabled[0], ~ended))
        if ended.any():
            break
        assert next_step[4] == same_step[4] == disabled[4] == {}, "info is empty before the end"
    assert ended.any(), "no episode of random play ended in time"
    row = int(np.flatnonzero(ended)[0])
    for info in (next_step[4], same_step[4], disabled[4]):
        assert np.array_equal(info["_success"], ended)
        assert all(np.array_equal(info[f"_{key}"], ended) for key in info if not key.startswith("_"))
    assert equal(same_step[4]["final_obs"][row], take(disabled[0], row))
    assert np.array_equal(same_step[4]["final_info"]["success"], disabled[4]["success"])

    after = {mode: env.step(played[-1]) for mode, env in envs.items()}
    first, _ = envs["DISABLED"].reset(options={"reset_mask": ended})
    assert equal(take(first, row), take(same_step[0], row)) and equal(
        take(first, row), take(after["NEXT_STEP"][0], row)
    )
    for mode in ("NEXT_STEP", "DISABLED"):
        assert after[mode][1][row] == 0
    assert not (after["NEXT_STEP"][2] | after["NEXT_STEP"][3])[row]
    assert (after["DISABLED"][2] | after["DISABLED"][3])[row], "flags stay"
    assert equal(take(after["DISABLED"][0], row), take(disabled[0], row)), "the observation stays"
    assert not after["DISABLED"][4].get("_success", np.zeros(3, bool))[row], "metrics come once"


@pytest.mark.parametrize("name", IDS)
def test_returned_arrays_belong_to_the_caller(name):
    env = make_vec(name, 2)
    observed, _ = env.reset(seed=0)
    kept = [np.array(leaf) for leaf in leaves(observed)]
    played = actions(env, 5)
    earlier = env.step(played[0])
    copies = [np.array(item) for item in (*leaves(earlier[0]), *earlier[1:4])]
    trajectory(env, played[1:])
    assert all(equal(a, b) for a, b in zip(leaves(observed), kept))
    assert all(equal(a, b) for a, b in zip((*leaves(earlier[0]), *earlier[1:4]), copies))


def leaves(observed):
    return list(observed.values()) if isinstance(observed, dict) else [observed]


@pytest.mark.parametrize("name", IDS)
def test_a_pickled_copy_plays_on_alike_and_apart(name):
    if name in COPIES:
        pytest.skip("copies of another package's simulator cannot be pickled in the midst of an episode")
    env = make_vec(name, 2)
    env.reset(seed=0)
    played = actions(env, 120)
    trajectory(env, played[:5])
    twin = pickle.loads(pickle.dumps(env))
    ours, theirs = trajectory(env, played[5:]), trajectory(twin, played[5:])
    for a, b in zip(ours, theirs):
        assert equal(a[0], b[0]) and all(equal(x, y) for x, y in zip(a[1:4], b[1:4]))


@pytest.mark.parametrize("name", IDS)
def test_privileged_facts_stay_out_of_observations_and_info(name):
    env = make_vec(name, 3, autoreset_mode="DISABLED")
    env.reset(seed=0)
    facts = env.privileged()
    assert facts and all(len(value) == 3 for value in facts.values())
    assert not set(facts) & set(as_dict_space(env.single_observation_space).spaces)
    for action in actions(env, ENOUGH):
        _, _, terminated, truncated, info = env.step(action)
        assert not set(facts) & set(info)
        if (terminated | truncated).all():
            break
    single = gymnasium.make(f"embodied_mem/{name}").unwrapped
    single.reset(seed=0)
    assert set(single.privileged()) == set(facts)


@pytest.mark.parametrize("name", IDS)
def test_bad_actions_are_refused_with_expected_and_actual(name):
    env = make_vec(name, 2)
    env.reset(seed=0)
    good = actions(env, 1)[0]
    bad = [good[:1], np.zeros((2, 7, 7)), np.array(["a", "b"]), None]
    if isinstance(env.single_action_space, spaces.Discrete):
        space = env.single_action_space
        bad += [good.astype(float), good.astype(bool), np.array([space.start, space.start + space.n])]
        bad += [np.array([space.start, space.start - 1])]
    for item in bad:
        with pytest.raises(UsageError, match="expected .* got"):
            env.step(item)
    env.step(good)


@pytest.mark.parametrize("name", IDS)
def test_unknown_options_are_refused(name):
    with pytest.raises(UsageError, match="has no option 'colour'"):
        make_vec(name, 2, colour=1)
