"""In the spatial slot of the hierarchical memory, learner rows are recomputed from the states at their starts."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.agent import AgentConfig, MemoryAgent
from embodied_mem.errors import UsageError
from embodied_mem.perception.encoder import EncoderConfig

B, T, ROW = 3, 24, 8
SPACE = {
    "vector": spaces.Box(-np.inf, np.inf, (4,), np.float32),
    "depth": spaces.Box(0.0, np.inf, (8, 8), np.float32),
    "pose": spaces.Box(-np.inf, np.inf, (5,), np.float32),
    "intrinsics": spaces.Box(-np.inf, np.inf, (4,), np.float32),
}


def build(spatial, space=SPACE):
    torch.manual_seed(0)
    parts = {"out_dim": 16, "episodic_slots": 4, "working_slots": 2, "spatial": spatial}
    config = AgentConfig(
        encoder=EncoderConfig(out_dim=16, ignore=tuple(key for key in ("depth", "intrinsics") if key in space)),
        memory="hierarchical",
        memory_config=parts,
    )
    return MemoryAgent.build(config, spaces.Dict(space), spaces.Discrete(3))


@pytest.mark.parametrize("spatial", ["voxel_map", "grid_map"])
def test_rows_give_the_acting_outputs_and_train_every_part_of_the_map(spatial):
    agent = build(spatial)
    generator = torch.Generator().manual_seed(0)
    drawn = agent.memory.sample_input(agent.memory.config, B, T, generator)
    obs = {"vector": torch.randn(B, T, 4, generator=generator)}
    obs |= {key: getattr(drawn, key) for key in ("depth", "pose", "intrinsics")}
    resets = torch.rand(B, T, generator=generator) < 0.1
    state, starts, acted = agent.initial_state(B), [], []
    with torch.inference_mode():
        for t in range(T):
            if t % ROW == 0:
                starts.append({key: value.clone() for key, value in state.items()})
            now = {key: value[:, t] for key, value in obs.items()}
            logits, value, state = agent.step(now, state, resets[:, t], donate=True)
            acted.append(torch.cat([logits, value.unsqueeze(-1)], -1))
    want = torch.stack(acted, 1)
    rows = {key: torch.cat(value.split(ROW, 1)) for key, value in obs.items()}
    joined = {key: torch.cat([start[key] for start in starts]).clone() for key in starts[0]}
    logits, value, _, _ = agent.sequence(rows, joined, torch.cat(resets.split(ROW, 1)))
    found = torch.cat([logits, value.unsqueeze(-1)], -1)
    assert torch.allclose(found, torch.cat(want.split(ROW, 1)), atol=1e-5)
    # another loss than a sum of logits, of which a softmax would know nothing
    (logits.log_softmax(-1)[..., 0].mean() + value.square().mean()).backward()
    mine = {name: p for name, p in agent.named_parameters() if ".spatial." in name}
    assert mine and all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in mine.values())


def test_the_observation_must_have_what_the_map_needs():
    with pytest.raises(UsageError, match=r"needs the observation entries \['depth', 'intrinsics'\]"):
        build("voxel_map", {key: SPACE[key] for key in ("vector", "pose")})
