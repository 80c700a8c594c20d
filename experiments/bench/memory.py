"""``embodied-mem bench memory``: every memory at the shape of a training batch and of a rollout step, beside torch.

Sequences: forward and backward at B=16, T=256, D=128 with resets at 2 % unless the name says otherwise, one thread.
Steps: 16 rows without gradients, resets at 2 %, buffers donated, as in a rollout. Each ratio is of times measured in
turns (`timing`); the peers are in `memory_peers`.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import torch
from torch import Tensor, nn

from embodied_mem import registry
from embodied_mem.experiments.bench import memory_peers as peers
from embodied_mem.experiments.bench.timing import Timings, interleave, one_thread
from embodied_mem.memory.chunk_core import reset_linear_attention
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.still import standing_still
from embodied_mem.registry import register
from embodied_mem.results import make_result

ROWS, STEPS, WIDTH = 16, 256, 128
RESET_RATE, MANY_RESETS = 0.02, 0.10
# What the figures should stay under: figure -> upper bound.
TARGETS = {
    "ratio_lstm_over_cell_loop_2": 0.9,
    "ratio_lstm_over_cell_loop_10": 0.9,
    "ratio_lstm_over_cut_fused": 1.1,
    "ratio_min_gru_over_fused_gru": 0.6,
    "ratio_gated_delta_over_fla_naive": 0.5,
    "ratio_lstm_step_over_lstm_cell": 1.5,
    "ratio_gru_step_over_lstm_cell": 1.5,
    "ratio_min_gru_step_over_lstm_cell": 1.5,
    "ratio_gated_delta_step_over_lstm_cell": 3.0,
    "ratio_episodic_step_over_lstm_cell": 3.0,
    "ratio_titans_matrix_over_titans_pytorch": 0.35,
    "ratio_titans_mlp_over_titans_pytorch": 0.35,
    "ratio_titans_mlp_step_over_lstm_cell": 12.0,
}
# Tokens between two boundaries of both memories compared.
TITANS_CHUNK = 16

Metrics = dict[str, Any]


@register("bench", "memory", about="sequence and step time of every memory, beside torch and flash-linear-attention")
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Measure every registered memory and return the result; ``seconds`` per comparison (6, or 0.2 when quick)."""
    seconds = seconds or (0.2 if quick else 6.0)
    started = time.perf_counter()
    notes: list[str] = []
    metrics: Metrics = {}
    # from the first operation on: threads that were started before would go on spinning and be counted
    with one_thread():
        torch.manual_seed(0)
        x = torch.randn(ROWS, STEPS, WIDTH, device=device)
        few, many = (torch.rand(ROWS, STEPS, device=device) < rate for rate in (RESET_RATE, MANY_RESETS))
        metrics |= _lstm(x, few, many, seconds, device)
        metrics |= _min_gru(x, few, seconds, device)
        metrics |= _gated_delta(x, few, seconds, device, notes)
        metrics |= _titans(x, few, seconds, device, notes)
        metrics |= _steps(x, few, seconds, device)
        metrics |= _sequences(x, few, seconds, device)
    metrics |= {f"{name}_bytes_per_env": make_memory(name).bytes_per_env() for name in registry.names("memory")}
    for name, bound in TARGETS.items():
        found = (metrics.get(name) or {}).get("mean")
        if found is not None and found > bound and not quick:
            notes.append(f"{name} is {found:.2f}, above its target of {bound}")
    config = {
        "device": device,
        "seconds": seconds,
        "quick": quick,
        "rows": ROWS,
        "steps": STEPS,
        "width": WIDTH,
        "targets": TARGETS,
    }
    return make_result("bench", "memory", config, metrics, seconds=time.perf_counter() - started, notes=notes)


def _lstm(x: Tensor, few: Tensor, many: Tensor, seconds: float, device: str) -> Metrics:
    calls = {
        "ours": _sequence("lstm", x, few),
        "loop": peers.lstm_cell_loop(x, few),
        "cut": peers.lstm_cut_fused(x, few),
    }
    at_2 = interleave(calls, seconds=seconds, device=device)
    calls = {"ours": _sequence("lstm", x, many), "loop": peers.lstm_cell_loop(x, many)}
    at_10 = interleave(calls, seconds=seconds, device=device)
    return {
        "ratio_lstm_over_cell_loop_2": at_2.ratio("ours", "loop"),
        "ratio_lstm_over_cell_loop_10": at_10.ratio("ours", "loop"),
        "ratio_lstm_over_cut_fused": at_2.ratio("ours", "cut"),
    }


def _min_gru(x: Tensor, few: Tensor, seconds: float, device: str) -> Metrics:
    calls = {"ours": _sequence("min_gru", x, few), "fused": peers.fused_gru(x)}
    return {"ratio_min_gru_over_fused_gru": interleave(calls, seconds=seconds, device=device).ratio("ours", "fused")}


def _gated_delta(x: Tensor, few: Tensor, seconds: float, device: str, notes: list[str]) -> Metrics:
    names = ("ratio_gated_delta_over_fla_naive", "ratio_gated_delta_core_over_fla_naive")
    inputs = peers.delta_inputs(x)
    peer = peers.fla_naive(inputs)
    if peer is None:
        notes.append("flash-linear-attention is not installed, its ratios are null; pip install flash-linear-attention")
        return dict.fromkeys((*names, "ratio_gated_delta_over_fla_naive_chunk16"))
    q, k, v, g, beta = (inputs[name] for name in ("q", "k", "v", "g", "beta"))
    S0 = x.new_zeros(ROWS, q.shape[2], q.shape[3], v.shape[3])

    def core() -> None:
        reset_linear_attention(q, k, v, g, beta, reset=few, S0=S0)[0].sum().backward()

    calls = {"ours": _sequence("gated_delta", x, few), "core": core, "fla": peer}
    small = peers.fla_naive(inputs, chunk=16)
    if small is not None:
        calls["fla16"] = small
    timings = interleave(calls, seconds=seconds, device=device)
    notes.append(
        "ratio_gated_delta_over_fla_naive is the whole memory (projections, convolution, norm, with resets) over the "
        "bare op (without) at its own chunk size 64; _core_ is op over op; _chunk16 is against the peer's fastest size"
    )
    return {
        names[0]: timings.ratio("ours", "fla"),
        names[1]: timings.ratio("core", "fla"),
        "ratio_gated_delta_over_fla_naive_chunk16": timings.ratio("ours", "fla16"),
    }


def _titans(x: Tensor, few: Tensor, seconds: float, device: str, notes: list[str]) -> Metrics:
    calls: dict[str, peers.Call] = {}
    kinds = {"matrix": 1, "mlp": 2}
    for kind, depth in kinds.items():
        config = {"memory": kind, "chunk": TITANS_CHUNK}
        calls[kind] = _sequence("titans", x, few, placement="alone", **config)
        calls[f"{kind}_gate"] = _sequence("titans", x, few, placement="gate", **config)
        peer = peers.titans_pytorch(x, depth, TITANS_CHUNK)
        if peer is not None:
            calls[f"{kind}_peer"] = peer
    timings = interleave(calls, seconds=seconds, device=device)
    metrics: Metrics = {f"titans_{name}_sequence_ms": timings.milliseconds(name) for name in calls}
    for kind in kinds:
        present = f"{kind}_peer" in calls
        metrics[f"ratio_titans_{kind}_over_titans_pytorch"] = timings.ratio(kind, f"{kind}_peer") if present else None
    if "mlp_peer" in calls:
        notes.append(
            "titans ratios: the memory alone (projections, convolution, norm, output, with resets) over NeuralMemory "
            f"(without resets), both 4 heads of 32, chunks of {TITANS_CHUNK}, mlp expansion 4; _gate_ adds attention"
        )
    else:
        notes.append("titans-pytorch is not installed, its ratios are null; pip install titans-pytorch")
    step = _stepper("titans", x, few, memory="mlp")
    with torch.inference_mode():
        steps = interleave({"cell": _cell_stepper(x), "mlp": step}, seconds=seconds, device=device)
    metrics["titans_mlp_step_ms"] = steps.milliseconds("mlp")
    metrics["ratio_titans_mlp_step_over_lstm_cell"] = steps.ratio("mlp", "cell")
    return metrics


def _steps(x: Tensor, resets: Tensor, seconds: float, device: str) -> Metrics:
    calls = {name: _stepper(name, x, resets) for name in registry.names("memory")}
    with torch.inference_mode():
        timings = interleave({"cell": _cell_stepper(x), **calls}, seconds=seconds * 2, device=device)
    metrics: Metrics = {"lstm_cell_step_ms": timings.milliseconds("cell")}
    for name in calls:
        metrics[f"{name}_step_ms"] = timings.milliseconds(name)
        metrics[f"ratio_{name}_step_over_lstm_cell"] = timings.ratio(name, "cell")
    return metrics


def _sequences(x: Tensor, resets: Tensor, seconds: float, device: str) -> Metrics:
    calls = {name: _sequence(name, x, resets) for name in registry.names("memory")}
    timings: Timings = interleave(calls, seconds=seconds * 2, device=device)
    return {f"{name}_sequence_ms": timings.milliseconds(name) for name in calls}


def _sequence(name: str, x: Tensor, resets: Tensor, **config: Any) -> peers.Call:
    memory = _memory(name, x, **config)
    # detached: a learned initial state would hold a graph that the first backward frees
    state = {key: value.detach() for key, value in memory.initial_state(ROWS).items()}
    inputs = standing_still(memory, x)
    return lambda: memory.sequence(inputs, state, resets)[0].sum().backward()


def _stepper(name: str, x: Tensor, resets: Tensor, **config: Any) -> peers.Call:
    memory = _memory(name, x, **config)
    with torch.inference_mode():
        state = memory.initial_state(ROWS)
    steps = [standing_still(memory, token) for token in x.transpose(0, 1).contiguous()]
    tokens = itertools.cycle(list(zip(steps, resets.t().contiguous(), strict=True)))

    def run() -> None:
        nonlocal state
        token, reset = next(tokens)
        _, state = memory.step(token, state, reset, donate=True)

    return run


def _cell_stepper(x: Tensor) -> peers.Call:
    cell = nn.LSTMCell(WIDTH, WIDTH).to(x.device)
    state = (x.new_zeros(ROWS, WIDTH), x.new_zeros(ROWS, WIDTH))
    tokens = itertools.cycle(x.transpose(0, 1).contiguous().unbind())

    def run() -> None:
        nonlocal state
        state = cell(next(tokens), state)

    return run


def _memory(name: str, x: Tensor, **config: Any) -> Any:
    return make_memory(name, in_dim=WIDTH, out_dim=WIDTH, **config).to(x.device)
