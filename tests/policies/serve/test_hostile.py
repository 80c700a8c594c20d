"""Clients that break rules get a clear error; the others and the server go on."""

import contextlib
import os
import socket as sockets
import struct
import threading
import time

import msgpack
import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.wire.client import Link, RemoteError
from embodied_mem.wire.codec import pack, unpack
from embodied_mem.wire.messages import TOKEN_VARIABLE, message

from .conftest import episodes, play, raw, serving

GOOD = {"vector": np.zeros(3, np.float32)}


def ask(socket, data):
    socket.send(data)
    return unpack(socket.recv(timeout=10))


def closed_with(socket):
    from websockets.exceptions import ConnectionClosed

    with pytest.raises(ConnectionClosed) as caught:
        while True:
            socket.recv(timeout=10)
    return caught.value.rcvd.code if caught.value.rcvd else None


def eventually(condition, seconds=5.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def alive(server):
    assert play(server.address, episodes(0, 1, 2)).shape == (1, 2, 2)


def test_hello_publishes_what_a_client_needs(server):
    with raw(server) as socket:
        hello = socket.hello
    assert hello["v"] == 1 and hello["type"] == "hello" and hello["kind"] == "policy" and hello["rows"] == 4
    assert hello["observation_space"]["spaces"]["vector"]["shape"] == [3]
    assert hello["action_space"] == {"type": "Box", "low": -1.0, "high": 1.0, "shape": [2], "dtype": "float32"}
    assert hello["max_message_bytes"] > 0 and hello["idle_s"] > 0


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        (os.urandom(64)[:0] + b"\xc1\x00\xff", "garbage", "expected a msgpack map"),
        ("hello", "garbage", "got text"),
        (msgpack.packb([1, 2]), "garbage", "got list"),
        (pack({"v": 2, "type": "act", "obs": GOOD}), "version", "expected protocol version 1 in 'v', got 2"),
        (pack({"type": "act", "obs": GOOD}), "version", "got None"),
        (pack({"v": True, "type": "act", "obs": GOOD}), "version", "got True"),
    ],
)
def test_nonsense_ends_the_connection_with_a_reason(server, data, code, word):
    with raw(server) as socket:
        answer = ask(socket, data)
        assert answer["type"] == "error" and answer["code"] == code and word in answer["text"]
        assert closed_with(socket) == 1008
    alive(server)


@pytest.mark.parametrize(
    ("request_", "code", "word"),
    [
        (message("fly"), "request", "expected a request 'act' or 'reset', got 'fly'"),
        ({"v": 1}, "request", "'type'"),
        (message("act"), "schema", "expected a map of vector, got NoneType"),
        (message("act", obs={}), "schema", "missing vector"),
        (message("act", obs={**GOOD, "more": 1}), "schema", "unknown more"),
        (message("act", obs={"vector": np.zeros(4, np.float32)}), "schema", "shape (4,)"),
        (message("act", obs={"vector": np.zeros(3)}), "schema", "expected float32 of shape (3,), got float64"),
        (message("act", obs={"vector": "abc"}), "schema", "got str"),
        (message("act", obs=GOOD, reset=1), "request", "'reset' as bool, got int"),
        (message("reset", seed=-1), "request", "seed"),
        (message("reset", seed="x"), "request", "'seed'"),
    ],
)
def test_wrong_requests_are_answered_and_the_client_goes_on(server, request_, code, word):
    with raw(server) as socket:
        answer = ask(socket, pack({**request_, "id": 5}))
        assert answer["type"] == "error" and answer["code"] == code and word in answer["text"] and answer["id"] == 5
        assert ask(socket, pack(message("act", obs=GOOD, id=6)))["id"] == 6


def test_a_refused_observation_changes_no_memory(server):
    observations = episodes(1, 1)[0]
    clean = play(server.address, observations[None])[0]
    with raw(server) as socket:
        got = []
        for vector in observations:
            assert ask(socket, pack(message("act", obs={"vector": vector[:2]})))["code"] == "schema"
            got.append(ask(socket, pack(message("act", obs={"vector": vector})))["action"])
    assert np.array_equal(np.stack(got), clean)


def test_oversize_messages_end_the_connection(server):
    with raw(server) as socket:
        limit = socket.hello["max_message_bytes"]
        with contextlib.suppress(Exception):
            socket.send(b"\xc4" * (limit + 1))
        assert closed_with(socket) == 1009
    alive(server)


def test_no_free_row_is_a_clear_refusal_and_a_client_that_leaves_frees_its_own():
    with serving(rows=2) as server:
        links = [Link(server.address, "policy") for _ in range(2)]
        with pytest.raises(RemoteError, match="all 2 rows are taken") as caught:
            Link(server.address, "policy", patience_s=0)
        assert caught.value.code == "full"
        links[0].close()
        late = Link(server.address, "policy")
        for link in (links[1], late):
            assert link.ask("act", "action", obs=GOOD)["action"].shape == (2,)
            link.close()
        eventually(lambda: sorted(server.free) == [0, 1])


def test_more_connections_than_can_be_refused_politely():
    from websockets.exceptions import InvalidStatus

    with serving(rows=1) as server, contextlib.ExitStack() as stack:
        stack.enter_context(raw(server))
        # Those who wait to be told no are counted, and told by HTTP beyond some.
        server._connected = 100
        with pytest.raises(InvalidStatus, match="503"):
            stack.enter_context(raw(server))
        server._connected = 1


def test_clients_that_vanish_free_their_row():
    observations = episodes(2, 1)
    with serving(rows=1) as server:
        alone = play(server.address, observations)
        for request in (b"", pack(message("act", obs=GOOD))):
            with raw(server) as socket:
                if request:
                    socket.send(request)
                # A reset instead of a goodbye: what a crash or a pulled cable looks like.
                socket.socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
                socket.socket.close()
            eventually(lambda: server.free == [0])
        assert np.array_equal(play(server.address, observations), alone)


def test_silence_frees_the_row():
    with serving(rows=1, idle_s=0.3) as server, raw(server) as socket:
        assert ask(socket, pack(message("act", obs=GOOD)))["type"] == "action"
        answer = unpack(socket.recv(timeout=10))
        assert answer["code"] == "timeout" and "0.3 s" in answer["text"]
        assert closed_with(socket) == 1008
        eventually(lambda: server.free == [0])
        alive(server)


def test_a_flood_is_slowed_and_every_request_answered_in_order():
    count = 400
    with serving(rows=2) as server, raw(server, max_queue=None) as socket:
        sent = threading.Thread(
            target=lambda: [socket.send(pack(message("act", obs=GOOD, id=number))) for number in range(count)]
        )
        sent.start()
        most = 0
        for number in range(count):
            assert unpack(socket.recv(timeout=10))["id"] == number
            most = max(most, len(server._waiting))
        sent.join()
        assert most <= 2
        alive(server)


def test_who_does_not_read_is_dropped_and_the_rest_is_served():
    class Talker:
        needs_privileged = False

        def initial_state(self, n, seed=None):
            return {}

        def act(self, obs, state, reset, privileged=None):
            return np.zeros((len(reset), 250_000), np.float32), state, {}

    with serving(Talker(), rows=2, send_s=0.3) as server:
        peer = sockets.create_connection(("127.0.0.1", server.port))
        key = "dGhlIHNhbXBsZSBub25jZQ=="
        peer.sendall(
            f"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        eventually(lambda: len(server.free) == 1)
        body = pack(message("act", obs=GOOD))
        assert len(body) < 126
        frame = bytes([0x82, 0x80 | len(body)]) + b"\0\0\0\0" + body
        # It asks for a megabyte a hundred times and reads nothing.
        peer.sendall(frame * 100)
        link = Link(server.address, "policy")
        while len(server.free) == 0:
            assert link.ask("act", "action", obs=GOOD)["action"].shape == (250_000,)
        link.close()
        eventually(lambda: len(server.free) == 2)
        peer.close()


def test_browser_pages_are_refused(server):
    from websockets.exceptions import InvalidStatus

    with pytest.raises(InvalidStatus, match="403"), raw(server, origin="http://example.org"):
        pass


def test_other_addresses_need_a_token(monkeypatch):
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(UsageError, match=f"set a token in {TOKEN_VARIABLE}"):
        with serving(host="0.0.0.0"):
            pass
    with pytest.raises(UsageError, match="printable"):
        with serving(token="two words"):
            pass
    with serving(host="127.0.0.1", token="pa$s") as server:
        for wrong in (None, "", "pa$", "pa$sx"):
            with pytest.raises(RemoteError, match="HTTP 401"):
                Link(server.address, "policy", token=wrong or "x")
        Link(server.address, "policy", token="pa$s").close()
        monkeypatch.setenv(TOKEN_VARIABLE, "pa$s")
        Link(server.address, "policy").close()


def test_shutdown_in_the_middle_is_clean():
    before = threading.active_count()
    with serving(rows=4) as server:
        links = [Link(server.address, "policy") for _ in range(3)]
        for link in links:
            link.ask("act", "action", obs=GOOD)
        # One request is on its way while the server stops.
        links[0].send("act", obs=GOOD)
    with pytest.raises(RemoteError, match="went away"):
        for _ in range(3):
            links[1].ask("act", "action", obs=GOOD)
    with pytest.raises(RemoteError, match="cannot connect"):
        Link(server.address, "policy")
    for link in links:
        link.close()
    eventually(lambda: threading.active_count() <= before)
    server.stop()


def test_a_port_that_is_taken_is_one_line(server):
    with pytest.raises(UsageError, match="cannot listen on 127.0.0.1"):
        with serving(port=server.port):
            pass
