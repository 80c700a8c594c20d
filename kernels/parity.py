"""Does an operation give the numbers of its reference run in float64? Shared by the tests and by the bench.

    TRITON_INTERPRET=1 python -m embodied_mem.kernels.parity --backend interpret [--op NAME]

``--warm`` then runs the shapes of the bench once, on a GPU, so that their kernels are compiled when it measures.

The error of a tensor is ``|found - wanted| / |wanted|`` (Frobenius) against the reference in float64 on the same,
already rounded inputs; infinities must stand at the same places; integers must be equal. Uninitialised memory is filled
with NaN meanwhile, so an element that a kernel does not write shows.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from embodied_mem.kernels._dispatch import use_backend
from embodied_mem.kernels._registry import Case, Inputs, OpSpec, get_op, op_names

__all__ = ["check", "failures", "filled_allocations", "relative_error", "run"]

# Below this a norm counts as zero and the error as absolute.
_FLOOR = 1e-6
# The composition in half precision may be exact by luck; a kernel need not be better than this.
_HALF_FLOOR = {torch.float16: 3e-4, torch.bfloat16: 2.5e-3}


@contextmanager
def filled_allocations() -> Iterator[None]:
    """Fill what `torch.empty` returns with NaN (floats) or the largest integer, within the context."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """Return the error of the module docstring; infinite where the tensors cannot be compared."""
    if found.shape != wanted.shape:
        return float("inf")
    if not wanted.is_floating_point():
        return 0.0 if torch.equal(found.to(wanted.dtype), wanted) else float("inf")
    found = found.to(wanted.dtype)
    infinite = torch.isinf(wanted)
    if not torch.equal(torch.where(infinite, found, 0), torch.where(infinite, wanted, 0)):
        return float("inf")
    found, wanted = found.masked_fill(infinite, 0), wanted.masked_fill(infinite, 0)
    error = float((found - wanted).norm() / wanted.norm().clamp(min=_FLOOR))
    return error if error == error else float("inf")


def run(spec: OpSpec, inputs: Inputs, *, gradients: bool = True, call: Any = None) -> dict[str, Tensor]:
    """Return outputs and gradients by name. ``inputs`` are copied, so tensors written in place stay as they were."""
    copies = {name: _copied(value) for name, value in inputs.items()}
    wanted = [name for name in spec.grads if gradients and copies.get(name) is not None]
    for name in wanted:
        copies[name].requires_grad_()
    found = (call or spec.call)(**copies)
    outputs = [found] if isinstance(found, Tensor) else [z for z in found or () if z is not None]
    results = {f"out{i}": z.detach() for i, z in enumerate(outputs)}
    results |= {name: copies[name] for name in spec.mutates if copies[name] is not None}
    if wanted:
        generator = torch.Generator().manual_seed(1)
        parts = []
        for z in outputs:
            if z.requires_grad:
                weight = torch.randn(z.shape, generator=generator).to(z.device, z.dtype)
                # an empty memory reads -inf as its log-sum: that entry has no gradient
                parts.append((torch.where(torch.isinf(z.detach()), 0, z) * weight).to(torch.float64).sum())
        leaves = [copies[name] for name in wanted]
        if parts:
            grads = torch.autograd.grad(torch.stack(parts).sum(), leaves, allow_unused=True, materialize_grads=True)
        else:
            # where nothing is held, no output may depend on an input
            grads = tuple(torch.zeros_like(leaf) for leaf in leaves)
        results |= {f"d_{name}": grad for name, grad in zip(wanted, grads, strict=True)}
    return results if spec.comparable is None else spec.comparable(results)


def check(
    spec: OpSpec, case: Case, dtype: torch.dtype, device: torch.device, backend: str
) -> dict[str, tuple[float, float]]:
    """Return for every output and gradient its error and what is allowed."""
    inputs = spec.sample(case.shape, zlib.crc32(case.name.encode()) % 1000, dtype, device)
    exact = {name: _wide(value) for name, value in inputs.items()}
    with use_backend("reference"):
        wanted = run(spec, exact)
        # the interpreter truncates to bfloat16, so only a GPU is held to the composition's own rounding
        composed = run(spec, inputs) if backend == "triton" and dtype in _HALF_FLOOR else {}
    with filled_allocations(), use_backend(backend):
        found = run(spec, inputs)
    forward, backward = spec.tolerances[dtype]
    errors = {}
    for name, value in wanted.items():
        limit = backward if name.startswith("d_") else forward
        if name in composed:
            limit = min(limit, max(2 * relative_error(composed[name], value), _HALF_FLOOR[dtype]))
        errors[name] = relative_error(found[name], value), limit
    return errors


def failures(
    backend: str, device: torch.device, names: list[str] | None = None, *, full: bool = False
) -> tuple[list[str], dict[str, float]]:
    """Run every case of every operation.

    Returns:
        one line per failure, and the largest error by operation.
    """
    lines: list[str] = []
    worst: dict[str, float] = {}
    for name in names or op_names():
        spec = get_op(name)
        for case in spec.edge_cases:
            if case.full and not full:
                continue
            for dtype in case.dtypes:
                for part, (error, limit) in check(spec, case, dtype, device, backend).items():
                    worst[name] = max(worst.get(name, 0.0), error)
                    if not error <= limit:
                        kind = str(dtype).removeprefix("torch.")
                        lines.append(f"{name} {case.name} {kind} {part}: error {error:.2e}, allowed {limit:.0e}")
    return lines, worst


def _warm(backend: str, device: torch.device, names: list[str]) -> None:
    with use_backend(backend):
        for name in names:
            spec = get_op(name)
            for shape in spec.bench_shapes:
                inputs = spec.sample(shape.shape, 0, shape.dtype, device)
                for gradients in (False, True) if spec.grads else (False,):
                    run(spec, inputs, gradients=gradients)


def _copied(value: Any) -> Any:
    """A copy with the same strides, so that views stay views."""
    if not isinstance(value, Tensor):
        return value
    if value.numel() and value.storage_offset() and not value.is_contiguous():
        base = torch.empty_strided((value.untyped_storage().nbytes() // value.element_size(),), (1,),
                                   dtype=value.dtype, device=value.device)  # fmt: skip
        copy = base.as_strided(value.shape, value.stride(), value.storage_offset())
        copy.copy_(value)
        return copy.detach()
    if 0 in value.stride():
        return value.detach()
    return value.detach().clone()


def _wide(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def main(words: list[str] | None = None) -> int:
    """Print the largest errors and the failures as JSON; the exit status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="interpret" if not torch.cuda.is_available() else "triton")
    parser.add_argument("--op", action="append")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--warm", action="store_true")
    chosen = parser.parse_args(words)
    device = torch.device("cuda" if chosen.backend == "triton" else "cpu")
    lines, worst = failures(chosen.backend, device, chosen.op, full=chosen.full)
    if chosen.warm and not lines:
        _warm(chosen.backend, device, chosen.op or op_names())
    print(json.dumps({"backend": chosen.backend, "failures": lines, "errors": worst}, indent=1))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
