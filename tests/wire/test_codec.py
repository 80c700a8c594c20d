"""The codec gives back what it was given, and refuses everything else with one kind of error."""

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embodied_mem.errors import UsageError
from embodied_mem.wire import codec
from embodied_mem.wire.codec import ProtocolError, pack, unpack

arrays = hnp.arrays(
    st.sampled_from([np.dtype(name) for name in codec.DTYPES] + [np.dtype(">f4"), np.dtype(">i8")]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8)
)
keys = st.text(max_size=6).filter(lambda key: key not in (codec.ARRAY, codec.OBJECTS))
messages = st.dictionaries(
    keys,
    st.recursive(
        plain | arrays,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)


def same(a, b):
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and a.astype(b.dtype).tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


@settings(max_examples=150, deadline=None)
@given(messages)
def test_round_trip(message):
    data = pack(message)
    back = unpack(data)
    assert same(message, back)
    assert pack(back) == data


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(data):
    try:
        assert isinstance(unpack(data), dict)
    except ProtocolError as error:
        assert error.code == "garbage"


@settings(max_examples=150, deadline=None)
@given(messages, st.data())
def test_damaged_messages_are_a_message_or_refused(message, data):
    raw = bytearray(pack({"a": np.arange(4), **message}))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] = data.draw(st.integers(0, 255))
    try:
        assert isinstance(unpack(bytes(raw[: data.draw(st.integers(0, len(raw)))])), dict)
    except ProtocolError:
        pass


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([*codec.DTYPES, "|O", "<c8", "<M8[s]", "V4", "no", 3, None]),
    st.lists(st.integers(-2, 2**40), max_size=4) | st.none() | st.text(max_size=3) | st.lists(st.floats(), max_size=2),
    st.binary(max_size=16) | st.text(max_size=4),
)
def test_array_headers_that_lie_are_refused(dtype, shape, data):
    raw = msgpack.packb({"x": {codec.ARRAY: dtype, "shape": shape, "data": data}})
    try:
        found = unpack(raw)["x"]
    except ProtocolError:
        return
    assert found.dtype.str == dtype and list(found.shape) == shape and found.nbytes == len(data)


def test_arrays_arrive_writable_and_as_they_were_laid_out():
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    back = unpack(pack({"x": turned}))["x"]
    assert np.array_equal(back, turned)
    back[0, 0] = 9
    assert turned[0, 0] == 0


def test_text_and_object_arrays_keep_shape_and_items():
    mixed = np.array([[None, {"x": np.arange(2)}], ["a", 1.5]], dtype=object)
    back = unpack(pack({"m": mixed, "t": np.array(["ab", "c"])}))
    assert back["m"].shape == (2, 2) and back["m"][0, 0] is None and back["m"][1, 0] == "a"
    assert np.array_equal(back["m"][0, 1]["x"], [0, 1])
    assert back["t"].tolist() == ["ab", "c"]


def test_bool_arrays_hold_zero_and_one_whatever_the_bytes():
    raw = msgpack.packb({"x": {codec.ARRAY: "|b1", "shape": [3], "data": b"\x00\x02\xff"}})
    assert unpack(raw)["x"].view(np.uint8).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "raw",
    [
        msgpack.packb([1]),
        msgpack.packb({1: 2}),
        msgpack.packb({"x": msgpack.ExtType(5, b"a")}),
        msgpack.packb({"x": msgpack.Timestamp(1, 2)}),
        b"\x81\xa1x" + b"\x91" * 100 + b"\xc0",
        b"\x81\xa1x" + b"\x91" * 5000 + b"\xc0",
        msgpack.packb({"x": [[]] * (codec.MAX_CONTAINERS + 1)}),
        msgpack.packb({"x": [{}] * (codec.MAX_CONTAINERS + 1)}),
        msgpack.packb({"x": {codec.ARRAY: "<f4", "shape": [0, 2**30, 2**30], "data": b""}}),
        msgpack.packb({"x": {codec.OBJECTS: [2], "items": [1]}}),
        msgpack.packb({"x": {codec.ARRAY: "<f4", "shape": [1], "data": b"abcd", "more": 1}}),
        msgpack.packb({"x": 1}) + b"\x00",
    ],
)
def test_what_the_protocol_does_not_have_is_refused(raw):
    with pytest.raises(ProtocolError):
        unpack(raw)


@pytest.mark.parametrize("value", [np.zeros(2, complex), object(), 2**70, {1, 2}, np.datetime64("2020-01-01")])
def test_what_cannot_be_sent_is_an_error_at_the_sender(value):
    with pytest.raises(UsageError):
        pack({"x": value})
