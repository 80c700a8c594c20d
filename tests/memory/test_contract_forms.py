"""A1-A3: the sequence form is the step form, however it is cut or padded; a reset row is a fresh row."""

from __future__ import annotations

import pytest
import torch

from embodied_mem.memory.contract import select

N, T = 4, 37


@pytest.mark.parametrize("rate", [0.0, 0.08, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a1_sequence_equals_step_loop(case, tools, rate, dtype):
    memory = case.build(dtype)
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, rate), tools.warm(memory, N)
    with torch.no_grad():
        y, after = memory.sequence(x, state, resets)
        want, want_after = tools.loop(memory, x, state, resets)
    matrix = any(spec.role == "param_like" for spec in memory.state_spec().values())
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5 if matrix else 1e-4
    tools.close(y, want, tolerance)
    tools.close(after, want_after, tolerance, "state")


def test_a1_no_state_and_no_resets_mean_fresh_and_none(case, tools):
    memory = case.build()
    x = tools.inputs(memory, N, T)
    with torch.no_grad():
        y, after = memory.sequence(x)
        want, want_after = memory.sequence(x, memory.initial_state(N), torch.zeros(N, T, dtype=torch.bool))
    tools.close(y, want, 1e-10)
    tools.close(after, want_after, 1e-10, "state")


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a1_soft_resets(case, tools, rate):
    memory = case.build()
    if "soft_reset" not in memory.properties:
        with pytest.raises(ValueError, match="soft-reset"):
            memory.sequence(tools.inputs(memory, N, T), soft_resets=tools.resets(N, T, 0.1))
        return
    x, resets, soft = tools.inputs(memory, N, T), tools.resets(N, T, rate, 5), tools.resets(N, T, 0.1, 6)
    state = tools.warm(memory, N)
    with torch.no_grad():
        y, after = memory.sequence(x, state, resets, soft_resets=soft)
        want, want_after = tools.loop(memory, x, state, resets, soft_reset=soft)
        both, _ = memory.sequence(x, state, resets | soft, soft_resets=soft)
        hard, _ = memory.sequence(x, state, resets | soft)
    tools.close(y, want, 1e-10)
    tools.close(after, want_after, 1e-10, "state")
    assert torch.equal(both, hard)


def check_split(memory, tools, x, resets, state, whole, point):
    with torch.no_grad():
        left, middle = memory.sequence(tools.at(x, slice(0, point)), state, resets[:, :point], chunk=8)
        right, after = memory.sequence(tools.at(x, slice(point, None)), middle, resets[:, point:], chunk=8)
    tools.close(torch.cat([left, right], 1), whole[0], 1e-10, f"y cut at {point}")
    tools.close(after, whole[1], 1e-10, f"state cut at {point}")


@pytest.mark.parametrize("points", [(1, 8, 13, 24, 36), pytest.param(range(1, T), marks=pytest.mark.full)], ids=str)
def test_a2_split_invariance(case, tools, points):
    memory = case.build()
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, 0.08), tools.warm(memory, N)
    with torch.no_grad():
        whole = memory.sequence(x, state, resets)
    segment_window = "segment_window" in memory.properties
    for point in points:
        if not (segment_window and point % 8):
            check_split(memory, tools, x, resets, state, whole, point)


def test_a2_chunk_never_changes_the_result(case, tools):
    memory = case.build()
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, 0.08), tools.warm(memory, N)
    with torch.no_grad():
        want, after = memory.sequence(x, state, resets)
        for chunk in (1, 5, 64):
            y, found = memory.sequence(x, state, resets, chunk=chunk)
            tools.close(y, want, 1e-10, f"y at chunk {chunk}")
            tools.close(found, after, 1e-10, f"state at chunk {chunk}")


@pytest.mark.parametrize("filler", [0.0, 1e30, float("nan")])
@pytest.mark.parametrize("rate", [0.0, 0.15])
def test_a2_right_padding_changes_nothing(case, tools, filler, rate):
    memory = case.build()
    lengths = torch.tensor([T, 1, 0, 20])
    valid = torch.arange(T) < lengths.unsqueeze(1)
    x, resets, state = tools.inputs(memory, N, T), tools.resets(N, T, rate), tools.warm(memory, N)
    padded = x._replace(x=torch.where(valid.unsqueeze(-1), x.x, filler))
    with torch.no_grad():
        y, after = memory.sequence(padded, state, resets, valid=valid)
        for row, length in enumerate(lengths.tolist()):
            alone = select(state, [row])
            if length:
                cut = tools.at(tools.rows(x, slice(row, row + 1)), slice(0, length))
                want, alone = memory.sequence(cut, alone, resets[row : row + 1, :length])
                tools.close(y[row : row + 1, :length], want, 1e-10, f"y of row {row}")
            tools.close(select(after, [row]), alone, 1e-10, f"state of row {row}")
    assert not y[~valid].any()


def test_a2_all_valid_equals_none(case, tools):
    memory = case.build()
    x, resets = tools.inputs(memory, N, T), tools.resets(N, T, 0.1)
    with torch.no_grad():
        y, after = memory.sequence(x, None, resets, valid=torch.ones(N, T, dtype=torch.bool))
        want, want_after = memory.sequence(x, None, resets)
    assert torch.equal(y, want) and tools.equal(after, want_after)


def test_a3_reset_row_is_a_fresh_row_bitwise(case, tools):
    memory = case.build(torch.float32)
    x, used, fresh = tools.inputs(memory, N, 6), tools.warm(memory, N), memory.initial_state(N)
    reset = torch.tensor([True, False, True, True])
    opens = torch.ones(N, dtype=torch.bool)
    with torch.no_grad():
        found, want = dict(used), dict(fresh)
        for t in range(6):
            first = t == 0
            y, found = memory.step(tools.at(x, t), found, reset if first else None)
            y_fresh, want = memory.step(tools.at(x, t), want, opens if first else None)
            assert torch.equal(y[reset], y_fresh[reset]), f"step {t}"
    if "stateless" not in memory.properties:
        assert not torch.equal(y[1], y_fresh[1])


def test_a3_reset_inside_a_sequence(case, tools):
    memory = case.build()
    x, state = tools.inputs(memory, N, T), tools.warm(memory, N)
    resets = torch.zeros(N, T, dtype=torch.bool)
    resets[:, 17] = True
    with torch.no_grad():
        y, _ = memory.sequence(x, state, resets)
        want, _ = memory.sequence(tools.at(x, slice(17, None)), memory.initial_state(N), resets[:, 17:])
    tools.close(y[:, 17:], want, 1e-10)
