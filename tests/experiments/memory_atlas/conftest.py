"""Records and tables that no training made."""

import numpy as np
import pytest

from embodied_mem.experiments.memory_atlas.cell import Cell
from embodied_mem.experiments.memory_atlas.plan import make_plan
from embodied_mem.experiments.memory_atlas.probes import find


@pytest.fixture
def plan():
    return make_plan(None, ["gru", "none"], ["repeat_first", "associative_recall"], [0, 1, 2], 2.0, 16)


@pytest.fixture
def record():
    """Return a function that makes the record of a cell whose mean score is about ``score``."""

    def make(cell: Cell, score: float) -> dict:
        probe = find(cell.probe)
        rng = np.random.default_rng(cell.seed)
        scores = score + 0.02 * rng.standard_normal(16)
        returns = probe.memoryless + scores * (probe.oracle - probe.memoryless)
        return {
            "memory": cell.memory,
            "probe": cell.probe,
            "seed": cell.seed,
            "score": probe.score(float(returns.mean())),
            "return": float(returns.mean()),
            "returns": returns.tolist(),
            "env_steps": 4096,
            "cpu_seconds": 2.0,
            "steps_per_cpu_second": 2048.0,
            "state_bytes": 256,
            "step_ms": 0.1,
            "curve": {"cpu_seconds": [0.5, 2.0], "env_steps": [1024, 4096], "score": [0.0, score]},
            "seconds": 3.0,
        }

    return make


@pytest.fixture
def table(plan, record):
    """The table of a plan in which gru recalls and none does not."""
    from embodied_mem.experiments.memory_atlas.table import make_table

    return make_table(plan, [record(cell, 0.8 if cell.memory == "gru" else 0.0) for cell in plan.cells])
