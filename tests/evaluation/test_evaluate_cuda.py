"""Evaluation on a GPU: controls work on device states, and scores are those of the CPU."""

import pytest
import torch
from gymnasium import spaces

from embodied_mem.agent import AgentConfig, MemoryAgent, save_agent
from embodied_mem.evaluation import evaluate

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_a_trained_agent_and_its_controls_on_a_gpu(tmp_path):
    torch.manual_seed(0)
    module = MemoryAgent.build(AgentConfig(memory="gru"), spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(4))
    folder = save_agent(tmp_path / "agent", module)
    options = {"tasks": ["passive-50"], "episodes": 32, "controls": ["wiped:2", "shuffled"]}
    gpu = evaluate(folder, "probes", device="cuda", out=tmp_path / "gpu", **options)
    cpu = evaluate(folder, "probes", device="cpu", **options)
    assert gpu["metrics"]["return"]["mean"] == pytest.approx(cpu["metrics"]["return"]["mean"], abs=0.02)
    assert set(gpu["controls"]) == {"wiped:2", "shuffled"} and None not in gpu["controls"].values()
