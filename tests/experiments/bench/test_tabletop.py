"""Bench ``tabletop``: every figure is there, and state steps are no slower than Meta-World's where it is installed."""

import importlib.util

import pytest

from embodied_mem import registry


@pytest.mark.full
def test_state_steps_are_no_slower_than_metaworlds():
    for name in ("mujoco", "gymnasium_robotics"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name} (envs-mujoco)")
    metrics = registry.get("bench", "tabletop")(quick=True)["metrics"]
    assert metrics["touch_1_steps_per_core_second"]["mean"] > 200
    if metrics["metaworld_steps_per_core_second"]["mean"] is None:
        pytest.skip("needs metaworld (envs-mujoco)")
    for case in ("touch_1", "touch_16", "carry_1", "carry_16"):
        assert metrics[f"ratio_{case}_steps_over_metaworld"]["mean"] >= 1.0
