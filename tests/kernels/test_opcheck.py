"""The registered operators: schema, fake, autograd, dynamic shapes, and `torch.compile` without a graph break."""

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
