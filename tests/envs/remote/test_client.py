"""An environment at a server is the environment: same observations, rewards, flags and infos, bit for bit."""

import socket
import struct
import time

import numpy as np
import pytest

from embodied_mem.envs.make import find_spec, make_vec, portable_id
from embodied_mem.envs.remote.server import env_server
from embodied_mem.errors import UsageError
from embodied_mem.wire.client import Link, RemoteError

pytest.importorskip("websockets")


@pytest.fixture(scope="module")
def server():
    with env_server("TMaze-v0", {"length": 4}, port=0, rows=12, clients=3, client_options=True) as running:
        yield running


def same(a, b):
    if isinstance(a, dict):
        assert set(a) == set(b)
        for key in a:
            same(a[key], b[key])
    else:
        assert np.asarray(a).dtype == np.asarray(b).dtype
        assert np.array_equal(a, b)


@pytest.mark.parametrize("mode", ["NEXT_STEP", "SAME_STEP", "DISABLED"])
def test_rollouts_are_bit_equal(server, mode):
    envs = [
        make_vec("TMaze-v0", 5, autoreset_mode=mode, length=4),
        make_vec(f"remote:{server.address}", 5, autoreset_mode=mode),
    ]
    here, there = envs
    assert there.single_observation_space == here.single_observation_space
    assert there.single_action_space == here.single_action_space
    assert there.metadata["autoreset_mode"] is here.metadata["autoreset_mode"]
    same(here.reset(seed=3)[0], there.reset(seed=3)[0])
    draw = np.random.default_rng(0)
    for _ in range(30):
        actions = draw.integers(0, here.single_action_space.n, 5)
        results = [env.step(actions) for env in envs]
        if mode == "SAME_STEP":
            for result in results:
                finals = result[4].pop("final_obs", None)
                result[4].pop("final_info", None)
                if finals is not None:
                    result[4]["finals"] = np.stack([item for item in finals if item is not None])
        for a, b in zip(*results, strict=True):
            same(a, b)
        done = results[0][2] | results[0][3]
        if mode == "DISABLED" and done.any():
            options = {"reset_mask": done, "episode": np.arange(5)}
            same(*(env.reset(options=dict(options))[0] for env in envs))
        same(here.privileged(), there.privileged())
    same(here.describe(2), there.describe(2))
    for env in envs:
        env.close()


def test_client_options_reach_the_environment(server):
    here = make_vec("TMaze-v0", 2, length=7)
    there = make_vec(f"remote:{server.address}", 2, length=7)
    same(here.reset(seed=0)[0], there.reset(seed=0)[0])
    steps = 0
    while True:
        a, b = (env.step(np.zeros(2, int)) for env in (here, there))
        same(a[2], b[2])
        steps += 1
        if a[2].any() or a[3].any() or steps > 30:
            break
    there.close()
    with pytest.raises(UsageError, match="has no option 'lenght'"):
        make_vec(f"remote:{server.address}", 1, lenght=7)


def test_options_are_the_operators_unless_allowed():
    with env_server("TMaze-v0", {"length": 4}, port=0) as server:
        with pytest.raises(UsageError, match=r"takes no options from clients, got \['length'\]"):
            make_vec(f"remote:{server.address}", 1, length=7)
        make_vec(f"remote:{server.address}", 1).close()
        # How it is drawn is the client's choice; this one cannot be drawn.
        with pytest.raises(UsageError, match="expected render_mode None"):
            make_vec(f"remote:{server.address}", 1, render_mode="rgb_array")


def test_clients_that_vanish_or_talk_nonsense_free_their_rows():
    with env_server("TMaze-v0", port=0, rows=3, clients=2) as server:
        for last in ("vanish", "nonsense"):
            link = Link(server.address, "env")
            link.ask("make", "make", num_envs=3, autoreset_mode="NEXT_STEP")
            link.ask("reset", "reset", seed=0)
            if last == "vanish":
                # A reset instead of a goodbye: what a crash looks like.
                raw = link._socket.socket
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                raw.close()
            else:
                link._socket.send(b"\xc1")
                with pytest.raises(RemoteError, match="expected a msgpack map"):
                    link.receive("step")
            until = time.monotonic() + 5
            while (server.free, server.connected) != (3, 0):
                assert time.monotonic() < until
                time.sleep(0.01)
        env = make_vec(f"remote:{server.address}", 3)
        assert env.reset(seed=0)[0].shape[0] == 3
        env.close()


def test_errors_of_the_environment_arrive_and_the_client_goes_on(server):
    env = make_vec(f"remote:{server.address}", 2)
    with pytest.raises(RemoteError, match="expected reset"):
        env.step(np.zeros(2, int))
    env.reset(seed=0)
    for actions, word in [
        (np.full(2, 77), "expected actions in"),
        (np.zeros(3, int), "expected actions as an array of 2 rows"),
        (np.zeros(2), "integer"),
    ]:
        with pytest.raises(RemoteError, match=word):
            env.step(actions)
    with pytest.raises(RemoteError, match="unknown reset option 'maks'"):
        env.reset(options={"maks": 1})
    assert env.step(np.zeros(2, int))[1].shape == (2,)
    env.close()


def test_rows_and_clients_are_bounded_and_come_back(server):
    first = make_vec(f"remote:{server.address}", 8)
    with pytest.raises(UsageError, match="this server has 12 rows, 13 are wanted"):
        make_vec(f"remote:{server.address}", 13)
    second = make_vec(f"remote:{server.address}", 4)
    assert server.free == 0
    first.close()
    # The rows of the one that left are free for the next, however soon it comes.
    third = make_vec(f"remote:{server.address}", 8)
    links = [Link(server.address, "env")]
    with pytest.raises(RemoteError, match="all 3 places for clients are taken"):
        Link(server.address, "env", patience_s=0)
    for item in (second, third, *links):
        item.close()
    until = time.monotonic() + 5
    while (server.free, server.connected) != (12, 0):
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("request_", "fields", "word"),
    [
        ("step", {"actions": np.zeros(1, int)}, "expected 'make' before 'step'"),
        ("make", {"num_envs": 0, "autoreset_mode": "DISABLED"}, "num_envs >= 1"),
        ("make", {"num_envs": 1}, "'autoreset_mode' as str"),
        ("make", {"num_envs": 1, "autoreset_mode": "SOMETIMES"}, "expected autoreset_mode"),
        ("make", {"num_envs": 1, "autoreset_mode": "DISABLED", "options": {"num_envs": 9}}, "is no option"),
        ("fly", {}, "expected a request of"),
    ],
)
def test_requests_out_of_order_or_shape(server, request_, fields, word):
    link = Link(server.address, "env")
    for _ in range(2):
        with pytest.raises(RemoteError, match=word):
            link.ask(request_, request_, **fields)
    link.close()


def test_the_wrong_kind_of_server_is_named(server):
    with pytest.raises(RemoteError, match="expected a policy server at .* serves a env"):
        Link(server.address, "policy")


def test_one_row_view_plays_an_episode(server):
    import gymnasium

    env = gymnasium.make(find_spec(f"remote:{server.address}"))
    obs, _ = env.reset(seed=1, options={"episode": 3})
    here = make_vec("TMaze-v0", 1, length=4, autoreset_mode="DISABLED")
    same(here.reset(seed=1, options={"episode": np.array([3])})[0][0], obs)
    for _ in range(40):
        obs, reward, terminated, truncated, info = env.step(0)
        if terminated or truncated:
            break
    assert isinstance(reward, float) and (terminated or truncated)
    assert "success" in info
    env.close()


def test_ids_pass_through():
    assert portable_id("remote:ws://a:1") == "remote:ws://a:1"
    with pytest.raises(UsageError, match="expected an address behind 'remote:'"):
        find_spec("remote:")
    with pytest.raises(UsageError, match="cannot connect"):
        make_vec("remote:ws://127.0.0.1:9", 1)


def test_a_server_that_stops_is_one_line():
    with env_server("TMaze-v0", port=0) as server:
        env = make_vec(f"remote:{server.address}", 1)
        env.reset(seed=0)
    with pytest.raises(RemoteError, match="went away"):
        env.step(np.zeros(1, int))
    env.close()
