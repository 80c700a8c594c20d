"""Counter-based random draws: every number is a hash of (key, stream, counter), for whole batches at once.

An episode has one uint64 key, a hash of (seed, episode index). A draw names a ``stream`` (a small constant per
purpose) and a ``counter`` (time step, item number), so it does not depend on what was drawn before, on the row or on
the batch size. The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood 2014); not for cryptography.

>>> keys = episode_keys(seed_keys(np.array([7, 7])), np.array([0, 1]))
>>> bool(keys[0] != keys[1]), integers(keys, 0, 0, 10).shape
(True, (2,))
"""

from __future__ import annotations

import numpy as np

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_STREAM = 0xD1342543DE82EF95
_GOLDEN_64 = np.uint64(_GOLDEN)
_EPISODE_64 = np.uint64(0xAF251AF3B0F025B5)
_MULTIPLY_1, _MULTIPLY_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _32, _11 = (np.uint64(shift) for shift in (30, 27, 31, 32, 11))


def mix64(x: np.ndarray) -> np.ndarray:
    """Return the SplitMix64 finaliser of ``x`` (any shape) uint64, elementwise; a bijection."""
    x = x ^ (x >> _30)
    x *= _MULTIPLY_1
    x ^= x >> _27
    x *= _MULTIPLY_2
    x ^= x >> _31
    return x


def seed_keys(seeds: np.ndarray) -> np.ndarray:
    """Return the (M,) uint64 keys of seeds (M,) uint64, from which `episode_keys` starts."""
    return mix64(np.asarray(seeds, dtype=np.uint64) + _GOLDEN_64)


def episode_keys(seed_keys: np.ndarray, episodes: np.ndarray) -> np.ndarray:
    """Return the (M,) uint64 keys of episodes (M,) int64 >= 0 under `seed_keys` (M,)."""
    return mix64(seed_keys + episodes.astype(np.uint64) * _EPISODE_64)


def bits(keys: np.ndarray, stream: int, counter: int | np.ndarray = 0) -> np.ndarray:
    """Return uint64 draws of the broadcast shape of ``keys`` (array, uint64) and ``counter`` (integers >= 0)."""
    if isinstance(counter, int):
        return mix64(keys + np.uint64((stream * _STREAM + (counter + 1) * _GOLDEN) & _MASK))
    shift = np.asarray(counter).astype(np.uint64) * _GOLDEN_64
    return mix64(keys + (shift + np.uint64((stream * _STREAM + _GOLDEN) & _MASK)))


def uniform(keys: np.ndarray, stream: int, counter: int | np.ndarray = 0) -> np.ndarray:
    """Return float64 draws in [0, 1) of the broadcast shape of ``keys`` and ``counter``."""
    return (bits(keys, stream, counter) >> _11) * (1.0 / (1 << 53))


def normal(keys: np.ndarray, stream: int, counter: int | np.ndarray = 0) -> np.ndarray:
    """Return standard normal float64 draws (Box-Muller) of the broadcast shape of ``keys`` and ``counter``."""
    raw = bits(keys, stream, counter)
    radius = np.sqrt(-2.0 * np.log(((raw >> _32) + 0.5) * (1.0 / (1 << 32))))
    return radius * np.cos((raw & np.uint64(0xFFFFFFFF)) * (2.0 * np.pi / (1 << 32)))


def integers(
    keys: np.ndarray, stream: int, low: int | np.ndarray, high: int | np.ndarray, counter: int | np.ndarray = 0
) -> np.ndarray:
    """Return int64 draws in [low, high); ``high - low`` must be in [1, 2^31). Bias is below (high - low) / 2^32."""
    top = (bits(keys, stream, counter) >> _32).view(np.int64)
    return ((top * (high - low)) >> 32) + low


def permutation(keys: np.ndarray, stream: int, n: int) -> np.ndarray:
    """Return one random permutation of range(n) per key: (M, n) int64 for keys (M,).

    The item number sits in the low bits of the random sort key, so one plain sort gives the order.
    """
    low = np.uint64(max(1, (n - 1).bit_length()))
    items = np.arange(n, dtype=np.uint64)
    draws = (bits(np.asarray(keys)[:, None], stream, items[None]) >> low << low) | items
    draws.sort(axis=1)
    return (draws & np.uint64((1 << int(low)) - 1)).astype(np.int64)


def generator(key: int | np.uint64, stream: int = 0) -> np.random.Generator:
    """Return a NumPy generator of one episode key, for set-up code that draws many numbers for a single row."""
    return np.random.Generator(np.random.Philox(key=[int(key), stream]))
