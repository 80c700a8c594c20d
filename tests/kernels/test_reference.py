"""Every reference against its equation, in value and gradient, over the edge cases of the registry."""

import torch

from embodied_mem.kernels._dispatch import use_backend
from embodied_mem.kernels.parity import relative_error, run


def test_reference_equals_the_equation(spec, case, cpu):
    inputs = spec.sample(case.shape, 3, torch.float64, cpu)
    with use_backend("reference"):
        found, wanted = run(spec, inputs), run(spec, inputs, call=spec.oracle)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert relative_error(found[name], value) < 1e-9, name


def test_float32_is_close_to_float64(spec, case, cpu):
    inputs = spec.sample(case.shape, 4, torch.float32, cpu)
    wide = {name: z.double() if torch.is_tensor(z) and z.is_floating_point() else z for name, z in inputs.items()}
    with use_backend("reference"):
        found, wanted = run(spec, inputs), run(spec, wide)
    forward, backward = spec.tolerances[torch.float32]
    for name, value in wanted.items():
        assert relative_error(found[name], value) < (backward if name.startswith("d_") else forward), name


def test_gradcheck(spec, cpu):
    if not spec.grads:
        return
    for case in spec.edge_cases[:2]:
        inputs = spec.sample(case.shape, 5, torch.float64, cpu)
        leaves = [name for name in spec.grads if inputs.get(name) is not None]

        def call(*values, inputs=inputs, leaves=leaves):
            found = spec.call(**{**inputs, **dict(zip(leaves, values))})
            outputs = (found,) if torch.is_tensor(found) else found
            return tuple(z for z in outputs if z is not None and z.requires_grad)

        values = [inputs[name].detach().clone().requires_grad_() for name in leaves]
        with use_backend("reference"):
            assert torch.autograd.gradcheck(call, values, fast_mode=True, nondet_tol=1e-12)


def test_inputs_stay_as_they_were(spec, case, cpu):
    inputs = spec.sample(case.shape, 6, torch.float32, cpu)
    before = {name: z.clone() for name, z in inputs.items() if torch.is_tensor(z)}
    with torch.no_grad():
        spec.call(**inputs)
    for name, value in before.items():
        if name not in spec.mutates:
            assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(inputs[name])), name


def test_a_second_call_gives_the_same(spec, cpu):
    inputs = spec.sample(spec.edge_cases[0].shape, 7, torch.float32, cpu)
    first, second = run(spec, inputs), run(spec, inputs)
    assert all(torch.equal(torch.nan_to_num(first[name]), torch.nan_to_num(second[name])) for name in first)
