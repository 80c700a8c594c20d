"""What a state holds, by shape and age."""

import json

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.report import state_report


def entries(report):
    return {item.key: item for item in report.held}


def test_a_report_gives_shapes_bytes_and_ages():
    memory = make_memory("hybrid", in_dim=3, out_dim=4, window=6)
    resets = torch.zeros(2, 9, dtype=torch.bool)
    resets[1, 5] = True
    _, state = memory.sequence(torch.randn(2, 9, 3), None, resets)
    report = state_report(state, memory)
    held = entries(report)
    assert report.rows == 2 and report.bytes_per_row == memory.bytes_per_env()
    assert report.bytes_per_row == sum(item.bytes_per_row for item in report.held)
    ring = held["window/ring"]
    # row 0 has read nine steps and holds six of them, row 1 four since its reset
    assert ring.items == (4, 6) and ring.age == (0, 5) and ring.shape == (6, 64) and ring.role == "ring"
    assert held["window/count"].range == (4.0, 9.0) and held["window/count"].items is None
    assert held["memory/S"].role == "param_like" and held["memory/S"].age is None
    assert json.loads(json.dumps(report.to_dict()))["rows"] == 2


def test_an_empty_memory_holds_no_items_and_has_no_ages():
    memory = make_memory("episodic", in_dim=3, out_dim=4)
    keys = entries(state_report(memory.initial_state(2), memory))["keys"]
    assert keys.items == (0, 0) and keys.age is None


@pytest.mark.parametrize(
    "name,config,key,items,age",
    [
        ("episodic", {"slots": 4, "levels": 1}, "values", 4, (0, 3)),
        ("hcam", {"chunks": 3, "chunk_steps": 4}, "chunks", 3, (2, 10)),
        ("hcam", {"chunks": 3, "chunk_steps": 4}, "acc", 2, (0, 1)),
        ("based", {"window": 5}, "keys", 5, (0, 4)),
        ("hopfield", {"slots": 8}, "ring", 8, (0, 7)),
        ("perceptual_cognitive_bank", {"slots": 6, "merge": "fifo"}, "cognitive/bank", 6, (0, 5)),
    ],
)
def test_ages_after_eighteen_steps(name, config, key, items, age):
    memory = make_memory(name, in_dim=3, out_dim=4, **config)
    _, state = memory.sequence(torch.randn(1, 18, 3))
    found = entries(state_report(state, memory))[key]
    assert found.items == (items, items) and found.age == age


def test_the_table_has_one_line_per_tensor():
    memory = make_memory("episodic", in_dim=3, out_dim=4, slots=4)
    _, state = memory.sequence(torch.randn(2, 3, 3))
    lines = str(state_report(state, memory)).splitlines()
    assert lines[0] == f"2 rows of {memory.bytes_per_env():,} bytes" and len(lines) == 2 + len(state)
    assert lines[2].split()[:3] == ["keys", "1x33x4", "float32"]
    assert lines[2].split()[-4:] == ["3", "0", "..", "2"]


def test_wrong_states_are_refused():
    memory = make_memory("gru", in_dim=3, out_dim=4)
    with pytest.raises(UsageError, match="at least one tensor"):
        state_report({})
    with pytest.raises(UsageError, match="pass its own memory"):
        state_report({"c": torch.zeros(1)}, memory)
