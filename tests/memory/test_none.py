from __future__ import annotations

import torch

from embodied_mem.memory.contract import make_memory


def test_output_ignores_the_past_and_the_counter_counts_the_episode():
    memory = make_memory("none", in_dim=3, out_dim=2)
    x, resets = torch.randn(2, 6, 3), torch.zeros(2, 6, dtype=torch.bool)
    resets[1, 4] = True
    y, state = memory.sequence(x, {"t": torch.tensor([10, 20], dtype=torch.int32)}, resets)
    assert state["t"].tolist() == [16, 2] and state["t"].dtype == torch.int32
    again, _ = memory.step(x[:, 3], memory.initial_state(2))
    assert torch.allclose(again, y[:, 3])
    assert memory.bytes_per_env() == 4
