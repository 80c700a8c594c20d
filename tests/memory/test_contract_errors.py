"""Bad input meets one clear error at the door: expected, got, how to fix."""

from __future__ import annotations

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryInput, make_memory

N, T = 3, 5


@pytest.fixture
def memory(case):
    return case.build(torch.float32)


def test_wrong_rank(memory, tools):
    x, state = tools.inputs(memory, N, T), memory.initial_state(N)
    with pytest.raises(UsageError, match=r"expected x of shape \(n, 6\), got \(3, 5, 6\); sequence\(\) takes"):
        memory.step(x, state)
    with pytest.raises(UsageError, match=r"expected x of shape \(n, T, 6\), got \(3, 6\)"):
        memory.sequence(tools.at(x, 0), state)


def test_wrong_width_and_dtype(memory, tools):
    x, state = tools.inputs(memory, N, T), memory.initial_state(N)
    now = tools.at(x, 0)
    with pytest.raises(UsageError, match="built with in_dim=6"):
        memory.step(now._replace(x=torch.zeros(N, 7)), state)
    with pytest.raises(UsageError, match="got torch.int64; convert it"):
        memory.step(now._replace(x=torch.zeros(N, 6, dtype=torch.int64)), state)
    with pytest.raises(UsageError, match="at least one row and one step"):
        memory.sequence(tools.at(x, slice(0, 0)), state)


def test_wrong_state(memory, tools):
    x, state = tools.at(tools.inputs(memory, N, T), 0), memory.initial_state(N)
    key = next(iter(state))
    with pytest.raises(UsageError, match=r"expected a state with the keys .* got .*; take it from initial_state"):
        memory.step(x, {**{k: v for k, v in state.items() if k != key}, "other": state[key]})
    with pytest.raises(UsageError, match="expected a state with the keys"):
        memory.step(x, {**state, "extra": state[key]})
    with pytest.raises(UsageError, match=r"expected state\['.*'\] of shape \(3,.* got \(2,"):
        memory.step(x, memory.initial_state(N - 1))
    for k, v in state.items():
        wrong, hint = (v.half(), "undo pack") if v.is_floating_point() else (v.float(), "do not cast counters")
        with pytest.raises(UsageError, match=hint):
            memory.step(x, {**state, k: wrong})


def test_wrong_reset(memory, tools):
    x, state = tools.inputs(memory, N, T), memory.initial_state(N)
    with pytest.raises(UsageError, match=r"expected reset of shape \(3,\) bool, got .*convert it with .bool\(\)"):
        memory.step(tools.at(x, 0), state, torch.zeros(N))
    with pytest.raises(UsageError, match=r"got \(2,\) torch.bool"):
        memory.step(tools.at(x, 0), state, torch.zeros(N - 1, dtype=torch.bool))
    with pytest.raises(UsageError, match=r"expected resets of shape \(3, 5\) bool"):
        memory.sequence(x, state, torch.zeros(N, T + 1, dtype=torch.bool))


def test_wrong_valid_and_chunk(memory, tools):
    x = tools.inputs(memory, N, T)
    with pytest.raises(UsageError, match="expected valid of shape"):
        memory.sequence(x, valid=torch.ones(N, dtype=torch.bool))
    gap = torch.ones(N, T, dtype=torch.bool)
    gap[1, 2] = False
    with pytest.raises(UsageError, match="expected right padding"):
        memory.sequence(x, valid=gap)
    with pytest.raises(UsageError, match="expected chunk >= 1, got 0"):
        memory.sequence(x, chunk=0)


def test_missing_inputs(memory, tools):
    if memory.needs:
        with pytest.raises(UsageError, match="pass MemoryInput"):
            memory.sequence(torch.zeros(N, T, 6))
        with pytest.raises(UsageError, match="needs"):
            memory.sequence(MemoryInput(torch.zeros(N, T, 6)))
    else:
        bare = torch.randn(N, T, 6)
        assert torch.equal(memory.sequence(bare)[0], memory.sequence(MemoryInput(bare))[0])


def test_no_rows(memory):
    with pytest.raises(UsageError, match="expected n >= 1 rows, got 0"):
        memory.initial_state(0)


def test_half_parameters(case, tools):
    memory = case.build(torch.float32)
    x, state = tools.at(tools.inputs(memory, N, T), 0), memory.initial_state(N)
    with pytest.raises(UsageError, match="expected float32 or float64 parameters"):
        memory.bfloat16().step(x, state)


def test_config(case):
    with pytest.raises(UsageError, match=r"unknown key 'in_dims' \(did you mean 'in_dim'\?\)"):
        make_memory(case.name, in_dims=3)
    with pytest.raises(UsageError, match="expected int for 'in_dim', got str"):
        make_memory(case.name, in_dim="3")
    with pytest.raises(UsageError, match="expected out_dim >= 1, got 0"):
        make_memory(case.name, out_dim=0)


def test_unknown_name():
    with pytest.raises(UsageError, match=r"unknown memory 'gruu' \(did you mean 'gru'\?\); available: "):
        make_memory("gruu")
