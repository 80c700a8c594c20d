"""A server of openpi's messages, written here from their description, and the agent that plays its chunks."""

import threading

import msgpack
import numpy as np
import pytest
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.policies.remote.openpi import OpenPiAgent
from embodied_mem.spaces import encode_text
from embodied_mem.wire.client import RemoteError

server_module = pytest.importorskip("websockets.sync.server")

SHOWN = spaces.Dict(
    {
        "rgb": spaces.Box(0, 255, (8, 8, 3), np.uint8),
        "vector": spaces.Box(-9, 9, (2,), np.float32),
        "instruction": spaces.Box(0, 255, (16,), np.uint8),
    }
)
ACTIONS = spaces.Box(-1, 1, (2,), np.float32)


def encode(value):
    if isinstance(value, np.ndarray):
        return {
            b"__ndarray__": True,
            b"data": value.tobytes(),
            b"dtype": value.dtype.str,
            b"shape": value.shape,
        }
    raise TypeError(value)


def decode(pairs):
    if b"__ndarray__" in pairs:
        return np.ndarray(pairs[b"shape"], np.dtype(pairs[b"dtype"]), pairs[b"data"])
    return pairs


class Server:
    """Answers with chunks of `horizon` actions: step / 10 first, then the state's first number."""

    def __init__(self, horizon=4):
        self.horizon, self.seen, self.fault = horizon, [], None
        self.server = server_module.serve(self.talk, "127.0.0.1", 0, compression=None)
        self.address = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def talk(self, socket):
        socket.send(msgpack.packb({"action_horizon": self.horizon}))
        for data in socket:
            obs = msgpack.unpackb(data, object_hook=decode)
            self.seen.append(obs)
            if self.fault is not None:
                socket.send(self.fault)
                continue
            steps = np.arange(self.horizon) / 10
            actions = np.stack([steps, np.full(self.horizon, obs["observation/state"][0])], 1)
            socket.send(msgpack.packb({"actions": actions, "server_timing": {"infer_ms": 1.0}}, default=encode))

    def stop(self):
        self.server.shutdown()
        self.thread.join()


@pytest.fixture
def server():
    running = Server()
    yield running
    running.stop()


def observed(*states):
    n = len(states)
    return {
        "rgb": np.full((n, 8, 8, 3), 7, np.uint8),
        "vector": np.array([[state, 0] for state in states], np.float32),
        "instruction": np.stack([encode_text(f"do {index}", 16) for index in range(n)]),
    }


def test_chunks_are_played_row_by_row_and_reset_row_by_row(server):
    agent = OpenPiAgent(f"{server.address}?execute=3", SHOWN, ACTIONS)
    assert agent.metadata == {"action_horizon": 4}
    state, played = agent.initial_state(2), []
    for step in range(6):
        reset = np.array([step == 0, step in (0, 2)])
        action, state, _ = agent.act(observed(0.1 * step, -0.1 * step), state, reset)
        played.append(action)
    played = np.stack(played)
    # Row 0 asks at steps 0 and 3, row 1 at 0, at its reset in step 2, and at 5.
    assert np.allclose(played[:, 0], [[0, 0], [0.1, 0], [0.2, 0], [0, 0.3], [0.1, 0.3], [0.2, 0.3]])
    assert np.allclose(played[:, 1], [[0, 0], [0.1, 0], [0, -0.2], [0.1, -0.2], [0.2, -0.2], [0, -0.5]], atol=1e-6)
    assert len(server.seen) == 5
    first = server.seen[0]
    assert set(first) == {"observation/image", "observation/state", "prompt"} and first["prompt"] == "do 0"
    assert first["observation/image"].shape == (8, 8, 3) and first["observation/image"].dtype == np.uint8
    agent.close()


def test_names_sizes_and_prompts_are_options(server):
    bare = spaces.Dict({name: SHOWN[name] for name in ("rgb", "vector")})
    options = "rgb=observation/wrist&vector=observation/state&size=4&prompt=open the drawer"
    agent = OpenPiAgent(f"{server.address}?{options}", bare, ACTIONS)
    obs = observed(5.0)
    action, *_ = agent.act({name: obs[name] for name in ("rgb", "vector")}, agent.initial_state(1), np.ones(1, bool))
    (seen,) = server.seen
    assert set(seen) == {"observation/wrist", "observation/state", "prompt"}
    assert seen["observation/wrist"].shape == (4, 4, 3) and seen["prompt"] == "open the drawer"
    # 5 lies outside of the action space.
    assert action.tolist() == [[0, 1]] and action.dtype == np.float32
    agent.close()


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ("Traceback ...\nValueError: no such key", "raised: ValueError: no such key"),
        (msgpack.packb({"oops": 1}), "expected 'actions'"),
        (msgpack.packb({"actions": np.zeros((4, 3))}, default=encode), r"expected chunks of actions \(1, H, \(2,\)\)"),
        (msgpack.packb({"actions": np.full((4, 2), np.nan)}, default=encode), "not finite"),
        (msgpack.packb([1]), "expected a map"),
        (b"\xc1", "expected openpi's messages"),
        (
            msgpack.packb({"a": {b"__ndarray__": True, b"dtype": "<f4", b"shape": [9], b"data": b""}}),
            "0 bytes are no array",
        ),
    ],
)
def test_what_a_server_may_say_wrongly(server, fault, word):
    agent = OpenPiAgent(server.address, SHOWN, ACTIONS)
    server.fault = fault
    with pytest.raises(UsageError, match=word):
        agent.act(observed(0.0), agent.initial_state(1), np.ones(1, bool))
    agent.close()


def test_bad_options_and_spaces(server):
    with pytest.raises(UsageError, match="unknown option 'exeggcute'"):
        OpenPiAgent(f"{server.address}?exeggcute=3", SHOWN, ACTIONS)
    with pytest.raises(UsageError, match="execute as a whole number >= 1"):
        OpenPiAgent(f"{server.address}?execute=0", SHOWN, ACTIONS)
    with pytest.raises(UsageError, match="expected a Box action space"):
        OpenPiAgent(server.address, SHOWN, spaces.Discrete(2))
    with pytest.raises(RemoteError, match="cannot connect"):
        OpenPiAgent("ws://127.0.0.1:9", SHOWN, ACTIONS)
    with pytest.raises(UsageError, match="expected an address"):
        OpenPiAgent("127.0.0.1:9", SHOWN, ACTIONS)
