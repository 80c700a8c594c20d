"""The kernels, their bench and their tests need torch, triton, numpy and pytest alone, and syntax of Python 3.11."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "kernels").rglob("*.py"), *Path(__file__).parent.glob("*.py")])
# Refuses every module of a distribution that torch, triton, NumPy and pytest do not need themselves, then collects.
CODE = """
import re, sys
from importlib import metadata
own, wanted = {"embodied-mem"}, ["torch", "triton", "numpy", "pytest"]
while wanted:
    name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
    if name not in own:
        own.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        wanted += [re.match(r"[\\w.-]+", need).group() for need in needs if "extra ==" not in need]
held = metadata.packages_distributions()
refused = {top for top, names in held.items() if not own & {re.sub(r"[-_.]+", "-", n).lower() for n in names}}
refused -= {"embodied_mem", "_distutils_hack", "pkg_resources", "setuptools"}
tried = []


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            tried.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])


assert {"gymnasium", "ray", "scipy", "rich"} <= refused, sorted(refused)
assert not refused & set(sys.modules), refused & set(sys.modules)
sys.meta_path.insert(0, Refuse())
import embodied_mem.kernels.bench, embodied_mem.kernels.compile_check, embodied_mem.kernels.parity
from embodied_mem.kernels._registry import get_op, op_names
for name in op_names():
    assert get_op(name).compile_cases()
import pytest
sys.exit(pytest.main(["tests/kernels", "--collect-only", "-q", "-p", "no:cacheprovider", "--strict-markers"]))
"""


def test_they_import_with_four_packages():
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_interpret.py::test_kernels_equal_their_references" in done.stdout
    assert "test_reference.py" in done.stdout and "test_cuda.py" in done.stdout
    assert "error" not in done.stdout.lower().splitlines()[-1]


@pytest.mark.parametrize("version", [(3, 11), (3, 12)])
def test_syntax_of_the_oldest_python(version):
    assert len(FILES) > 60
    for path in FILES:
        ast.parse(path.read_text(), str(path), feature_version=version)
