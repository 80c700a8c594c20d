"""Which implementation runs: the plain reference, the Triton kernel, or the Triton kernel under the interpreter.

``EMBODIED_MEM_KERNELS`` (read when this module is imported) or `use_backend` choose:

* ``auto``: Triton for CUDA tensors, the reference otherwise; what a kernel does not support runs the reference,
with one
  warning per operation and reason.
* ``reference``: always the reference.
* ``triton``: Triton, or an error.
* ``interpret``: Triton's interpreter on CPU tensors, for tests; needs ``TRITON_INTERPRET=1`` before triton is imported.

`stats` counts the calls of every operation by backend, so a log can show which path ran (calls inside a compiled graph
are not counted).
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from embodied_mem.errors import UsageError

__all__ = ["BACKENDS", "Choice", "backend_for", "inline", "reset_stats", "stats", "use_backend"]

BACKENDS = ("auto", "reference", "triton", "interpret")
_mode = os.environ.get("EMBODIED_MEM_KERNELS", "auto")
_calls: dict[str, Counter[str]] = {}
_warned: set[tuple[str, str]] = set()


class Choice(NamedTuple):
    """What runs, and why."""

    backend: str
    """``reference``, ``triton`` or ``interpret``."""
    reason: str
    """One clause for a log."""


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose the backend within the context, whatever the environment says.

    >>> with use_backend("reference"):
    ...     backend_for("reset_scan", torch.zeros(1)).backend
    'reference'
    """
    global _mode
    before, _mode = _mode, _checked(name)
    try:
        yield
    finally:
        _mode = before


def backend_for(op: str, tensor: Tensor, unsupported: str = "") -> Choice:
    """Return what an operation runs for a tensor and why.

    Args:
        op: name of the operation.
        tensor: one of its inputs; its device decides.
        unsupported: why the kernel cannot take these inputs, or "".

    Raises:
        UsageError: the backend that was asked for cannot run here.
    """
    mode = _checked(_mode)
    if mode == "reference":
        return Choice("reference", "asked for")
    if mode == "interpret":
        _need_interpreter()
        if unsupported:
            raise UsageError(f"{op}: expected inputs that the kernel supports, got {unsupported}")
        return Choice("interpret", "asked for")
    missing = _why_not(tensor) or unsupported
    if mode == "triton":
        if missing:
            raise UsageError(f"{op}: EMBODIED_MEM_KERNELS=triton cannot run here: {missing}; use auto")
        return Choice("triton", "asked for")
    if not missing:
        return Choice("triton", "CUDA tensor")
    if tensor.is_cuda and (op, missing) not in _warned:
        _warned.add((op, missing))
        warnings.warn(f"kernel {op} runs its plain reference: {missing}", stacklevel=3)
    return Choice("reference", missing)


def inline(op: str, tensor: Tensor, *, traceable: bool = True) -> bool:
    """Return whether the caller may run the plain reference in place, under autograd, without the registered operation.

    That is the fast path of CPU tensors: no operator call, and gradients without a second forward pass. A graph that is
    being compiled takes it too where the reference is ``traceable``, so that the compiler sees through it.
    """
    if _mode != "reference" and (_mode != "auto" or tensor.is_cuda):
        return False
    if torch.compiler.is_compiling():
        return traceable
    count(op, "reference")
    return True


def count(op: str, backend: str) -> None:
    """Record one call."""
    _calls.setdefault(op, Counter())[backend] += 1


def stats() -> dict[str, dict[str, int]]:
    """Return calls by operation and backend since the start or `reset_stats`."""
    return {op: dict(calls) for op, calls in _calls.items()}


def reset_stats() -> None:
    """Forget all calls."""
    _calls.clear()


def run_triton(op: str, tensor: Tensor, unsupported: str = "") -> bool:
    """Return whether a registered operation launches its kernel, and count the call."""
    backend = backend_for(op, tensor, unsupported).backend
    count(op, backend)
    return backend != "reference"


def unsupported_dtype(*tensors: Tensor | None) -> str:
    """Return a reason if a float tensor is of a type the kernels do not take, else ""."""
    for tensor in tensors:
        if tensor is not None and tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            return f"dtype {tensor.dtype}"
    return ""


def _checked(name: str) -> str:
    if name not in BACKENDS:
        raise UsageError(f"expected EMBODIED_MEM_KERNELS to be one of {', '.join(BACKENDS)}, got {name!r}")
    return name


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _why_not(tensor: Tensor) -> str:
    if not tensor.is_cuda:
        return f"{tensor.device.type} tensor"
    if not _has_triton():
        return "triton is not installed"
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return "" if major >= 8 else f"compute capability {major}.{minor} is below 8.0"


@cache
def _need_interpreter() -> None:
    if not _has_triton():
        raise UsageError("backend interpret needs triton: pip install triton")
    import triton.language as tl

    if type(tl.max).__name__ != "InterpretedFunction":
        raise UsageError("backend interpret needs TRITON_INTERPRET=1 in the environment before triton is imported")
