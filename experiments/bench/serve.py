"""``embodied-mem bench serve``: what a request to a policy server costs beside the policy itself.

A small policy (64 numbers in, GRU of width 128, 6 actions) is served by a process of its own, 32 rows, and asked by 1,
8 and 32 clients, each sending its next observation when the last is answered. In the same run the same policy acts in
this process, one row at a time (``act``), in turns with the clients. Times are wall times: waiting is what is measured.

    clients_N_p50_ms, clients_N_p95_ms      from sending an observation to holding the action
    clients_N_requests_per_second           all clients together
    clients_N_server_cpu_ms                 CPU time of the server per request (Linux)
    ratio_clients_N_server_cpu_over_act     the same over the CPU time of a bare `act`; does not depend on other load
    ratio_request_over_act                  median time of a lone client's request over that of a bare `act`
    ratio_clients_N_rate_over_act           requests per second over bare calls per second
    ratio_waiting_only_request_over_act     the same for a lone client where only rows that wait are forwarded
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.experiments.bench.timing import median_metric, one_thread
from embodied_mem.registry import register
from embodied_mem.results import make_result, metric
from embodied_mem.wire.codec import pack, unpack
from embodied_mem.wire.messages import message
from embodied_mem.wire.server import require_extra

CLIENTS = (1, 8, 32)
ROWS = 32
OBSERVED = 64


@register("bench", "serve", about="latency and rate of a policy server with 1, 8 and 32 clients beside a bare act")
def run(*, device: str = "cpu", seconds: float | None = None, quick: bool = False) -> dict[str, Any]:
    """Measure a policy server.

    Args:
        device: where the policy runs, here and at the server.
        seconds: time of one turn of one number of clients; default 1.
        quick: one short turn each, not to be quoted.
    """
    require_extra()
    began = time.perf_counter()
    load = os.getloadavg()[0]
    turn, rounds = (0.2, 1) if quick else (seconds or 1.0, 5)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack, one_thread():
        bundle = Path(folder) / "agent"
        agent = _policy(bundle, device)
        exact = stack.enter_context(_server(bundle, device, "--exact"))
        waiting = stack.enter_context(_server(bundle, device, "--waiting-only"))
        bare: list[np.ndarray] = []
        asked: dict[str, list[np.ndarray]] = {}
        rates: dict[str, list[float]] = {}
        cpus: dict[str, list[tuple[float, float]]] = {}
        for number in range(rounds + 1):
            start = time.process_time()
            acts = _act(agent, turn / 2)
            act_cpu = (time.process_time() - start) / len(acts)
            found = {f"clients_{clients}": _measure(exact, clients, turn) for clients in CLIENTS}
            found["waiting_only"] = _measure(waiting, 1, turn)
            if number == 0:
                continue  # the first turn warms everything up
            bare.append(acts)
            for name, (latencies, rate, cpu) in found.items():
                asked.setdefault(name, []).append(latencies)
                rates.setdefault(name, []).append(rate)
                cpus.setdefault(name, []).append((cpu, act_cpu))
    act = np.array([np.median(item) for item in bare])
    metrics: dict[str, Any] = {
        "act_p50_ms": metric(1e3 * float(np.median(np.concatenate(bare))), n=sum(map(len, bare))),
        "act_p95_ms": metric(1e3 * float(np.percentile(np.concatenate(bare), 95)), n=sum(map(len, bare))),
    }
    for clients in CLIENTS:
        name = f"clients_{clients}"
        every = np.concatenate(asked[name])
        for percent in (50, 95):
            metrics[f"{name}_p{percent}_ms"] = metric(1e3 * float(np.percentile(every, percent)), n=len(every))
        metrics[f"{name}_requests_per_second"] = median_metric(np.array(rates[name]))
        server, alone = np.array(cpus[name]).T
        metrics[f"{name}_server_cpu_ms"] = median_metric(1e3 * server)
        metrics[f"ratio_{name}_server_cpu_over_act"] = median_metric(server / alone)
        metrics[f"ratio_{name}_rate_over_act"] = median_metric(np.array(rates[name]) * act)
    for name, key in (("clients_1", "ratio_request_over_act"), ("waiting_only", "ratio_waiting_only_request_over_act")):
        metrics[key] = median_metric(np.array([np.median(item) for item in asked[name]]) / act)
    config = {
        "clients": list(CLIENTS),
        "rows": ROWS,
        "observation": OBSERVED,
        "memory": "gru",
        "device": device,
        "turn_s": turn,
        "rounds": rounds,
        "quick": quick,
    }
    notes = [
        f"wall times; load average {load:.1f} at the start: where it is above the number of cores, waiting for a core "
        "is part of them; the server and all clients are two processes that share the cores",
        "the clients are one event loop, so with 32 of them their own work is part of the time",
    ]
    spent = time.perf_counter() - began
    return make_result("bench", "serve", config, metrics, seconds=spent, notes=notes)


def _policy(bundle: Path, device: str) -> Any:
    """Write the bundle of an untrained policy; return the policy."""
    import torch
    from gymnasium import spaces

    from embodied_mem.agent import AgentConfig, MemoryAgent, load_agent, save_agent

    torch.manual_seed(0)
    shown = spaces.Dict({"vector": spaces.Box(-np.inf, np.inf, (OBSERVED,), np.float32)})
    config = AgentConfig(memory="gru", memory_config={"out_dim": 128})
    save_agent(bundle, MemoryAgent.build(config, shown, spaces.Discrete(6)))
    return load_agent(bundle, device)


def _cpu_s(process: int) -> float:
    """Return the CPU seconds that a process has used so far; NaN where the system does not say."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _server(bundle: Path, device: str, how: str) -> Iterator[tuple[str, int]]:
    """Yield the address and the process id of a server process."""
    words = ["serve", str(bundle), "--port", "0", "--rows", str(ROWS), "--device", device, how, "--json"]
    command = [sys.executable, "-m", "embodied_mem.cli.app", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # stderr into the console: a full pipe would stop the server.
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    try:
        text = ""
        for line in server.stdout:
            text += line
            if line.startswith("}"):
                break
        else:
            raise UsageError(f"the server did not start: exit code {server.wait()}")
        yield json.loads(text)["address"], server.pid
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def _act(agent: Any, seconds: float) -> np.ndarray:
    """Return the seconds of each bare call (n,)."""
    obs = {"vector": np.ones((1, OBSERVED), np.float32)}
    state, reset = agent.initial_state(1), np.zeros(1, dtype=bool)
    spent: list[float] = []
    until = time.perf_counter() + seconds
    while not spent or time.perf_counter() < until:
        start = time.perf_counter()
        _, state, _ = agent.act(obs, state, reset)
        spent.append(time.perf_counter() - start)
    return np.array(spent)


def _measure(server: tuple[str, int], clients: int, seconds: float) -> tuple[np.ndarray, float, float]:
    """Return the seconds of each request (n,), the requests per second and the server's CPU seconds per request."""
    address, process = server
    before = _cpu_s(process)
    latencies, rate = asyncio.run(_ask(address, clients, seconds))
    return latencies, rate, (_cpu_s(process) - before) / len(latencies)


async def _ask(address: str, clients: int, seconds: float) -> tuple[np.ndarray, float]:
    """Return the seconds of each request (n,) and the requests per second of all clients."""
    from websockets.asyncio.client import connect

    request = pack(message("act", obs={"vector": np.ones(OBSERVED, np.float32)}))

    async def client(socket: Any, until: float) -> list[float]:
        spent: list[float] = []
        answer = b""
        while not spent or time.perf_counter() < until:
            start = time.perf_counter()
            await socket.send(request)
            answer = await socket.recv()
            spent.append(time.perf_counter() - start)
        if unpack(answer)["type"] != "action":
            raise UsageError(f"the server answered {unpack(answer)}")
        return spent

    sockets = [await connect(address, compression=None, proxy=None) for _ in range(clients)]
    for socket in sockets:
        await socket.recv()
    start = time.perf_counter()
    found = await asyncio.gather(*(client(socket, start + seconds) for socket in sockets))
    spent = time.perf_counter() - start
    for socket in sockets:
        await socket.close()
    latencies = np.concatenate([np.array(item) for item in found])
    return latencies, len(latencies) / spent
