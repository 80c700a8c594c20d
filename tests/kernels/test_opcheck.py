"""The registered operators: schema, fake, autograd, dynamic shapes, and `torch.compile` without a graph break."""

import dataclasses

import pytest
import torch

from embodied_mem.kernels._dispatch import use_backend
from embodied_mem.kernels.parity import relative_error, run


def small(spec, dtype=torch.float32):
    return spec.sample(spec.edge_cases[0].shape, 0, dtype, torch.device("cpu"))


def test_every_schema_passes_opcheck(spec):
    inputs = small(spec)
    for name in spec.grads:
        if inputs.get(name) is not None:
            inputs[name].requires_grad_()
    calls = spec.op_args(inputs)
    assert {name for name, _ in calls} == set(spec.schemas)
    for name, arguments in calls:
        space, _, op = name.partition("::")
        with use_backend("reference"):
            torch.library.opcheck(getattr(getattr(torch.ops, space), op).default, arguments)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.full)])
def test_compiles_whole(spec, backend):
    inputs = small(spec)
    with use_backend("auto"):
        wanted = run(spec, inputs)
        torch._dynamo.reset()
        compiled = torch.compile(spec.call, fullgraph=True, backend=backend)
        found = run(spec, inputs, call=compiled)
    for name, value in wanted.items():
        assert relative_error(found[name], value) < 1e-5, name


def test_operators_equal_the_reference_in_place(spec):
    """What a CPU runs without the operator layer, and the operators that a compiled graph runs, agree."""
    inputs = small(spec)
    leaves = [name for name in spec.grads if inputs.get(name) is not None]
    if not leaves:
        return
    with use_backend("reference"):
        wanted = run(spec, inputs)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"embodied_mem.kernels.ops.{spec.name}.inline", lambda *_, **__: False)
            found = run(spec, inputs)
    for name, value in wanted.items():
        assert relative_error(found[name], value) < 2e-5, name


def test_gradient_of_one_input_alone(spec):
    inputs = small(spec)
    with use_backend("reference"), pytest.MonkeyPatch.context() as patch:
        wanted = run(spec, inputs)
        patch.setattr(f"embodied_mem.kernels.ops.{spec.name}.inline", lambda *_, **__: False)
        for name in spec.grads:
            if inputs.get(name) is not None:
                found = run(dataclasses.replace(spec, grads=(name,)), inputs)
                assert relative_error(found[f"d_{name}"], wanted[f"d_{name}"]) < 2e-5, name


def test_no_gradient_is_said_not_cut(spec):
    if spec.grads:
        return
    inputs = small(spec)
    name = next(key for key in ("item", "q", "depth", "where") if key in inputs)
    inputs[name].requires_grad_()
    with pytest.raises(ValueError, match="without gradient"):
        spec.call(**inputs)
    with torch.no_grad():
        spec.call(**inputs)
