from __future__ import annotations

import numpy as np
import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.state import (
    StateSpec,
    detach,
    from_numpy,
    merge,
    pack,
    reset_where,
    select,
    to_numpy,
    unpack,
)


def state(n=4):
    return {"a/h": torch.randn(n, 2, 3), "t": torch.arange(n, dtype=torch.int32), "on": torch.arange(n) % 2 == 0}


def same(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def test_select_takes_rows_by_tensor_or_list_and_copies():
    whole = state()
    picked = select(whole, [2, 0, 2])
    assert same(picked, {k: v[[2, 0, 2]] for k, v in whole.items()})
    picked["t"].zero_()
    assert int(whole["t"][2]) == 2
    with pytest.raises(UsageError, match="turn a mask into row numbers"):
        select(whole, whole["on"])


def test_merge_undoes_select_and_refuses_other_keys():
    whole = state()
    assert same(merge([select(whole, [0]), select(whole, [1, 2, 3])]), whole)
    with pytest.raises(UsageError, match="expected states with the keys"):
        merge([whole, {"t": whole["t"]}])
    with pytest.raises(UsageError, match="at least one state"):
        merge([])


def test_numpy_round_trip_keeps_dtypes_and_refuses_bfloat16():
    whole = state()
    arrays = to_numpy(whole)
    assert {k: v.dtype for k, v in arrays.items()} == {"a/h": np.float32, "t": np.int32, "on": np.bool_}
    assert same(from_numpy(arrays), whole)
    with pytest.raises(UsageError, match="without bfloat16"):
        to_numpy({"h": torch.zeros(1, dtype=torch.bfloat16)})


def test_detach():
    h = torch.ones(2, requires_grad=True) * 2
    assert detach({"h": h})["h"].grad_fn is None


def test_pack_saturates_instead_of_overflowing():
    packed = pack({"h": torch.tensor([[1e9, -1e9, 0.5]]), "t": torch.tensor([70_000])})
    assert packed["h"].dtype == torch.float16 and torch.isfinite(packed["h"]).all()
    back = unpack(packed, {"h": StateSpec((3,)), "t": StateSpec((), torch.int64, "counter")})
    assert back["h"].tolist() == [[65504.0, -65504.0, 0.5]] and back["t"].tolist() == [70_000]


def test_reset_where_lets_no_nan_cross():
    old = {"h": torch.tensor([[float("nan")], [1.0]], requires_grad=True)}
    new = reset_where(torch.tensor([True, False]), {"h": torch.zeros(1, 1)}, old)
    assert new["h"].tolist() == [[0.0], [1.0]]
    new["h"].sum().backward()
    assert old["h"].grad.tolist() == [[0.0], [1.0]]


def test_counters_are_integers():
    with pytest.raises(TypeError, match="int32 or int64 for a counter"):
        StateSpec((), torch.float32, "counter")
    spec = StateSpec((3,), torch.float32, "ring")
    assert spec.nbytes == 12
    assert spec.dtype_under(torch.bfloat16) == torch.float32 and spec.dtype_under(torch.float64) == torch.float64
    assert StateSpec((3,)).dtype_under(torch.bfloat16) == torch.bfloat16
