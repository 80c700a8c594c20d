"""``embodied-mem bench kernels``: every kernel operation against its peers (`embodied_mem.kernels.bench`).

Metrics are the speed-ups over the fastest peer and over the plain composition; the whole table is under ``tasks``.
Refused where parity fails. On a GPU a step of the memories that use an operation is timed too, with kernels on and off.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import torch

from embodied_mem.experiments.bench.timing import one_thread
from embodied_mem.kernels import bench, use_backend
from embodied_mem.kernels._registry import op_names
from embodied_mem.memory.contract import make_memory
from embodied_mem.registry import register
from embodied_mem.results import make_result

STEPPED = ("perceptual_cognitive_bank", "hcam", "min_gru", "gated_delta")
ROWS = (64, 1024, 4096)
MINUTES = 7
"""After which no compiled peer is begun."""


@register(
    "bench", "kernels", about="memory operations against torch compositions, on the CPU and on a GPU if there is one"
)
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Check parity, measure every operation and return the result; ``seconds`` per timing (0.4, or 0.02 when quick)."""
    seconds = seconds or (0.02 if quick else 0.4)
    started = time.perf_counter()
    target, names = torch.device(device), op_names()
    errors = bench.require_parity(names, target, quick=quick)
    with one_thread(), use_backend("auto"):
        found = bench.rows(names, target, seconds=seconds)
        if target.type == "cuda" and not quick:
            deadline = time.monotonic() + 60 * MINUTES - (time.perf_counter() - started)
            found = list(bench.add_compiled(found, target, seconds=seconds, deadline=deadline))
    metrics: dict[str, Any] = {}
    for row in found:
        if row["speedup"] is not None:
            way = "_backward" if row["direction"] != "forward" else ""
            name = f"{row['op']}_{row['shape']}{way}"
            metrics[f"{name}_speedup"] = row["speedup"]
            metrics[f"{name}_over_composition"] = row["baselines"]["composed"] / row["ms_median"]
    notes = []
    if target.type == "cpu":
        count = sum(row["ms_median"] is None for row in found)
        notes.append(f"no GPU: {count} shapes not measured; CPU figures are of the references, one thread")
    else:
        metrics |= _steps(target, seconds)
    config = {"device": device, "seconds": seconds, "quick": quick, "errors": errors}
    tasks = {f"{row['op']}/{row['shape']}/{row['direction']}": row for row in found}
    return make_result(
        "bench", "kernels", config, metrics, tasks=tasks, seconds=time.perf_counter() - started, notes=notes
    )


def _steps(device: torch.device, seconds: float) -> dict[str, float]:
    """Time of a memory's step without kernels over that with them."""
    found = {}
    for name in STEPPED:
        memory = make_memory(name).to(device)
        for count in ROWS:
            x, state = torch.randn(count, memory.in_dim, device=device), memory.initial_state(count)
            times = {}
            for backend in ("reference", "auto"):
                with use_backend(backend), torch.no_grad():
                    step = functools.partial(memory.step, x, state)
                    times[backend] = bench.gpu_times([step], seconds)["median"]
            found[f"{name}_step_{count}_speedup"] = times["reference"] / times["auto"]
    return found
