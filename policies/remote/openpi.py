"""Policy servers that speak openpi's WebSocket messages, as an agent: ``--agent "openpi:ws://127.0.0.1:8000"``.

The server sends a map of metadata on connect; then each binary message is an observation dict, answered by a dict with
``actions`` (H, A). Arrays are msgpack maps with the (binary) keys ``__ndarray__``, ``data``, ``dtype``, ``shape``. A
text message is the server's traceback. There is no reset: these servers keep nothing between requests. Ours
(``embodied-mem serve``) does not speak this; it is for openpi and the servers that copied its messages.

Options behind ``?``: ``execute`` (actions played per chunk), ``size`` (pictures are scaled to size x size), ``prompt``
(where the environment gives no instruction), and ``OURS=THEIRS`` names of observations, for example
``openpi:ws://gpu:8000?rgb=observation/exterior_image_1_left&size=224&prompt=open the drawer``.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import gymnasium
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.perception.images import resize
from embodied_mem.policies.remote.chunks import ChunkAgent
from embodied_mem.registry import register
from embodied_mem.wire.client import RemoteError
from embodied_mem.wire.codec import DTYPES
from embodied_mem.wire.server import require_extra

NAMES = {"rgb": "observation/image", "vector": "observation/state", "instruction": "prompt"}
KEY_VARIABLE = "OPENPI_API_KEY"
MAX_BYTES = 1 << 28


@register("agent", "openpi", argument="ws://HOST:PORT", about="a policy server that speaks openpi's messages")
class OpenPiAgent(ChunkAgent):
    """Asks an openpi-style server for chunks, one request per row that needs one, all sent before the first answer.

    Attributes:
        metadata: what the server said on connect.
    """

    prompt_name = "prompt"

    def __init__(
        self, argument: str, observation_space: gymnasium.Space, action_space: gymnasium.Space, timeout_s: float = 300.0
    ) -> None:
        """Connect.

        Args:
            argument: address and options, see the module.
            observation_space: what the environment shows (one row).
            action_space: what it takes; a Box.
            timeout_s: longest wait for a chunk; the first may compile for minutes.

        Raises:
            UsageError: nobody listens, or an option is malformed.
        """
        address, _, options = argument.partition("?")
        super().__init__(options, observation_space, action_space)
        self.size = self._number("size", 1) if "size" in self.given else None
        self._finish()
        self.names = self.given_names or {here: there for here, there in NAMES.items() if here in self.shown}
        self.address, self.timeout_s = address, timeout_s
        self._socket = _connect(address, timeout_s)
        weakref.finalize(self, self._socket.close)
        self.metadata = self._receive()

    def plan(self, obs: Mapping[str, Any], rows: int) -> np.ndarray:
        """Return chunks (rows, H, A) float32."""
        from websockets.exceptions import ConnectionClosed

        sized = {name: self._sized(values) for name, values in obs.items()}
        try:
            for row in range(rows):
                self._socket.send(_pack({name: values[row] for name, values in sized.items()}))
        except (ConnectionClosed, OSError) as problem:
            raise RemoteError(f"{self.address} went away: {problem}") from problem
        chunks = []
        for _ in range(rows):
            answer = self._receive()
            if not isinstance(answer.get("actions"), np.ndarray):
                raise RemoteError(
                    f"expected 'actions' as an array from {self.address}, got the keys {sorted(answer)[:8]}"
                )
            chunks.append(answer["actions"])
        if len({chunk.shape for chunk in chunks}) > 1:
            raise RemoteError(f"expected chunks of one shape, got {sorted({chunk.shape for chunk in chunks})}")
        return np.stack(chunks)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _sized(self, values: Any) -> Any:
        picture = isinstance(values, np.ndarray) and values.dtype == np.uint8 and values.ndim == 4
        return resize(values, self.size, self.size) if self.size is not None and picture else values

    def _receive(self) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed

        try:
            data = self._socket.recv(timeout=self.timeout_s)
        except TimeoutError as problem:
            raise RemoteError(f"{self.address} did not answer within {self.timeout_s:g} s") from problem
        except (ConnectionClosed, OSError) as problem:
            raise RemoteError(f"{self.address} went away: {problem}") from problem
        if isinstance(data, str):
            last = data.strip().splitlines()[-1:] or ["nothing"]
            raise RemoteError(f"the policy at {self.address} raised: {last[0][:300]}")
        return _unpack(data, self.address)


def _connect(address: str, timeout_s: float) -> Any:
    require_extra()
    from websockets.exceptions import InvalidHandshake
    from websockets.sync.client import connect

    if urlsplit(address).scheme not in ("ws", "wss") or not urlsplit(address).hostname:
        raise UsageError(f"expected an address like ws://127.0.0.1:8000, got {address!r}")
    key = os.environ.get(KEY_VARIABLE)
    headers = {"Authorization": f"Api-Key {key}"} if key else {}
    try:
        # Such servers may be busy with a forward for longer than a keep-alive waits.
        return connect(
            address,
            additional_headers=headers,
            compression=None,
            max_size=MAX_BYTES,
            proxy=None,
            ping_interval=None,
            open_timeout=timeout_s,
            close_timeout=2.0,
        )
    except (OSError, InvalidHandshake, TimeoutError) as problem:
        raise RemoteError(f"cannot connect to {address}: {problem}") from problem


def _pack(observed: Mapping[str, Any]) -> bytes:
    import msgpack

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            data = np.ascontiguousarray(value).tobytes()
            return {b"__ndarray__": True, b"data": data, b"dtype": value.dtype.str, b"shape": value.shape}
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"a {type(value).__name__} cannot be sent")

    return msgpack.packb(dict(observed), default=plain)


def _unpack(data: bytes, address: str) -> dict[str, Any]:
    import msgpack

    def array(pairs: dict[Any, Any]) -> Any:
        found = {key.decode() if isinstance(key, bytes) else key: value for key, value in pairs.items()}
        if "__npgeneric__" in found:
            return found.get("data")
        if "__ndarray__" not in found:
            return found
        dtype, shape = np.dtype(found["dtype"]), tuple(found["shape"])
        if dtype.newbyteorder("<").str not in DTYPES or math.prod(shape) * dtype.itemsize != len(found["data"]):
            raise ValueError(f"{len(found['data'])} bytes are no array of {dtype} {shape}")
        return np.frombuffer(found["data"], dtype).reshape(shape)

    try:
        message = msgpack.unpackb(data, object_hook=array, raw=False)
    except Exception as problem:
        raise RemoteError(f"expected openpi's messages from {address}: {problem}") from problem
    if not isinstance(message, dict):
        raise RemoteError(f"expected a map from {address}, got {type(message).__name__}")
    return message
