"""A client of `embodied-mem serve` that needs numpy, msgpack and websockets, and nothing of embodied_mem."""

import msgpack
import numpy as np
from websockets.sync.client import connect


def encode(value):
    little = value.astype(value.dtype.newbyteorder("<"))
    return {"__nd__": little.dtype.str, "shape": list(value.shape), "data": little.tobytes()}


def decode(pairs):
    if "__nd__" not in pairs:
        return pairs
    return np.frombuffer(pairs["data"], pairs["__nd__"]).reshape(pairs["shape"])


class Policy:
    """One episode at a time: `act` with ``first=True`` opens the next."""

    def __init__(self, address, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.socket = connect(address, additional_headers=headers, compression=None)
        self.hello = self.receive()

    def act(self, observation, first=False):
        request = {"v": 1, "type": "act", "obs": observation, "reset": first}
        self.socket.send(msgpack.packb(request, default=encode))
        return self.receive()["action"]

    def receive(self):
        message = msgpack.unpackb(self.socket.recv(), object_hook=decode)
        if message["type"] == "error":
            raise RuntimeError(f"{message['code']}: {message['text']}")
        return message
