"""Every client has a memory of its own: what others do changes no bit of its actions."""

import threading

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.policies.serve.batch import Request, RowBatcher
from embodied_mem.wire.client import Link

from .conftest import ACTIONS, OBSERVATIONS, episodes, play, policy, serving


def local(agent, observations):
    played = []
    for episode in observations:
        state = agent.initial_state(1)
        for step, vector in enumerate(episode):
            action, state, _ = agent.act({"vector": vector[None]}, state, np.array([step == 0]))
            played.append(action[0])
    return np.stack(played).reshape(*observations.shape[:2], -1)


def test_a_client_gets_what_the_policy_gives(server):
    observations = episodes(0)
    assert np.allclose(play(server.address, observations), local(policy(), observations), atol=1e-6)


def test_memory_matters_here():
    one, two = episodes(1, 1), episodes(1, 1)
    two[0, 0] += 1
    last = [local(policy(), item)[0, -1] for item in (one, two)]
    assert not np.allclose(*last, atol=1e-4)


@pytest.mark.parametrize("memory", ["gru", "gated_delta"])
def test_interleaved_clients_get_the_bits_of_a_lone_one(memory):
    a, b = episodes(2, 2, 6), episodes(3, 3, 4)
    with serving(policy(memory), rows=4) as server:
        alone = [play(server.address, a), play(server.address, b)]
        links = [Link(server.address, "policy") for _ in range(2)]
        steps = [(0, x, t == 0) for episode in a for t, x in enumerate(episode)]
        steps += [(1, x, t == 0) for episode in b for t, x in enumerate(episode)]
        order = np.random.default_rng(0).permutation([who for who, _, _ in steps])
        queues = [[step for step in steps if step[0] == who] for who in (0, 1)]
        got = [[], []]
        for who in order:
            _, vector, opens = queues[who].pop(0)
            got[who].append(links[who].ask("act", "action", obs={"vector": vector}, reset=opens)["action"])
        for link in links:
            link.close()
    for who in (0, 1):
        assert np.array_equal(np.stack(got[who]).reshape(alone[who].shape), alone[who])


def test_clients_at_the_same_time_get_the_bits_of_a_lone_one():
    work = [episodes(10 + who, 4, 8) for who in range(6)]
    with serving(rows=8) as server:
        alone = [play(server.address, item) for item in work]
        got = [None] * len(work)

        def run(who):
            got[who] = play(server.address, work[who])

        threads = [threading.Thread(target=run, args=(who,)) for who in range(len(work))]
        before = server.batcher.forwards
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        forwards = server.batcher.forwards - before
    assert all(np.array_equal(a, b) for a, b in zip(alone, got, strict=True))
    # Clients that wait share a forward.
    assert forwards < sum(item.shape[0] * item.shape[1] for item in work)


def test_a_row_is_fresh_for_the_next_client():
    observations = episodes(4, 1)
    with serving(rows=1) as server:
        first = play(server.address, observations)
        link = Link(server.address, "policy")
        # No reset is asked for: a new connection opens an episode by itself.
        answers = [link.ask("act", "action", obs={"vector": x})["action"] for x in observations[0]]
        link.close()
    assert np.array_equal(np.stack(answers), first[0])


def test_reset_message_opens_an_episode(server):
    observations = episodes(5, 1)
    link = Link(server.address, "policy")
    runs = []
    for _ in range(2):
        link.ask("reset", "ready")
        runs.append([link.ask("act", "action", obs={"vector": x})["action"] for x in observations[0]])
    carried = [link.ask("act", "action", obs={"vector": x})["action"] for x in observations[0]]
    link.close()
    assert np.array_equal(runs[0], runs[1])
    assert not np.allclose(carried[0], runs[0][0], atol=1e-6)


def test_draws_belong_to_the_row():
    actions = spaces.Discrete(5)
    observations = episodes(6, 4, 8)
    with serving(policy(actions=actions, deterministic=False), actions, rows=3) as server:
        alone = play(server.address, observations, seed=7)
        other = play(server.address, observations, seed=8)
        with_others = []
        threads = [threading.Thread(target=play, args=(server.address, episodes(9, 4, 8), 1)) for _ in range(2)]
        for thread in threads:
            thread.start()
        with_others = play(server.address, observations, seed=7)
        for thread in threads:
            thread.join()
    assert np.array_equal(alone, with_others) and not np.array_equal(alone, other)


@pytest.mark.parametrize("execute", [1, 2])
def test_noise_of_a_diffusion_policy_belongs_to_the_row(execute):
    """Plans are made from noise: that of a row does not depend on who else asks, and a seed brings it back."""
    from embodied_mem.policies.vla.agent import VLAAgent
    from embodied_mem.policies.vla.config import ExpertConfig, PerceptionConfig, ScheduleConfig, VLAConfig
    from embodied_mem.policies.vla.policy import make_policy

    told = spaces.Dict({**OBSERVATIONS.spaces, "instruction": spaces.Box(0, 255, (8,), np.uint8)})
    expert = ExpertConfig(chunk=2, execute=execute, width=16, layers=1, schedule=ScheduleConfig(steps=2))
    torch.manual_seed(0)
    module = make_policy(VLAConfig(perception=PerceptionConfig(width=8, hidden=16), expert=expert), told, ACTIONS)
    words = np.arange(8, dtype=np.uint8)
    order = [item.name for item in RowBatcher(VLAAgent(module), told, ACTIONS, 1).schema.leaves]

    def request(row, t, seed):
        arrays = {"vector": np.full(3, t, np.float32), "instruction": words}
        return Request(row, [arrays[name] for name in order], t == 0, seed if t == 0 else None)

    def actions(others, seed):
        batcher, found = RowBatcher(VLAAgent(module), told, ACTIONS, 5), []
        for t in range(6):
            if others:
                batcher.act([request(row, max(t - row, 0), row) for row in (0, 3)])
            also = [request(row, t, 50) for row in (1, 4)] if others and t % 2 else []
            found.append(batcher.act([request(2, t, seed), *also])[0])
        return np.stack(found)

    alone = actions(False, 7)
    assert np.array_equal(alone, actions(True, 7)) and not np.array_equal(alone, actions(False, 8))


def test_rows_that_wait_alone_are_close_to_exact():
    observations = episodes(7)
    with serving(rows=4, exact=False) as server:
        got = play(server.address, observations)
    assert np.allclose(got, local(policy(), observations), atol=1e-5)


@pytest.mark.parametrize("exact", [True, False])
def test_one_bad_observation_fails_alone(exact):
    class Picky:
        needs_privileged = False

        def initial_state(self, n, seed=None):
            return {"sum": np.zeros((n, 3), np.float32)}

        def act(self, obs, state, reset, privileged=None):
            if (obs["vector"] > 100).any():
                raise ValueError("too large")
            total = np.where(reset[:, None], 0, state["sum"]) + obs["vector"]
            return total[:, :2], {"sum": total}, {}

    batcher = RowBatcher(Picky(), OBSERVATIONS, ACTIONS, 3, exact=exact)
    one, bad = np.ones(3, np.float32), np.full(3, 1000, np.float32)
    batcher.act([Request(row, [one], True) for row in range(3)])
    answers = batcher.act([Request(0, [one], False), Request(1, [bad], False), Request(2, [one], False)])
    assert answers[0].tolist() == answers[2].tolist() == [2, 2] and isinstance(answers[1], ValueError)
    again = batcher.act([Request(1, [one], False), Request(0, [one], False)])
    assert [item.tolist() for item in again] == [[2, 2], [3, 3]]


def test_agents_that_cannot_be_served_are_refused():
    class Hidden:
        needs_privileged = True

        def initial_state(self, n, seed=None):
            return {}

        def act(self, obs, state, reset, privileged=None):
            raise AssertionError

    with pytest.raises(UsageError, match="hidden state"):
        RowBatcher(Hidden(), OBSERVATIONS, ACTIONS, 2)

    class Whole(Hidden):
        needs_privileged = False

        def initial_state(self, n, seed=None):
            return {"map": torch.zeros(7)}

    with pytest.raises(UsageError, match="kept apart"):
        RowBatcher(Whole(), OBSERVATIONS, ACTIONS, 2)
    with pytest.raises(UsageError, match="rows >= 1"):
        RowBatcher(policy(), OBSERVATIONS, ACTIONS, 0)
