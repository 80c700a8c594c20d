"""Every Triton kernel against its reference, under Triton's interpreter on the CPU.

The interpreter must be chosen before triton is imported, so the suite runs in a process of its own:
`python -m embodied_mem.kernels.parity`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import triton

from embodied_mem.kernels._registry import op_names

HERE = Path(__file__).parent
# Its loops over runtime bounds fail under NumPy 2.4 before Triton 3.8.
old = tuple(map(int, triton.__version__.split(".")[:2])) < (3, 8)
new = tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 4)
pytestmark = pytest.mark.skipif(old and new, reason="the interpreter of Triton before 3.8 needs NumPy before 2.4")


def interpret(*words):
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    environment.pop("EMBODIED_MEM_KERNELS", None)
    command = [sys.executable, "-m", "embodied_mem.kernels.parity", "--backend", "interpret", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.mark.timeout(900)
def test_kernels_equal_their_references():
    done = interpret()
    assert done.returncode in (0, 1), done.stderr
    found = json.loads(done.stdout)
    assert found["failures"] == [] and done.returncode == 0
    assert set(found["errors"]) == set(op_names())
    assert max(found["errors"].values()) > 0


def test_offsets_beyond_32_bits():
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(
        [sys.executable, str(HERE / "far_strides.py")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.full
def test_long_forms():
    done = interpret("--full")
    assert done.returncode == 0, done.stdout + done.stderr
