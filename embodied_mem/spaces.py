"""Gymnasium spaces in the one form policies use: a flat Dict of named arrays with a leading batch axis.

Observation names are fixed (`rgb`, `depth`, `semantic`, `scan`, `vector`, `goal`, `instruction`, `intrinsics`,
`pose`), so an encoder is chosen by name. A bare Box, Discrete or MultiDiscrete space becomes ``vector`` (or ``rgb``
for images).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from embodied_mem.errors import UsageError


def encode_text(text: str, length: int) -> np.ndarray:
    """Return UTF-8 bytes of ``text`` as (length,) uint8, zero-padded; too long a text is an error, never cut.

    >>> decode_text(encode_text("go to the bed", 16))
    'go to the bed'
    """
    raw = text.encode("utf-8")
    if len(raw) > length:
        raise UsageError(f"expected at most {length} UTF-8 bytes of text, got {len(raw)}: {text!r}")
    if b"\0" in raw:
        raise UsageError(f"text holds a zero byte, which marks padding: {text!r}")
    out = np.zeros(length, dtype=np.uint8)
    out[: len(raw)] = np.frombuffer(raw, dtype=np.uint8)
    return out


def decode_text(codes: np.ndarray) -> str:
    """Return the text in a (L,) uint8 array written by `encode_text`."""
    return bytes(np.asarray(codes, dtype=np.uint8)).rstrip(b"\0").decode("utf-8")


def as_dict_space(space: gymnasium.Space) -> spaces.Dict:
    """Return the Dict form of a single-env observation space.

    Dict spaces keep their names (nested Dicts are joined with a slash); an (H, W, 3) uint8 Box becomes ``rgb``; any
    other Box becomes ``vector`` (F,) float32; Discrete and MultiDiscrete become a one-hot ``vector``.

    Raises:
        UsageError: the space has no such form (Text, Graph, Sequence, ...).
    """
    return spaces.Dict({name: leaf_space(leaf) for name, leaf in _leaves(space).items()})


def as_dict_obs(space: gymnasium.Space, obs: Any) -> dict[str, np.ndarray]:
    """Return batched observations of ``space`` (the single-env space) as a dict of arrays with leading axis B.

    Args:
        space: single-env observation space.
        obs: what a vector env returned for it, leading axis B.
    """
    if isinstance(space, spaces.Dict):
        out: dict[str, np.ndarray] = {}
        for key, inner in space.spaces.items():
            for name, value in as_dict_obs(inner, obs[key]).items():
                out[key if not isinstance(inner, spaces.Dict) else f"{key}/{name}"] = value
        return out
    return {_default_name(space): _leaf_obs(space, np.asarray(obs))}


def check_actions(space: gymnasium.Space, actions: Any, n: int) -> np.ndarray:
    """Return ``actions`` as an array (n, ...) after checking shape, dtype kind and range against the single-env space.

    Raises:
        UsageError: the shape, the dtype or a value does not fit; expected and actual are named.
    """
    array = np.asarray(actions)
    if isinstance(space, spaces.Discrete):
        _check_shape(array, (n,), "actions")
        _check_integer(array)
        low, high = int(space.start), int(space.start + space.n - 1)  # type: ignore[operator]
        if array.size and (array.min() < low or array.max() > high):
            raise UsageError(f"expected actions in [{low}, {high}], got values in [{array.min()}, {array.max()}]")
        return array
    if isinstance(space, spaces.MultiDiscrete):
        _check_shape(array, (n, *space.nvec.shape), "actions")
        _check_integer(array)
        if (array < space.start).any() or (array >= space.start + space.nvec).any():
            raise UsageError(f"expected actions below {(space.start + space.nvec).tolist()}, got {array.tolist()}")
        return array
    if isinstance(space, spaces.Box):
        _check_shape(array, (n, *space.shape), "actions")
        if array.dtype.kind not in "fiu":
            raise UsageError(f"expected numeric actions for {space}, got dtype {array.dtype}")
        if not np.isfinite(array).all():
            raise UsageError(f"expected finite actions for {space}, got {array.tolist()}")
        if (array < space.low - 1e-6).any() or (array > space.high + 1e-6).any():
            raise UsageError(f"expected actions inside {space}, got values in [{array.min()}, {array.max()}]")
        return array.astype(space.dtype, copy=False)
    raise UsageError(f"expected a Discrete, MultiDiscrete or Box action space, got {space}")


def misfit(
    observations: gymnasium.Space, actions: gymnasium.Space, shown: gymnasium.Space, taken: gymnasium.Space
) -> str | None:
    """Return why a policy's single-env spaces do not fit those of an environment, or None if they do.

    Args:
        observations: what the policy reads.
        actions: what it plays.
        shown: what the environment shows; it may show more than is read.
        taken: what the environment takes.
    """
    wanted, offered = as_dict_space(observations), as_dict_space(shown)
    missing = sorted(set(wanted.spaces) - set(offered.spaces))
    if missing:
        return f"it reads {', '.join(missing)}; the task shows {', '.join(sorted(offered.spaces))}"
    for name, space in wanted.spaces.items():
        if offered[name].shape != space.shape:
            return f"it reads {name} of shape {space.shape}, the task shows {offered[name].shape}"
    if actions != taken:
        return f"it acts in {actions}, the task takes {taken}"
    return None


def space_to_json(space: gymnasium.Space) -> dict[str, Any]:
    """Return the JSON form of a space (Box, Discrete, MultiDiscrete, MultiBinary, Dict); see `space_from_json`.

    Raises:
        UsageError: another kind of space.
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: space_to_json(inner) for key, inner in space.spaces.items()}}
    if isinstance(space, spaces.Box):
        low, high = _bound_to_json(space.low), _bound_to_json(space.high)
        dtype = np.dtype(space.dtype).name
        return {"type": "Box", "low": low, "high": high, "shape": list(space.shape), "dtype": dtype}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "shape": list(space.shape)}
    raise UsageError(f"expected a Box, Discrete, MultiDiscrete, MultiBinary or Dict space, got {space}")


def space_from_json(value: Any) -> gymnasium.Space:
    """Return the space written by `space_to_json`.

    Raises:
        UsageError: the value describes no space.

    >>> space = spaces.Dict({"vector": spaces.Box(-np.inf, 2.0, (3,)), "rgb": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
    >>> space_from_json(space_to_json(space)) == space
    True
    """
    try:
        kind = value["type"]
        if kind == "Dict":
            return spaces.Dict({key: space_from_json(inner) for key, inner in value["spaces"].items()})
        if kind == "Box":
            shape, dtype = tuple(value["shape"]), np.dtype(value["dtype"])
            low, high = (np.broadcast_to(np.array(value[end], np.float64), shape) for end in ("low", "high"))
            return spaces.Box(low.astype(dtype), high.astype(dtype), shape, dtype.type)
        if kind == "Discrete":
            return spaces.Discrete(value["n"], start=value["start"])
        if kind == "MultiDiscrete":
            return spaces.MultiDiscrete(np.array(value["nvec"]), start=np.array(value["start"]))
        if kind == "MultiBinary":
            return spaces.MultiBinary(value["shape"])
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise UsageError(f"expected the JSON form of a space, got {str(value)[:200]} ({error!r})") from error
    raise UsageError(f"expected a space of type Box, Discrete, MultiDiscrete, MultiBinary or Dict, got {kind!r}")


def leaf_space(space: gymnasium.Space) -> spaces.Box:
    """Return the Box that a leaf space becomes in the Dict form."""
    if isinstance(space, spaces.Box):
        if space.dtype == np.uint8 or len(space.shape) > 1 or np.issubdtype(space.dtype, np.integer):
            return space
        return spaces.Box(space.low.reshape(-1).astype(np.float32), space.high.reshape(-1).astype(np.float32))
    if isinstance(space, spaces.Discrete):
        return spaces.Box(0.0, 1.0, (int(space.n),), np.float32)
    if isinstance(space, spaces.MultiDiscrete):
        return spaces.Box(0.0, 1.0, (int(space.nvec.sum()),), np.float32)
    if isinstance(space, spaces.MultiBinary):
        return spaces.Box(0.0, 1.0, (int(np.prod(space.shape)),), np.float32)
    raise UsageError(f"expected a Dict, Box, Discrete, MultiDiscrete or MultiBinary observation space, got {space}")


def _bound_to_json(bound: np.ndarray) -> Any:
    """Return one number where all entries agree, else nested lists; infinities are strings, which numpy reads back."""
    flat = bound.reshape(-1)
    if flat.size and (flat == flat[0]).all():
        return _number_to_json(flat[0])
    names = [_number_to_json(value) for value in flat]
    return np.array(names, dtype=object).reshape(bound.shape).tolist()


def _number_to_json(value: Any) -> int | float | str:
    number = value.item()
    return number if np.isfinite(number) else str(number)


def _leaves(space: gymnasium.Space, prefix: str = "") -> dict[str, gymnasium.Space]:
    if not isinstance(space, spaces.Dict):
        return {_default_name(space): space}
    out: dict[str, gymnasium.Space] = {}
    for key, inner in space.spaces.items():
        if isinstance(inner, spaces.Dict):
            out.update(_leaves(inner, f"{prefix}{key}/"))
        else:
            out[prefix + key] = inner
    return out


def _default_name(space: gymnasium.Space) -> str:
    is_image = isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
    return "rgb" if is_image else "vector"


def _leaf_obs(space: gymnasium.Space, obs: np.ndarray) -> np.ndarray:
    if isinstance(space, spaces.Discrete):
        return _one_hot(obs - int(space.start), int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        flat = obs.reshape(obs.shape[0], -1) - space.start.reshape(-1)
        parts = [_one_hot(flat[:, index], int(n)) for index, n in enumerate(space.nvec.reshape(-1))]
        return np.concatenate(parts, axis=1)
    if isinstance(space, spaces.MultiBinary):
        return obs.reshape(obs.shape[0], -1).astype(np.float32)
    target = leaf_space(space)
    return obs.reshape(obs.shape[0], *target.shape).astype(target.dtype, copy=False)


def _one_hot(codes: np.ndarray, n: int) -> np.ndarray:
    return np.eye(n, dtype=np.float32)[codes]


def _check_shape(array: np.ndarray, expected: tuple[int, ...], name: str) -> None:
    if array.shape != expected:
        raise UsageError(f"expected {name} of shape {expected}, got {array.shape}")


def _check_integer(array: np.ndarray) -> None:
    if array.dtype.kind not in "iu":
        raise UsageError(f"expected integer actions, got dtype {array.dtype}")
