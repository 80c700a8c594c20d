"""Training keeps memory states at row starts only, in the bytes that the memory states for a row."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem import registry
from embodied_mem.memory.contract import make_memory
from embodied_mem.policies.rllib.packed import RowBatch
from embodied_mem.policies.rllib.rollout import Rollout, to_numpy

ENVS, STEPS, ROW, WIDTH = 3, 24, 8, 16


def cases():
    for name in registry.names("memory"):
        yield pytest.param(name, {}, id=name)
        for i, variant in enumerate(registry.meta("memory", name).get("variants", ())):
            yield pytest.param(name, dict(variant), id=f"{name}-{i}")


def storage(tensors):
    """Bytes of the buffers behind the tensors, each once: a view keeps its whole buffer alive."""
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("name,config", cases())
def test_a_fragment_keeps_one_state_per_row_and_no_more(name, config):
    torch.manual_seed(0)
    memory = make_memory(name, **{"in_dim": WIDTH, "out_dim": WIDTH, **config})
    drawn = memory.sample_input(memory.config, ENVS, STEPS, torch.Generator().manual_seed(0))
    rollout = Rollout(ENVS, STEPS, ROW, spaces.Discrete(2))
    resets = torch.rand(ENVS, STEPS, generator=torch.Generator().manual_seed(1)) < 0.1
    state, kept = memory.initial_state(ENVS), []
    nothing = np.zeros(ENVS, np.float32)
    with torch.inference_mode():
        for t in range(STEPS):
            x = type(drawn)(*(None if v is None else v[:, t] for v in drawn))
            if t % ROW == 0:
                kept.append({key: value.clone() for key, value in state.items()})
            rollout.act(t, {"x": x.x}, resets[:, t], state)
            y, state = memory.step(x, state, resets[:, t], donate=True)
            rollout.acted(t, y[:, :2], y[:, 0], torch.zeros(ENVS, dtype=torch.int64))
            rollout.stepped(t, nothing, nothing > 0, nothing > 0, nothing == 0)
        batch = rollout.pack_ppo(torch.zeros(ENVS), 0.9, 0.9)
    rows, stated = ENVS * STEPS // ROW, memory.bytes_per_env()
    found = batch.columns["state_in"]
    assert found.keys() == memory.state_spec().keys() and batch.rows == rows
    assert sum(value.nbytes for value in found.values()) == rows * stated
    assert storage(found.values()) == rows * stated
    assert storage(RowBatch.from_packed("p", to_numpy(batch), torch.device("cpu")).columns["state_in"].values()) <= (
        rows * stated
    )
    for key, value in found.items():
        want = torch.stack([state[key] for state in kept], 1).flatten(0, 1)
        assert torch.equal(value.nan_to_num(), want.nan_to_num()), key
