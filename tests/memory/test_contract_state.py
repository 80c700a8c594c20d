"""A8 and A11: the state has the declared bytes at any age and survives every way of carrying it; nothing is mutated."""

from __future__ import annotations

import pytest
import torch

from embodied_mem.memory.contract import from_numpy, make_memory, merge, select, to_numpy

N = 3


def nbytes(state):
    return sum(value.numel() * value.element_size() for value in state.values())


@pytest.mark.parametrize("steps", [300, pytest.param(10_000, marks=pytest.mark.full)])
def test_a8_bytes_are_the_declared_ones_at_any_age(case, tools, steps):
    memory = case.build(torch.float32)
    spec, state = memory.state_spec(), memory.initial_state(N)
    x = tools.inputs(memory, N, 50)
    with torch.no_grad():
        for t in range(steps):
            _, state = memory.step(tools.at(x, t % 50), state, donate=True)
            if t % 37 == 0 or t == steps - 1:
                assert nbytes(state) == N * memory.bytes_per_env(), f"step {t}"
    for key, item in spec.items():
        assert state[key].shape == (N, *item.shape) and state[key].dtype == item.dtype


def test_a8_sequence_state_holds_no_more_than_it_declares(case, tools):
    memory = case.build(torch.float32)
    with torch.no_grad():
        _, state = memory.sequence(tools.inputs(memory, N, 200), None, tools.resets(N, 200, 0.02))
    assert nbytes(state) == N * memory.bytes_per_env()
    # a view of a sequence-long buffer would keep the whole buffer alive in every stored state
    for key, value in state.items():
        assert value.untyped_storage().nbytes() <= 4 * nbytes({key: value}) + 1024, key


def test_spec_matches_the_initial_state(case):
    memory = case.build(torch.float32)
    state, spec = memory.initial_state(N), memory.state_spec()
    assert state.keys() == spec.keys()
    for key, value in state.items():
        assert value.shape == (N, *spec[key].shape) and value.dtype == spec[key].dtype
        assert value.device == next(iter(memory.parameters())).device
    assert memory.bytes_per_env() == nbytes(state) // N
    assert memory.macs_per_token() > 0 and memory.macs_per_token(0) > 0


def test_ages_count_the_steps_since_writing(case, tools):
    memory = case.build(torch.float32)
    resets = torch.zeros(N, 9, dtype=torch.bool)
    resets[1, 6] = True
    with torch.no_grad():
        _, state = memory.sequence(tools.inputs(memory, N, 9), None, resets)
    fresh = memory.ages(memory.initial_state(N))
    for key, age in memory.ages(state).items():
        assert age.dtype == torch.int64 and age.dim() == 2 and age.shape[1] in memory.state_spec()[key].shape, key
        assert (age >= -1).all() and (age.amax(1) <= torch.tensor([8, 2, 8])).all(), key
        assert (fresh[key] == -1).all(), key


def test_casts_touch_carry_only(case):
    memory = case.build(torch.float32)
    for key, value in memory.initial_state(N, dtype=torch.bfloat16).items():
        item = memory.state_spec()[key]
        assert value.dtype == (torch.bfloat16 if item.role == "carry" else item.dtype), key
    for value in memory.double().initial_state(N).values():
        assert value.dtype in (torch.float64, torch.int32, torch.int64, torch.bool)


@pytest.mark.parametrize("form", ["step", "sequence"])
def test_calls_change_neither_their_arguments_nor_the_module(case, tools, form):
    memory = case.build(torch.float32)
    x, resets, state = tools.inputs(memory, N, 9), tools.resets(N, 9, 0.3), tools.warm(memory, N)
    copies = x.x.clone(), resets.clone(), {key: value.clone() for key, value in state.items()}
    weights = {key: value.clone() for key, value in memory.state_dict().items()}
    with torch.no_grad():
        first = memory.sequence(x, state, resets) if form == "sequence" else tools.loop(memory, x, state, resets)
        memory.sequence(tools.inputs(memory, N, 5, seed=99))
        again = memory.sequence(x, state, resets) if form == "sequence" else tools.loop(memory, x, state, resets)
    assert torch.equal(x.x, copies[0]) and torch.equal(resets, copies[1]) and tools.equal(state, copies[2])
    assert tools.equal(dict(memory.state_dict()), weights)
    assert torch.equal(first[0], again[0]) and tools.equal(first[1], again[1])


def test_donated_state_gives_the_same_numbers(case, tools):
    memory = case.build(torch.float32)
    x, resets, state = tools.inputs(memory, N, 40), tools.resets(N, 40, 0.1), tools.warm(memory, N)
    donated = {key: value.clone() for key, value in state.items()}
    with torch.no_grad():
        for t in range(40):
            want, state = memory.step(tools.at(x, t), state, resets[:, t])
            y, donated = memory.step(tools.at(x, t), donated, resets[:, t], donate=True)
            assert torch.equal(y, want)
    assert tools.equal(donated, state)


def test_a11_numpy_round_trip_is_bitwise(case, tools):
    memory = case.build(torch.float32)
    state = tools.warm(memory, N)
    arrays = to_numpy(state)
    back = from_numpy(arrays)
    assert tools.equal(back, state)
    next(iter(back.values())).zero_()
    assert tools.equal(from_numpy(arrays), state)


def test_a11_initial_state_without_row_axis(case):
    memory = case.build(torch.float32)
    single = {key: array[0] for key, array in to_numpy(memory.initial_state(1)).items()}
    assert all(single[key].shape == item.shape for key, item in memory.state_spec().items())


def test_a11_select_and_merge_are_bitwise(case, tools):
    memory = case.build(torch.float32)
    x, resets, state = tools.inputs(memory, N, 9), tools.resets(N, 9, 0.2), tools.warm(memory, N)
    assert tools.equal(merge([select(state, [0]), select(state, torch.tensor([1, 2]))]), state)
    order = [2, 0]
    with torch.no_grad():
        y, _ = tools.loop(memory, x, state, resets)
        found, _ = tools.loop(memory, tools.rows(x, order), select(state, order), resets[order])
    tools.close(found, y[order], 1e-6)


def test_a11_checkpoint_reload_is_bitwise(case, tools, tmp_path):
    memory = case.build(torch.float32)
    torch.save(memory.state_dict(), tmp_path / "weights.pt")
    fresh = make_memory(case.name, **{"in_dim": memory.in_dim, "out_dim": memory.out_dim, **case.config})
    fresh.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    x, resets, state = tools.inputs(memory, N, 9), tools.resets(N, 9, 0.2), tools.warm(memory, N)
    with torch.no_grad():
        want, found = memory.sequence(x, state, resets), fresh.sequence(x, state, resets)
    assert torch.equal(found[0], want[0]) and tools.equal(found[1], want[1])


def test_packed_state_is_smaller_and_close(case, tools):
    memory = case.build(torch.float32)
    state = tools.warm(memory, N)
    packed = memory.pack(state)
    assert nbytes(packed) <= nbytes(state)
    if memory.bytes_per_env() > 64 * 1024:
        assert nbytes(packed) <= 0.55 * nbytes(state)
    x = tools.inputs(memory, N, 5, seed=8)
    with torch.no_grad():
        y, after = tools.loop(memory, x, memory.unpack(packed))
        want, want_after = tools.loop(memory, x, state)
    tools.close(y, want, 1e-2)
    assert {k: v.dtype for k, v in after.items()} == {k: v.dtype for k, v in want_after.items()}
