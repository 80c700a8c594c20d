"""The kernels on a GPU: parity, repeatability, graph capture, compile. Skipped without one."""

import pytest
import torch

from embodied_mem.kernels._dispatch import backend_for, reset_stats, stats, use_backend
from embodied_mem.kernels.parity import check, relative_error, run

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
# Gradients that are added up by atomics, whose order is not fixed.
ATOMIC = {
    "hcam_read": {"d_contents", "d_code"},
    "bank_read": {"d_pe"},
    "unproject_insert": {"total", "out2"},
    "similarity_readout": {"out1", "d_key", "d_shrink"},
}


@pytest.fixture
def gpu():
    return torch.device("cuda")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_kernel_equals_the_reference(spec, case, dtype, gpu):
    if dtype != torch.float32 and dtype not in case.dtypes:
        return
    for name, (error, limit) in check(spec, case, dtype, gpu, "triton").items():
        assert error <= limit, name


def test_the_kernel_ran(spec, gpu):
    reset_stats()
    inputs = spec.sample(spec.edge_cases[0].shape, 0, torch.float32, gpu)
    with torch.no_grad():
        spec.call(**inputs)
    assert backend_for(spec.name, torch.zeros(1, device=gpu)).backend == "triton"
    assert any("triton" in calls for calls in stats().values())


def test_twenty_runs_give_the_same_bits(spec, gpu):
    inputs = spec.sample(spec.edge_cases[0].shape, 1, torch.float32, gpu)
    with use_backend("triton"):
        first = run(spec, inputs)
        for _ in range(20):
            for name, value in run(spec, inputs).items():
                if name not in ATOMIC.get(spec.name, set()):
                    assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(first[name])), name


def test_forward_is_captured_by_a_graph(spec, gpu):
    inputs = spec.sample(spec.edge_cases[0].shape, 2, torch.float32, gpu)
    with use_backend("triton"), torch.no_grad():
        eager = run(spec, inputs, gradients=False)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            run(spec, inputs, gradients=False)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = spec.call(**inputs)
        graph.replay()
        torch.cuda.synchronize()
    outputs = [found] if torch.is_tensor(found) else [z for z in found or () if z is not None]
    results = {f"out{i}": z for i, z in enumerate(outputs)}
    results |= {name: inputs[name] for name in spec.mutates if inputs[name] is not None}
    results = results if spec.comparable is None else spec.comparable(results)
    for name, value in eager.items():
        assert relative_error(results[name], value) <= 1e-5, name


def test_compiles_whole(spec, gpu):
    inputs = spec.sample(spec.edge_cases[0].shape, 3, torch.float32, gpu)
    wanted = run(spec, inputs)
    torch._dynamo.reset()
    found = run(spec, inputs, call=torch.compile(spec.call, fullgraph=True))
    for name, value in wanted.items():
        assert relative_error(found[name], value) < 1e-4, name
