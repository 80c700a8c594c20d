"""Spaces in dict form: names, shapes, one-hot codes and action checks."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from embodied_mem.errors import UsageError
from embodied_mem.spaces import as_dict_obs, as_dict_space, check_actions, decode_text, encode_text

CASES = [
    (spaces.Discrete(4, start=2), np.array([2, 5]), "vector", (4,)),
    (spaces.MultiDiscrete([2, 3]), np.array([[1, 2], [0, 0]]), "vector", (5,)),
    (spaces.Box(-1, 1, (3,), np.float64), np.zeros((2, 3)), "vector", (3,)),
    (spaces.Box(0, 255, (4, 5, 3), np.uint8), np.zeros((2, 4, 5, 3), np.uint8), "rgb", (4, 5, 3)),
    (spaces.MultiBinary(3), np.ones((2, 3), np.int8), "vector", (3,)),
]


@pytest.mark.parametrize(("space", "obs", "name", "shape"), CASES)
def test_bare_spaces_get_one_name(space, obs, name, shape):
    converted = as_dict_space(space)
    assert list(converted) == [name] and converted[name].shape == shape
    out = as_dict_obs(space, obs)
    assert list(out) == [name] and out[name].shape == (2, *shape) and out[name].dtype == converted[name].dtype


def test_dict_keeps_names_and_one_hot_is_right():
    space = spaces.Dict({"rgb": CASES[3][0], "goal": spaces.Discrete(3)})
    out = as_dict_obs(space, {"rgb": CASES[3][1], "goal": np.array([0, 2])})
    assert set(out) == set(as_dict_space(space)) == {"rgb", "goal"}
    np.testing.assert_array_equal(out["goal"], [[1, 0, 0], [0, 0, 1]])


def test_unsupported_space_is_named():
    with pytest.raises(UsageError, match="Text"):
        as_dict_space(spaces.Text(5))


@pytest.mark.parametrize(
    ("space", "actions", "message"),
    [
        (spaces.Discrete(3), np.array([0, 3]), r"\[0, 2\]"),
        (spaces.Discrete(3), np.array([0.0, 1.0]), "integer"),
        (spaces.Discrete(3), np.array([0]), r"\(2,\)"),
        (spaces.MultiDiscrete([2, 2]), np.array([[0, 2], [0, 0]]), "below"),
        (spaces.Box(-1, 1, (2,)), np.array([[0, np.nan], [0, 0]]), "finite"),
        (spaces.Box(-1, 1, (2,)), np.array([[0, 2.0], [0, 0]]), "inside"),
        (spaces.Box(-1, 1, (2,)), np.array([["a", "b"], ["a", "b"]]), "numeric"),
    ],
)
def test_bad_actions_raise(space, actions, message):
    with pytest.raises(UsageError, match=message):
        check_actions(space, actions, 2)


@given(st.text(max_size=20).filter(lambda text: "\0" not in text))
def test_text_round_trip(text):
    raw = text.encode()
    assert decode_text(encode_text(text, len(raw) + 3)) == text
    if raw:
        with pytest.raises(UsageError, match="at most"):
            encode_text(text, len(raw) - 1)
