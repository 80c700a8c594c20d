"""One `OpSpec` per operation: what its tests, compile check and bench need to know.

An operation registers itself in its file of `ops`; everything that walks the registry (parity, opcheck, compile check,
bench, docs test) then covers it, so none can be added without a reference, edge cases and compile cases.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from embodied_mem.errors import UsageError, nearest

__all__ = ["BenchShape", "Case", "CompileCase", "OpSpec", "get_op", "op_names", "register_op"]

Inputs = dict[str, Any]
Shape = Mapping[str, Any]

# Relative Frobenius errors against float64: forward, gradients.
TOLERANCES: dict[torch.dtype, tuple[float, float]] = {
    torch.float64: (1e-10, 1e-9),
    torch.float32: (2e-5, 2e-5),
    torch.float16: (1e-3, 3e-3),
    torch.bfloat16: (5e-3, 1e-2),
}


@dataclass(frozen=True)
class Case:
    """One named set of inputs: what `OpSpec.sample` is told."""

    name: str
    shape: Shape
    """Sizes and flags that the operation's `sample` understands."""
    dtypes: tuple[torch.dtype, ...] = (torch.float32,)
    """Types the interpreter runs it in; float64 references run it always."""
    full: bool = False
    """Long form, run with ``-m full`` only."""


@dataclass(frozen=True)
class CompileCase:
    """One kernel variant for the compile check."""

    name: str
    kernel: Any
    """The ``triton.jit`` function."""
    types: Mapping[str, str]
    """Argument name -> ``"*bf16"``, ``"i32"``, ...; all are declared divisible by 16 but those in ``odd``."""
    constants: Mapping[str, Any]
    """Values of the ``tl.constexpr`` arguments."""
    num_warps: int = 4
    num_stages: int = 2
    odd: tuple[str, ...] = ()
    """Integers not divisible by 16."""
    expect: tuple[str, ...] = ()
    """Instructions that the sm_90 build must contain: ``HGMMA``, ``HMMA``, ``LDG.E.128``, ..."""
    archs: tuple[int, ...] = (80, 89, 90, 100)
    """Compute capabilities it is compiled for."""


@dataclass(frozen=True)
class BenchShape:
    """One row of the bench."""

    name: str
    shape: Shape
    dtype: torch.dtype = torch.bfloat16
    cpu: bool = False
    """Small enough to be measured on a CPU; the others need a GPU."""


@dataclass(frozen=True)
class OpSpec:
    """What is known of one operation."""

    name: str
    call: Callable[..., Any]
    """The public function; ``call(**sample(...))``."""
    schemas: tuple[str, ...]
    """Qualified names of the registered operators behind it, ``embodied_mem::name``."""
    sample: Callable[[Shape, int, torch.dtype, torch.device], Inputs]
    """(shape, seed, dtype, device) -> keyword arguments of `call`."""
    op_args: Callable[[Inputs], list[tuple[str, tuple[Any, ...]]]]
    """Inputs -> (qualified name, positional arguments) for every schema, to run opcheck on."""
    oracle: Callable[..., Any]
    """The equation, one step and one row at a time; slow."""
    composed: Callable[..., Any]
    """The straightforward composition of torch operations that the operation replaces."""
    edge_cases: tuple[Case, ...]
    compile_cases: Callable[[], Sequence[CompileCase]]
    """Imports triton."""
    bench_shapes: tuple[BenchShape, ...]
    bytes: Callable[[Inputs], int]
    """Each input and output once, at the lengths that are held."""
    flops: Callable[[Inputs], int]
    grads: tuple[str, ...] = ()
    """Differentiable inputs; empty where the operation has no gradient and raises."""
    mutates: tuple[str, ...] = ()
    """Inputs written in place; they count as outputs in a comparison."""
    baselines: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """Further named peers for the bench, called as ``call`` is."""
    comparable: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """Brings results by name (see `parity.run`) into one order, where an operation leaves it open."""
    tolerances: Mapping[torch.dtype, tuple[float, float]] = field(default_factory=lambda: TOLERANCES)
    used_by: tuple[str, ...] = ()
    """Modules that call it."""


_SPECS: dict[str, OpSpec] = {}


def register_op(spec: OpSpec) -> OpSpec:
    """Add an operation.

    Raises:
        UsageError: the name is taken, or the operation has no edge or bench cases.
    """
    if spec.name in _SPECS:
        raise UsageError(f"expected a new name, got {spec.name!r}, which is registered")
    if not spec.edge_cases or not spec.bench_shapes or not spec.schemas:
        raise UsageError(f"expected edge cases, bench shapes and schemas for {spec.name!r}")
    _SPECS[spec.name] = spec
    return spec


def op_names() -> list[str]:
    """Return the names of all operations, sorted; imports them at the first call."""
    package = importlib.import_module("embodied_mem.kernels.specs")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"embodied_mem.kernels.specs.{module.name}")
    return sorted(_SPECS)


def get_op(name: str) -> OpSpec:
    """Return one operation.

    Raises:
        UsageError: no such operation.
    """
    known = op_names()
    if name not in known:
        raise UsageError(f"expected an operation of {', '.join(known)}, got {name!r}{nearest(name, known)}")
    return _SPECS[name]
