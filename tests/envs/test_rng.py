import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied_mem.envs import rng


@pytest.fixture(scope="module")
def keys():
    return rng.episode_keys(rng.seed_keys(np.arange(2000, dtype=np.uint64)), np.zeros(2000, np.int64))


def test_keys_differ_between_seeds_and_episodes():
    seeds = rng.seed_keys(np.arange(300, dtype=np.uint64))
    keys = np.concatenate([rng.episode_keys(seeds, np.full(300, k)) for k in range(300)])
    assert len(np.unique(keys)) == 90_000


def test_draws_depend_on_key_stream_and_counter_alone(keys):
    together = rng.uniform(keys[:, None], 3, np.arange(5))
    alone = rng.uniform(keys[7:8], 3, 4)
    assert together[7, 4] == alone[0]
    assert not np.array_equal(together, rng.uniform(keys[:, None], 4, np.arange(5)))


def test_uniform_is_uniform_and_uncorrelated(keys):
    draws = rng.uniform(keys[:, None], 0, np.arange(50))
    assert draws.min() >= 0 and draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.005 and abs(draws.var() - 1 / 12) < 0.002
    assert abs(np.corrcoef(draws[:, 0], draws[:, 1])[0, 1]) < 0.1
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.1


def test_normal_has_unit_moments(keys):
    draws = rng.normal(keys[:, None], 0, np.arange(50))
    assert abs(draws.mean()) < 0.02 and abs(draws.std() - 1) < 0.01 and abs((draws**4).mean() - 3) < 0.15


@given(low=st.integers(-(2**40), 2**40), span=st.integers(1, 2**31 - 1), seed=st.integers(0, 2**64 - 1))
def test_integers_stay_in_their_range(low, span, seed):
    keys = rng.seed_keys(np.array([seed], dtype=np.uint64))
    draws = rng.integers(keys, 0, low, low + span, np.arange(64))
    assert draws.dtype == np.int64 and draws.min() >= low and draws.max() < low + span


def test_integers_accept_a_range_per_row(keys):
    draws = rng.integers(keys, 0, 10, np.where(np.arange(2000) % 2, 11, 20))
    assert (draws[1::2] == 10).all() and set(draws[::2]) == set(range(10, 20))


@given(n=st.integers(1, 300), seed=st.integers(0, 2**32))
def test_permutations_hold_every_item_once(n, seed):
    keys = rng.seed_keys(np.arange(seed, seed + 4, dtype=np.uint64))
    assert np.array_equal(np.sort(rng.permutation(keys, 0, n), axis=1), np.tile(np.arange(n), (4, 1)))


def test_every_place_of_a_permutation_is_uniform(keys):
    orders = rng.permutation(keys, 0, 4)
    for place in range(4):
        assert np.allclose(np.bincount(orders[:, place], minlength=4) / 2000, 0.25, atol=0.05)


def test_generators_repeat(keys):
    assert rng.generator(keys[0], 1).random() == rng.generator(keys[0], 1).random()
    assert rng.generator(keys[0], 1).random() != rng.generator(keys[0], 2).random()
