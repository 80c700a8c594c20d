"""Observations that do not fit the published space are refused with what was expected and what came."""

import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem.spaces import space_to_json
from embodied_mem.wire.codec import ProtocolError
from embodied_mem.wire.schema import Schema

SPACE = spaces.Dict(
    {
        "rgb": spaces.Box(0, 255, (4, 4, 3), np.uint8),
        "vector": spaces.Box(-1, 1, (3,), np.float32),
        "inner": spaces.Dict({"class": spaces.Discrete(5, start=2), "code": spaces.Box(-1, 7, (2,), np.int32)}),
        "flags": spaces.MultiBinary(3),
        "several": spaces.MultiDiscrete([3, 4]),
    }
)


@pytest.fixture
def schema():
    return Schema(space_to_json(SPACE))


def test_samples_fit_and_come_back_as_they_were(schema):
    SPACE.seed(0)
    for _ in range(20):
        sample = SPACE.sample()
        back = schema.build(schema.read(schema.take({**_batched(sample), "unread": np.zeros(1)}, 0)))
        assert SPACE.contains(back)
        assert all(np.array_equal(back[key], sample[key]) for key in ("rgb", "vector", "flags", "several"))
        assert back["inner"]["class"] == sample["inner"]["class"]


def test_empty_rows_are_valid(schema):
    rows = schema.build([leaf.empty(2)[1] for leaf in schema.leaves])
    assert SPACE.contains(rows)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rgb": np.zeros((4, 4, 3), np.float32)}, "expected uint8"),
        ({"vector": np.zeros(4, np.float32)}, r"shape \(4,\)"),
        ({"vector": [0.0, 0.0, 0.0]}, "expected an array, got list"),
        ({"vector": None}, "got NoneType"),
        ({"inner": {"class": 7, "code": np.zeros(2, np.int32)}}, r"values in \[2, 6\]"),
        ({"inner": {"class": 2**70, "code": np.zeros(2, np.int32)}}, "64-bit"),
        ({"inner": {"class": True, "code": np.zeros(2, np.int32)}}, "expected an array, got bool"),
        ({"inner": {"class": 2, "code": np.array([0, 8], np.int32)}}, r"\[-1, 7\]"),
        ({"inner": {"class": 2}}, "missing inner/code"),
        ({"more": np.zeros(1)}, "unknown more"),
        ({"several": np.array([0, 4])}, "several: expected values"),
    ],
)
def test_misfits_are_named(schema, change, word):
    SPACE.seed(1)
    value = {**SPACE.sample(), **change}
    with pytest.raises(ProtocolError, match=word) as caught:
        schema.read(value)
    assert caught.value.code == "schema"


def test_bare_spaces():
    schema = Schema(space_to_json(spaces.Box(-1, 1, (2,), np.float32)))
    assert schema.build(schema.read(np.ones(2, np.float32))).tolist() == [1, 1]
    with pytest.raises(ProtocolError, match="unknown x"):
        schema.read({"x": np.ones(2, np.float32)})
    with pytest.raises(ProtocolError, match="expected a map"):
        Schema(space_to_json(SPACE)).read(np.ones(2, np.float32))


def test_take_converts_within_a_kind_only():
    schema = Schema(space_to_json(spaces.Dict({"vector": spaces.Box(-1, 1, (2,), np.float32)})))
    assert schema.take({"vector": np.ones((1, 2))}, 0)["vector"].dtype == np.float32
    with pytest.raises(ProtocolError, match="expected float32, got int64"):
        schema.take({"vector": np.ones((1, 2), int)}, 0)
    with pytest.raises(ProtocolError, match="vector, which is missing"):
        schema.take({"rgb": np.ones((1, 2))}, 0)


@pytest.mark.parametrize("bad", [{"type": "Text"}, {}, {"type": "Box", "shape": "x"}, {"type": "Dict", "spaces": 3}])
def test_no_space_is_no_schema(bad):
    with pytest.raises(ProtocolError):
        Schema(bad)


def _batched(value):
    if isinstance(value, dict):
        return {key: _batched(item) for key, item in value.items()}
    return np.asarray(value)[None]
