"""The base class itself: what it refuses at class creation and what it offers to any memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from embodied_mem import registry
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, StateSpec, make_memory

FIRST = {"none", "lstm", "gru", "min_gru"}


@dataclass(frozen=True)
class PoseConfig(MemoryConfig):
    pass


class LastPose(MemoryModule):
    """Outputs the pose of the step before: the smallest memory that needs more than x."""

    Config = PoseConfig
    needs = frozenset({"pose"})

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(5))

    def state_spec(self):
        return {"pose": StateSpec((5,))}

    def forward_step(self, inputs, state, reset, *, donate):
        last = state["pose"] if reset is None else state["pose"].masked_fill(reset.unsqueeze(1), 0)
        return last * self.scale, {"pose": inputs.pose}

    def forward_sequence(self, inputs, state, resets, *, valid, chunk):
        outputs = []
        for t in range(inputs.x.shape[1]):
            now = MemoryInput(inputs.x[:, t], pose=inputs.pose[:, t])
            y, state = self.forward_step(now, state, None if resets is None else resets[:, t], donate=False)
            outputs.append(y)
        return torch.stack(outputs, 1), state

    def macs_per_token(self, t=None):
        return 5

    @classmethod
    def sample_input(cls, config, n, T, generator):
        return MemoryInput(torch.zeros(n, T, config.in_dim), pose=torch.randn(n, T, 5, generator=generator))


def test_a_memory_may_need_more_than_features():
    memory = LastPose(PoseConfig(in_dim=2, out_dim=5))
    x = LastPose.sample_input(memory.config, 2, 4, torch.Generator().manual_seed(0))
    y, state = memory.sequence(x)
    assert torch.equal(y[:, 1:], x.pose[:, :-1]) and torch.equal(state["pose"], x.pose[:, -1])
    with pytest.raises(ValueError, match=r"LastPose needs pose besides x; pass MemoryInput\(x=..., pose=...\)"):
        memory.sequence(x.x)
    with pytest.raises(ValueError, match="needs pose"):
        memory.sequence(MemoryInput(x.x))


def test_class_creation_checks_config_needs_and_properties():
    with pytest.raises(TypeError, match="Config must be a frozen dataclass"):
        type("Bad", (MemoryModule,), {"Config": dict})
    with pytest.raises(TypeError, match=r"unknown needs or properties: \['smell'\]"):
        type("Bad", (MemoryModule,), {"needs": frozenset({"smell"})})
    with pytest.raises(TypeError, match=r"\['fast'\]"):
        type("Bad", (MemoryModule,), {"properties": frozenset({"fast"})})


def test_registry_holds_the_gated_family_with_sources():
    names = registry.names("memory")
    assert set(names) >= FIRST
    for name in names:
        meta = registry.meta("memory", name)
        assert meta.get("family") and meta.get("source"), name


def test_forward_is_sequence_and_double_follows_the_module():
    memory = make_memory("gru", in_dim=3, out_dim=4)
    x = torch.randn(2, 5, 3)
    assert torch.equal(memory(x)[0], memory.sequence(x)[0])
    assert memory.initial_state(1)["h"].dtype == torch.float32
    assert memory.double().initial_state(1)["h"].dtype == torch.float64
    y, state = memory.sequence(x)
    assert y.dtype == torch.float32 and state["h"].dtype == torch.float64
