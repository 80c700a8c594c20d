"""Influence of past observations on decisions: causal, diagonal without memory, and found where it must be."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.agent import AgentConfig, MemoryAgent
from embodied_mem.evaluation.influence import DECISIONS, influence

SPACES = {
    "discrete": (spaces.Discrete(4, start=2), lambda rng, t: rng.integers(2, 6, t)),
    "multi": (spaces.MultiDiscrete([3, 2]), lambda rng, t: rng.integers(0, 2, (t, 2))),
    "box": (spaces.Box(-1.0, 1.0, (2,)), lambda rng, t: rng.uniform(-1, 1, (t, 2)).astype(np.float32)),
}


def found(memory, kind="discrete", total=12):
    torch.manual_seed(0)
    space, draw = SPACES[kind]
    module = MemoryAgent.build(AgentConfig(memory=memory), spaces.Box(-1.0, 1.0, (3,)), space).eval()
    rng = np.random.default_rng(0)
    obs = {"vector": list(rng.normal(size=(total, 3)).astype(np.float32))}
    with torch.inference_mode():
        return influence(module, obs, draw(rng, total))


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("memory", ["gru", "gated_delta"])
def test_only_the_past_counts_and_all_of_it_can(memory, kind):
    rows, steps = found(memory, kind)
    assert rows.shape == (12, 12) and steps.tolist() == list(range(12))
    assert np.array_equal(rows, np.tril(rows)) and (np.diag(rows) > 0).all()
    assert (rows[-1] > 0).all()


def test_without_memory_only_the_present_counts():
    rows, _ = found("none")
    assert np.array_equal(rows, np.diag(np.diag(rows))) and (np.diag(rows) > 0).all()


def test_long_episodes_are_analysed_at_evenly_spaced_decisions():
    rows, steps = found("gru", total=100)
    assert len(steps) == DECISIONS and steps[0] == 0 and steps[-1] == 99 and rows.shape == (DECISIONS, 100)
