"""Walks the registry: no operation without reference, edge cases, compile cases, bench shapes and a docs page."""

from pathlib import Path

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.kernels import _registry

ROOT = Path(__file__).resolve().parents[2]


def test_every_operation_is_whole(spec, cpu):
    names = {case.name for case in spec.edge_cases}
    assert len(names) == len(spec.edge_cases) >= 5
    assert any(len(case.dtypes) == 3 for case in spec.edge_cases), "half types are tested in at least one case"
    cases = spec.compile_cases()
    assert {arch for case in cases for arch in case.archs} >= {80, 89, 90, 100}
    assert any(shape.cpu for shape in spec.bench_shapes) and any(not shape.cpu for shape in spec.bench_shapes)
    inputs = spec.sample(spec.edge_cases[0].shape, 0, torch.float32, cpu)
    assert spec.bytes(inputs) > 0 and spec.flops(inputs) > 0
    assert set(spec.grads) | set(spec.mutates) <= set(inputs)
    for folder in ("ops", "reference", "triton_ops", "specs"):
        assert (ROOT / "kernels" / folder / f"{spec.name}.py").is_file(), folder


def test_every_operation_has_a_page_in_the_navigation(spec):
    page = ROOT / "docs/kernels" / f"{spec.name}.md"
    assert page.is_file()
    text = page.read_text()
    for heading in ("## Shapes", "## Cost", "## Where it is used", "## Measured"):
        assert heading in text, heading
    assert f"kernels/{spec.name}.md" in (ROOT / "mkdocs.yml").read_text()


def test_callers_call_it(spec):
    for module in spec.used_by:
        path = ROOT / (module.replace(".", "/") + ".py")
        assert spec.name in path.read_text(), module


def test_unknown_operation_names_those_that_exist():
    with pytest.raises(UsageError, match="reset_scan"):
        _registry.get_op("reset_scam")
