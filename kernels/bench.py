"""Time every operation against its peers; refuses where parity fails.

    python -m embodied_mem.kernels.bench [--op NAME] [--out FILE] [--device auto|cpu|cuda] [--quick] [--minutes 7]

On a GPU: CUDA events, 25 ms of warm-up, inputs rotated through more than four times the second-level cache, median and
20 / 80 % quantiles, and for calls under 20 microseconds a captured graph of 50 calls as well. The roof is the larger of
bytes over bandwidth and operations over peak, both measured at the start. Peers: the composition of torch operations,
the same compiled, and the named peers of the operation; a row names the fastest. Without a GPU the CPU columns are
measured and the others are null with "not measured". It needs torch, triton and numpy.

A run keeps to ``--minutes``: parity runs in processes beside each other, which also compile the kernels of the measured
shapes; then every row is measured without compiled peers, whose compilation takes longer than all else; then these, in
order, while there is time, and a row says where there was none. Rows are merged into ``--out`` as they come, so a run
cut short loses nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_json
from embodied_mem.kernels import parity
from embodied_mem.kernels._dispatch import use_backend
from embodied_mem.kernels._registry import BenchShape, Inputs, OpSpec, get_op, op_names

__all__ = ["add_compiled", "gpu_times", "measure", "require_parity", "rows", "show"]

Row = dict[str, Any]
_INTERPRET = "TRITON_INTERPRET"
_TURN_SECONDS = 0.005
_CACHE_BYTES = 240 * 2**20
_WARM_SECONDS = 0.025
_GRAPH_BELOW_MS = 0.02
_PROCESSES = 8
# A compilation that would start later than this before the deadline could run past it.
_COMPILE_SECONDS = 30


def require_parity(names: list[str], device: torch.device, *, quick: bool = False) -> dict[str, float]:
    """Return the largest errors by operation: on a GPU the kernels', else those of the interpreter and the references.

    Raises:
        UsageError: an error is above its tolerance; nothing may be measured then.
    """
    if device.type == "cuda":
        lines, worst = _beside("triton", names, "--warm")
    else:
        lines, worst = parity.failures("reference", device, names)
        if not quick:
            more, worst = _beside("interpret", names)
            lines = lines + more
    if lines:
        raise UsageError(f"expected kernels that agree with their references, got: {'; '.join(lines[:5])}")
    return worst


def _beside(backend: str, names: list[str], *more: str) -> tuple[list[str], dict[str, float]]:
    """Run parity in processes beside each other: what takes time is compiling, and the interpreter needs its own."""
    environment = {key: value for key, value in os.environ.items() if key not in ("EMBODIED_MEM_KERNELS", _INTERPRET)}
    if backend == "interpret":
        environment[_INTERPRET] = "1"
    count = min(_PROCESSES, len(names), os.cpu_count() or 1)
    running = []
    for first in range(count):
        words = [word for name in names[first::count] for word in ("--op", name)]
        command = [sys.executable, "-m", "embodied_mem.kernels.parity", "--backend", backend, *words, *more]
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment))
    lines: list[str] = []
    worst: dict[str, float] = {}
    for process in running:
        out, error = process.communicate()
        if process.returncode not in (0, 1):
            lines.append(f"parity of {backend} stopped: {' '.join(error.strip().splitlines()[-1:])}")
            continue
        found = json.loads(out)
        lines += found["failures"]
        worst |= found["errors"]
    return lines, dict(sorted(worst.items()))


def rows(names: list[str], device: torch.device, *, seconds: float = 0.4) -> list[Row]:
    """Measure all shapes of the operations that fit the device, without compiled peers; see `measure`."""
    roof = _roof(device) if device.type == "cuda" else None
    found = []
    for name in names:
        spec = get_op(name)
        for shape in spec.bench_shapes:
            if device.type == "cpu" and not shape.cpu:
                found.append(_empty(spec, shape, device))
                continue
            for backward in (False, True) if spec.grads else (False,):
                found.append(measure(spec, shape, device, backward=backward, seconds=seconds, roof=roof))
    return found


def add_compiled(found: list[Row], device: torch.device, *, seconds: float, deadline: float) -> Iterator[Row]:
    """Time the compiled composition of the rows one after another, put it into them, and yield each row.

    ``deadline`` (`time.monotonic`): rows for which no time is left get a note.
    """
    for row in found:
        measured = row["ms_median"] is not None
        if not measured or time.monotonic() > deadline - _COMPILE_SECONDS:
            row["notes"] += ["compiled: not measured, no time left"] if measured else []
            yield row
            continue
        spec, backward = get_op(row["op"]), row["direction"] != "forward"
        shape = next(shape for shape in spec.bench_shapes if shape.name == row["shape"])
        sets = _inputs(spec, shape, device)
        torch._dynamo.reset()
        compiled = torch.compile(spec.composed, mode="max-autotune-no-cudagraphs")
        times, notes = _times({"compiled": _calls(spec, compiled, sets, backward)}, seconds, device.type == "cuda")
        row["notes"] += notes
        _compare(row, {name: value["median"] for name, value in times.items()})
        yield row


def _inputs(spec: OpSpec, shape: BenchShape, device: torch.device) -> list[Inputs]:
    """Return sets of inputs: on a GPU at least three, together larger than what its cache keeps."""
    sets = [spec.sample(shape.shape, 0, shape.dtype, device)]
    if device.type == "cuda":
        copies = min(8, max(3, -(-_CACHE_BYTES // max(spec.bytes(sets[0]), 1))))
        sets += [spec.sample(shape.shape, seed, shape.dtype, device) for seed in range(1, copies)]
    return sets


def _compare(row: Row, times: dict[str, float]) -> None:
    """Add times of peers and name the fastest."""
    row["baselines"] |= times
    if row["baselines"]:
        fastest = min(row["baselines"], key=lambda name: row["baselines"][name])
        row |= {"fastest_baseline": fastest, "speedup": row["baselines"][fastest] / row["ms_median"]}


def measure(
    spec: OpSpec,
    shape: BenchShape,
    device: torch.device,
    *,
    backward: bool = False,
    seconds: float = 0.4,
    roof: tuple[float, float] | None = None,
) -> Row:
    """Time one shape: ours and every peer; ``backward`` times forward and backward together."""
    row = _empty(spec, shape, device) | {"direction": "forward+backward" if backward else "forward"}
    sets, on_gpu = _inputs(spec, shape, device), device.type == "cuda"
    bytes_, flops = spec.bytes(sets[0]), spec.flops(sets[0])
    peers: dict[str, Callable[..., Any]] = {"composed": spec.composed, **spec.baselines}
    everything = {"ours": _calls(spec, spec.call, sets, backward)}
    everything |= {name: _calls(spec, peer, sets, backward) for name, peer in peers.items()}
    times, row["notes"] = _times(everything, seconds, on_gpu)
    ours = times.pop("ours")
    row |= {"backend": "triton" if on_gpu else "reference"} | {f"ms_{key}": value for key, value in ours.items()}
    if on_gpu:
        if ours["median"] < _GRAPH_BELOW_MS and not backward and not spec.mutates:
            row["ms_graph"] = _graph_time(_calls(spec, spec.call, sets, False)[0])
        row |= {"gbps": bytes_ / ours["median"] / 1e6, "tflops": flops / ours["median"] / 1e9}
        if roof is not None and not backward:
            row["pct_roof"] = 100 * 1e3 * max(bytes_ / roof[0], flops / roof[1]) / ours["median"]
    _compare(row, {name: found["median"] for name, found in times.items()})
    return row


def _empty(spec: OpSpec, shape: BenchShape, device: torch.device) -> Row:
    none = dict.fromkeys(("ms_median", "ms_p20", "ms_p80", "ms_graph", "gbps", "tflops", "pct_roof", "speedup"))
    return {
        "op": spec.name,
        "shape": shape.name,
        "dtype": str(shape.dtype).removeprefix("torch."),
        "direction": "forward",
        "device": "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device),
        "backend": None,
        **none,
        "baselines": {},
        "fastest_baseline": None,
        "notes": [] if shape.cpu or device.type == "cuda" else ["not measured: needs a GPU"],
        "versions": _versions(),
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    try:
        found["triton"] = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        found["triton"] = None
    return found


def _calls(spec: OpSpec, call: Callable[..., Any], sets: list[Inputs], backward: bool) -> list[Callable[[], Any]]:
    """Return one closure per set of inputs."""
    leaves = [name for name in spec.grads if backward and sets[0].get(name) is not None]
    closures = []
    for inputs in sets:
        given = dict(inputs)
        for name in leaves:
            given[name] = given[name].detach().requires_grad_()
        closures.append(_closure(call, given, leaves))
    return closures


def _closure(call: Callable[..., Any], given: Inputs, leaves: list[str]) -> Callable[[], Any]:
    def forward() -> Any:
        with torch.no_grad():
            return call(**given)

    def both() -> Any:
        found = call(**given)
        out = found if isinstance(found, Tensor) else found[0]
        return torch.autograd.grad(out, [given[name] for name in leaves], torch.ones_like(out), allow_unused=True)

    return both if leaves else forward


def _quantiles(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {
        "median": statistics.median(times),
        "p20": times[int(0.2 * (len(times) - 1))],
        "p80": times[int(0.8 * (len(times) - 1))],
    }


def _times(
    everything: dict[str, list[Callable[[], Any]]], seconds: float, on_gpu: bool
) -> tuple[dict[str, dict[str, float]], list[str]]:
    """Return quantiles by name and a note for every peer that cannot run.

    On a CPU all take turns and the process's own time counts, so that other work on the machine weighs on none. Its
    clock may advance in steps of a millisecond, so a turn is as many calls as take a few.
    """
    notes, able = [], dict(everything)
    for name, calls in everything.items():
        try:
            calls[0]()
        except Exception as error:
            if name == "ours":
                raise
            notes.append(f"{name}: {type(error).__name__}")
            del able[name]
    if on_gpu:
        return {name: gpu_times(calls, seconds) for name, calls in able.items()}, notes
    found: dict[str, list[float]] = {name: [] for name in able}
    turns = {name: max(1, round(_TURN_SECONDS / _wall(calls[0]))) for name, calls in able.items()}
    spent = 0.0
    while able and (spent < seconds * len(able) or min(map(len, found.values())) < 3):
        for name, calls in able.items():
            # one before the clock: what ran last has left its caches and its pages
            calls[0]()
            started = time.process_time()
            for _ in range(turns[name]):
                calls[0]()
            taken = time.process_time() - started
            found[name].append(1e3 * taken / turns[name])
            spent += taken
    return {name: _quantiles(times) for name, times in found.items()}, notes


def _wall(call: Callable[[], Any]) -> float:
    """Return the seconds of the quicker of two calls."""
    times = []
    for _ in range(2):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return max(min(times), 1e-7)


def gpu_times(calls: list[Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Return milliseconds per call by CUDA events: median, p20 and p80."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < _WARM_SECONDS:
        calls[count % len(calls)]()
        torch.cuda.synchronize()
        count += 1
    repeats = int(min(200, max(10, count * seconds / _WARM_SECONDS / 4)))
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for i, (first, last) in enumerate(events):
        first.record()
        calls[i % len(calls)]()
        last.record()
    torch.cuda.synchronize()
    return _quantiles([first.elapsed_time(last) for first, last in events])


def _graph_time(call: Callable[[], Any], count: int = 50) -> float:
    """Milliseconds per call inside a captured graph, free of launch costs."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(count):
            call()
    return gpu_times([graph.replay], 0.2)["median"] / count


def _roof(device: torch.device) -> tuple[float, float]:
    """Return measured bandwidth (bytes / s, read and write of a copy) and bfloat16 product rate (operations / s)."""
    size = 2**29
    source, target = (torch.empty(size, dtype=torch.uint8, device=device).random_() for _ in range(2))
    copy = gpu_times([lambda: target.copy_(source)], 0.2)["median"]
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device=device) for _ in range(2))
    product = gpu_times([lambda: a @ b], 0.2)["median"]
    return 2 * size / copy * 1e3, 2 * 8192**3 / product * 1e3


def merge(path: Path, new: list[Row]) -> None:
    """Put rows into a JSON file; rows of the same operation, shape, type, direction and device are replaced."""
    held = json.loads(path.read_text())["rows"] if path.exists() else []
    keys = ("op", "shape", "dtype", "direction", "device")
    replaced = {tuple(row[key] for key in keys) for row in new}
    kept = [row for row in held if tuple(row[key] for key in keys) not in replaced]
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, {"rows": kept + new})


def show(found: list[Row]) -> str:
    """Return the rows as a text table."""
    lines = [f"{'operation':24}{'shape':38}{'direction':18}{'ms':>9}{'% roof':>8}{'speedup':>9}  fastest peer"]
    for row in found:
        ms, roof, speed = (row[key] for key in ("ms_median", "pct_roof", "speedup"))
        numbers = (
            f"{ms:9.4f}{'-' if roof is None else f'{roof:.0f}':>8}{'-' if speed is None else f'{speed:.2f}':>9}"
            if ms is not None
            else f"{'not measured':>26}"
        )
        lines.append(f"{row['op']:24}{row['shape']:38}{row['direction']:18}{numbers}  {row['fastest_baseline'] or ''}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Check parity, measure, print the table; exit status 2 where parity fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", action="append", choices=op_names())
    parser.add_argument("--out", type=Path)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="no compiled peers, short timings; not to be quoted")
    parser.add_argument("--minutes", type=float, default=7.0, help="no compiled peer is begun that could end later")
    chosen = parser.parse_args(words)
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if chosen.device == "auto" else chosen.device
    device, names = torch.device(kind), chosen.op or op_names()
    if device.type == "cpu":
        torch.set_num_threads(1)
    deadline, seconds = time.monotonic() + 60 * chosen.minutes, 0.05 if chosen.quick else 0.4
    try:
        require_parity(names, device, quick=chosen.quick)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    everything: list[Row] = []
    with use_backend("auto"):
        for name in names:
            new = rows([name], device, seconds=seconds)
            everything += new
            if chosen.out is not None:
                merge(chosen.out, new)
        if device.type == "cuda" and not chosen.quick:
            for row in add_compiled(everything, device, seconds=seconds, deadline=deadline):
                if chosen.out is not None:
                    merge(chosen.out, [row])
    print(show(everything))
    return 0


if __name__ == "__main__":
    sys.exit(main())
