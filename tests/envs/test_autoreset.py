import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from embodied_mem.envs.autoreset import AssignedEpisodes, NextStepAutoreset, mode_of, put_rows, resets_from_done
from embodied_mem.errors import UsageError


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_resets_are_where_the_step_counter_is_zero(counter_env, mode):
    env = counter_env(5, autoreset_mode=mode)
    observed, _ = env.reset(seed=1)
    counters, done = [observed["vector"][:, 1]], [np.zeros(5, bool)]
    for _ in range(60):
        observed, _, term, trunc, _ = env.step(np.zeros(5, int))
        counters.append(observed["vector"][:, 1])
        ended = term | trunc
        done.append(np.zeros(5, bool) if mode == "DISABLED" else ended)
        if mode == "DISABLED" and ended.any():
            observed, _ = env.reset(options={"reset_mask": ended})
            counters.append(observed["vector"][:, 1])
            done.append(ended)
    counters, done = np.stack(counters, 1), np.stack(done, 1)
    opens = counters == 0
    assert opens[:, 1:].any()
    whole = resets_from_done(done, mode, np.ones(5, bool))
    assert np.array_equal(whole, opens)

    # Two fragments and single steps give the same as one pass.
    carry = done[:, 20] if mode == "NEXT_STEP" else np.zeros(5, bool)
    halves = [resets_from_done(done[:, :21], mode, np.ones(5, bool)), resets_from_done(done[:, 21:], mode, carry)]
    assert np.array_equal(np.concatenate(halves, 1), opens)
    first = np.ones(5, bool)
    for t in range(done.shape[1]):
        assert np.array_equal(resets_from_done(done[:, t], mode, first), opens[:, t])
        first = done[:, t] if mode == "NEXT_STEP" else np.zeros(5, bool)


@pytest.mark.parametrize(
    ("done", "first"),
    [
        (np.zeros((2, 3)), np.zeros(2, bool)),
        (np.zeros((2, 3), bool), np.zeros(3, bool)),
        (np.array(True), np.array(True)),
    ],
)
def test_resets_refuse_bad_shapes_and_types(done, first):
    with pytest.raises(UsageError, match="expected"):
        resets_from_done(done, "NEXT_STEP", first)


def test_next_step_wrapper_obeys_the_rules_over_a_batched_env(counter_env):
    env = NextStepAutoreset(counter_env(4, autoreset_mode="SAME_STEP"))
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP and mode_of(env) is AutoresetMode.NEXT_STEP
    observed, _ = env.reset(seed=0)
    waiting = np.zeros(4, bool)
    previous = observed["vector"]
    ends = 0
    for _ in range(60):
        observed, reward, term, trunc, info = env.step(np.ones(4, int))
        now = observed["vector"]
        assert (now[waiting, 1] == 0).all() and (reward[waiting] == 0).all()
        assert (now[~waiting, 1] == previous[~waiting, 1] + 1).all() and (
            now[~waiting, 2] == previous[~waiting, 2]
        ).all()
        assert (reward[~waiting] == 1.5).all()
        waiting = term | trunc
        ends += waiting.sum()
        if waiting.any():
            assert np.array_equal(info["_total"], waiting) and (info["total"][waiting] == now[waiting, 1]).all()
        assert "final_obs" not in info
        previous = now
    assert ends > 20


def test_next_step_wrapper_equals_native_next_step_up_to_the_extra_reset(plain_counter):
    def sync(mode):
        return SyncVectorEnv([plain_counter] * 3, autoreset_mode=mode)

    native, wrapped = sync(AutoresetMode.NEXT_STEP), NextStepAutoreset(sync(AutoresetMode.SAME_STEP))
    native.reset(seed=0)
    wrapped.reset(seed=0)
    # Before any reset both play the same episode: seeds are equal and actions change nothing.
    ended = np.zeros(3, bool)
    for _ in range(6):
        a, b = native.step(np.ones(3, int)), wrapped.step(np.ones(3, int))
        for left, right in zip(a[:4], b[:4]):
            assert np.array_equal(left[~ended], right[~ended])
        ended |= a[2] | a[3]
    assert ended.any()


def test_wrappers_refuse_other_modes(plain_counter):
    env = SyncVectorEnv([plain_counter] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(UsageError, match="SAME_STEP mode, got NEXT_STEP"):
        NextStepAutoreset(env)
    with pytest.raises(UsageError, match="DISABLED mode, got NEXT_STEP"):
        AssignedEpisodes(env)


def test_mode_of_sees_through_shared_metadata_and_wrappers(plain_counter):
    first = SyncVectorEnv([plain_counter] * 2, autoreset_mode=AutoresetMode.NEXT_STEP)
    second = SyncVectorEnv([plain_counter] * 2, autoreset_mode=AutoresetMode.DISABLED)
    assert mode_of(first) is AutoresetMode.NEXT_STEP and mode_of(second) is AutoresetMode.DISABLED
    assert mode_of(RecordEpisodeStatistics(first)) is AutoresetMode.NEXT_STEP


def test_an_env_that_ignores_the_mask_is_refused(counter_env):
    class Careless(counter_env):
        def reset(self, *, seed=None, options=None):
            return super().reset(seed=seed)

    env = NextStepAutoreset(Careless(3, autoreset_mode="SAME_STEP"))
    env.reset(seed=0)
    with pytest.raises(UsageError, match="reset_mask"):
        for _ in range(10):
            env.step(np.zeros(3, int))


def assigned(plain_counter, n):
    return AssignedEpisodes(SyncVectorEnv([plain_counter] * n, autoreset_mode=AutoresetMode.DISABLED))


def test_assigned_episodes_of_a_foreign_env_depend_on_seed_and_number(plain_counter):
    a, _ = assigned(plain_counter, 3).reset(seed=7, options={"episode": np.array([4, 5, 4])})
    b, _ = assigned(plain_counter, 1).reset(seed=7, options={"episode": np.array([5])})
    c, _ = assigned(plain_counter, 1).reset(seed=8, options={"episode": np.array([5])})
    assert (a[0] == a[2]).all() and (a[1] == b[0]).all() and (b != c).any()


def test_assigned_episodes_without_numbers_count_on(plain_counter):
    one = assigned(plain_counter, 2)
    first, _ = one.reset(seed=7)
    second, _ = one.reset(options={"reset_mask": np.array([True, False])})
    other = assigned(plain_counter, 1)
    assert (other.reset(seed=7)[0][0] == first[0]).all()
    assert (other.reset()[0][0] == second[0]).all() and (second[1] == first[1]).all()


def test_finished_foreign_rows_are_inert(plain_counter):
    env = assigned(plain_counter, 4)
    env.reset(seed=0, options={"episode": np.arange(4)})
    frozen, ends = None, np.zeros(4, int)
    for step in range(12):
        observed, reward, term, trunc, info = env.step(np.ones(4, int))
        ends += info.get("_seen", np.zeros(4, bool))
        if step >= 4:
            assert (term | trunc).all() and (reward == 0).all()
            assert frozen is None or np.array_equal(frozen, observed)
            frozen = observed
    assert (ends == 1).all(), "metrics come once"
    mask = np.array([False, False, True, False])
    again, _ = env.reset(options={"reset_mask": mask, "episode": np.full(4, 2)})
    assert again[2, 1] == 0 and (again[~mask] == frozen[~mask]).all()
    assert env.step(np.ones(4, int))[1].tolist() == [0, 0, 1, 0]


def test_put_rows_handles_nested_observations():
    target = {"a": np.zeros((3, 2)), "b": (np.zeros(3),)}
    source = {"a": np.ones((3, 2)), "b": (np.ones(3),)}
    out = put_rows(target, source, np.array([True, False, True]))
    assert out["a"][:, 0].tolist() == [1, 0, 1] and out["b"][0].tolist() == [1, 0, 1] and target["a"].sum() == 0
    single = np.array([{"a": np.full(2, 5.0), "b": (6.0,)}, None, None], dtype=object)
    out = put_rows(target, single, np.array([True, False, False]))
    assert out["a"][0].tolist() == [5, 5] and out["b"][0].tolist() == [6, 0, 0]
