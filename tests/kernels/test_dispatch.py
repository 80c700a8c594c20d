"""Which implementation runs, and that it is said."""

import os
import subprocess
import sys

import pytest
import torch

from embodied_mem import kernels
from embodied_mem.errors import UsageError
from embodied_mem.kernels._dispatch import backend_for, inline


def test_auto_on_the_cpu_is_the_reference():
    choice = backend_for("reset_scan", torch.zeros(1))
    assert choice.backend == "reference" and "cpu" in choice.reason


def test_triton_without_a_gpu_is_an_error_not_a_fallback():
    with kernels.use_backend("triton"):
        with pytest.raises(UsageError, match="cannot run here: cpu tensor"):
            kernels.reset_scan(torch.ones(1, 2, 1), torch.ones(1, 2, 1), None, torch.ones(1, 1))


def test_unknown_backend_names_those_that_exist():
    with pytest.raises(UsageError, match="auto, reference, triton, interpret"):
        with kernels.use_backend("cuda"):
            pass


def test_calls_are_counted_by_backend():
    kernels.reset_stats()
    x = torch.ones(1, 2, 1)
    kernels.reset_scan(x, x, None, torch.ones(1, 1))
    assert kernels.stats() == {"reset_scan": {"reference": 1}}
    kernels.reset_stats()
    assert kernels.stats() == {}


def test_the_context_restores_the_backend():
    with kernels.use_backend("triton"):
        assert not inline("reset_scan", torch.zeros(1))
    assert inline("reset_scan", torch.zeros(1))


def test_a_fresh_process():
    """Importing needs neither triton nor more, and the interpreter must be chosen before triton is imported."""
    code = (
        "import sys, torch, numpy\n"
        "import embodied_mem.kernels as kernels\n"
        "from embodied_mem.kernels._registry import op_names\n"
        "op_names()\n"
        "assert not [m for m in ('triton', 'gymnasium', 'ray', 'scipy', 'typer', 'rich') if m in sys.modules]\n"
        "import triton\n"
        "with kernels.use_backend('interpret'):\n"
        "    kernels.backend_for('reset_scan', torch.zeros(1))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode and "TRITON_INTERPRET=1 in the environment before triton is imported" in done.stderr
