"""Small policies, a server of each, and a client that can say anything."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.agent import AgentConfig, MemoryAgent, PolicyAgent
from embodied_mem.policies.serve.server import PolicyServer
from embodied_mem.wire.client import Link
from embodied_mem.wire.codec import unpack

pytest.importorskip("websockets")

OBSERVATIONS = spaces.Dict({"vector": spaces.Box(-np.inf, np.inf, (3,), np.float32)})
ACTIONS = spaces.Box(-1.0, 1.0, (2,), np.float32)


def policy(memory="gru", actions=ACTIONS, deterministic=True):
    torch.manual_seed(3)
    module = MemoryAgent.build(AgentConfig(memory=memory), OBSERVATIONS, actions)
    with torch.no_grad():
        # Untrained action layers are nearly zero: make what the memory holds show in the actions.
        module.head.out.weight.normal_()
    return PolicyAgent(module, deterministic=deterministic)


def episodes(seed, count=3, length=5):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, length, 3)).astype(np.float32)


def play(address, observations, seed=None):
    """Return the actions (count, length, 2) of a lone client."""
    link = Link(address, "policy")
    played = []
    for episode in observations:
        if seed is not None:
            link.ask("reset", "ready", seed=seed)
        for step, vector in enumerate(episode):
            answer = link.ask("act", "action", obs={"vector": vector}, reset=step == 0 and seed is None)
            played.append(answer["action"])
    link.close()
    return np.stack(played).reshape(*observations.shape[:2], -1)


@contextmanager
def serving(agent=None, actions=ACTIONS, **options):
    with PolicyServer(agent or policy(), OBSERVATIONS, actions, **{"port": 0, **options}) as server:
        yield server


@contextmanager
def raw(server, **options):
    """A plain WebSocket after the hello."""
    from websockets.sync.client import connect

    with connect(server.address, compression=None, proxy=None, **options) as socket:
        socket.hello = unpack(socket.recv(timeout=10))
        yield socket


@pytest.fixture(scope="module")
def server():
    with serving(rows=4) as running:
        yield running
