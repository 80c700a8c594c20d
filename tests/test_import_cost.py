"""Importing the package is cheap and pulls in no heavy library."""

import subprocess
import sys

CODE = """
import sys, time
import torch, gymnasium
start = time.process_time()
import embodied_mem
{extra}
seconds = time.process_time() - start
names = ("ray", "open_clip", "diffusers", "ai2thor", "numba", "mujoco", "rerun", "transformers")
heavy = [name for name in names if name in sys.modules]
print(seconds, ",".join(heavy))
"""


def measure(extra: str) -> tuple[float, str]:
    out = subprocess.run([sys.executable, "-c", CODE.format(extra=extra)], capture_output=True, text=True, check=True)
    seconds, _, heavy = out.stdout.strip().partition(" ")
    return float(seconds), heavy


def test_import_is_cheap():
    seconds, heavy = measure("")
    assert heavy == ""
    assert seconds < 0.35, f"import embodied_mem costs {seconds:.2f} s over torch"


def test_import_envs_registers_without_heavy_imports():
    _, heavy = measure("import embodied_mem.envs")
    assert heavy == ""
