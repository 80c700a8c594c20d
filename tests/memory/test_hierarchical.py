"""What is special about memory in parts; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 6
PARTS = {"working_slots": 4, "episodic_slots": 5, "spatial": "gated_delta"}
ABSENT = {"working_slots": 0, "episodic_slots": 0, "spatial": None}


def build(**config):
    torch.manual_seed(0)
    return make_memory("hierarchical", **{"in_dim": D, "out_dim": 8, "key_dim": 4, "value_dim": 4, **config})


def parts_of(memory):
    return {key.split("/")[0] for key in memory.state_spec()}


def test_each_part_can_be_left_out():
    assert parts_of(build(**PARTS)) == {"working", "episodic", "spatial"}
    for name in PARTS:
        kept = parts_of(build(**{**PARTS, name: ABSENT[name]}))
        assert kept == {"working", "episodic", "spatial"} - {name.removesuffix("_slots")}
    with pytest.raises(UsageError, match="at least one part"):
        build(**ABSENT)


def test_default_has_no_spatial_memory():
    assert parts_of(build()) == {"working", "episodic"}


def test_working_memory_sees_the_window_and_no_further():
    memory = build(**{**ABSENT, "working_slots": 3})
    x = torch.randn(1, 10, D)
    changed = x.clone()
    changed[:, 2] += 1.0
    with torch.no_grad():
        difference = (memory.sequence(x)[0] - memory.sequence(changed)[0]).abs().amax(-1)[0]
    # seen in its own step and the three that have it in their window; one more has the step it made a surprise
    assert not difference[:2].any() and not difference[7:].any()
    assert (difference[2:6] > 0).all()


def test_closed_gates_leave_the_input():
    memory = build(out_dim=D, **PARTS)
    with torch.no_grad():
        memory.gate.weight.zero_()
        memory.gate.bias.fill_(-200.0)
        x = torch.randn(2, 7, D)
        assert torch.allclose(memory.sequence(x)[0], x, atol=1e-6)


def test_inspect_tells_of_the_episodic_bank_first():
    memory = build(**PARTS)
    state = memory.sequence(torch.randn(2, 9, D))[1]
    told = memory.inspect(torch.randn(2, D), state)
    assert told["weights"].shape == told["age"].shape == (2, 5)
    assert told["working/weights"].shape == (2, 4)
    alone = build(**{**ABSENT, "working_slots": 3})
    assert alone.inspect(torch.randn(2, D), alone.initial_state(2))["age"].shape == (2, 3)


def test_spatial_slot_takes_a_config_and_names_what_is_wrong():
    memory = build(spatial="gru")
    assert memory.state_spec()["spatial/h"].shape[-1] == 8
    assert build(spatial="gated_delta", spatial_config={"heads": 2}).state_spec()["spatial/S"].shape[0] == 2
    with pytest.raises(UsageError, match="unknown memory"):
        build(spatial="nosuch")
    with pytest.raises(UsageError, match="unknown key"):
        build(spatial="gated_delta", spatial_config={"haeds": 2})
    with pytest.raises(UsageError, match="own spatial slot"):
        build(spatial="hierarchical")
