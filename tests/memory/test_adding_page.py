"""The memory of docs/memory/adding.md is under 60 lines and passes the acceptance suite as it stands there."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from embodied_mem import registry
from embodied_mem.memory.catalogue import describe

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parents[1] / "docs" / "memory" / "adding.md").read_text(encoding="utf-8")
(CODE,) = re.findall(r'```python title="leaky_average"\n(.*?)```', PAGE, flags=re.DOTALL)
NAME = "leaky_average"
SUITE = sorted(set(HERE.glob("test_contract_*.py")) - {HERE / f"test_contract_{x}.py" for x in ("cuda", "learning")})
# how many checks of each file apply to one memory, at least
LEAST = {"edges": 25, "errors": 8, "forms": 18, "gradients": 8, "isolation": 23, "modes": 4, "state": 12}


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    """The page's file, imported as a module of its own, in a registry that forgets it afterwards."""
    module = types.ModuleType("docs_memory_adding")
    sys.modules[module.__name__] = module
    with registry.scope("memory"):
        exec(compile(CODE, "adding.md", "exec", dont_inherit=True), module.__dict__)
        yield
    del sys.modules[module.__name__]
    assert NAME not in registry.names("memory")


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(f"page_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_full(marks: Any) -> bool:
    return any(mark.name == "full" for mark in marks)


def calls(check: Any) -> Iterator[dict[str, Any]]:
    """Return the arguments of every case that `pytest.mark.parametrize` makes of a check, without the long forms."""
    marks = getattr(check, "pytestmark", [])
    axes = []
    for mark in marks:
        if mark.name == "parametrize":
            named = mark.args[0]
            names = [name.strip() for name in (named.split(",") if isinstance(named, str) else named)]
            sets = [value if hasattr(value, "marks") else pytest.param(value) for value in mark.args[1]]
            values = [item.values for item in sets if not is_full(item.marks)]
            axes.append([dict(zip(names, v[0] if len(names) > 1 and len(v) == 1 else v)) for v in values])
    if not is_full(marks):
        for combination in itertools.product(*axes):
            yield {key: value for part in combination for key, value in part.items()}


def test_the_file_is_under_sixty_lines():
    assert len(CODE.splitlines()) < 60


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.stem)
def test_it_passes_the_acceptance_suite(path, tools, cases, tmp_path):
    module, case, done = load(path), cases(NAME), 0
    for name, check in inspect.getmembers(module, inspect.isfunction):
        wanted = inspect.signature(check).parameters
        if not name.startswith("test_") or not {"case", "memory"} & wanted.keys():
            continue
        for arguments in calls(check):
            given = {"case": case, "tools": tools, "tmp_path": tmp_path, "memory": case.build(torch.float32)}
            check(**arguments, **{key: value for key, value in given.items() if key in wanted})
            done += 1
    assert done >= LEAST[path.stem.removeprefix("test_contract_")]


def test_it_learns_to_recall():
    learning = load(HERE / "test_contract_learning.py")
    learning.check(NAME, "recall", 16, 6, 300, learning.LEARNT)


def test_it_is_listed():
    assert describe(NAME)["parallel"] == "scan" and describe(NAME)["bytes_per_env"] == 256
