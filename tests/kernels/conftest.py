"""Shared by the kernel tests: the operations of the registry, and allocations filled with NaN."""

from __future__ import annotations

import pytest
import torch

from embodied_mem.kernels._registry import get_op, op_names
from embodied_mem.kernels.parity import filled_allocations


def pytest_configure(config):
    # known also where pytest-timeout is not installed
    config.addinivalue_line("markers", "timeout(seconds): limit of one test")


def pytest_generate_tests(metafunc):
    if "spec" in metafunc.fixturenames and "case" in metafunc.fixturenames:
        pairs = [
            pytest.param(get_op(name), case, id=f"{name}-{case.name}", marks=[pytest.mark.full] if case.full else [])
            for name in op_names()
            for case in get_op(name).edge_cases
        ]
        metafunc.parametrize(("spec", "case"), pairs)
    elif "spec" in metafunc.fixturenames:
        metafunc.parametrize("spec", [pytest.param(get_op(name), id=name) for name in op_names()])


@pytest.fixture(autouse=True)
def poisoned():
    """Make `torch.empty` return NaN, so that an element nobody wrote fails."""
    with filled_allocations():
        yield


@pytest.fixture
def cpu():
    return torch.device("cpu")
