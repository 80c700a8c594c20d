"""A served policy plays an evaluation exactly as the policy itself does."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.agent import AgentConfig, MemoryAgent, PolicyAgent, load_agent, save_agent
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.suite import Suite, Task
from embodied_mem.policies.remote.agent import RemoteAgent
from embodied_mem.policies.serve.server import PolicyServer
from embodied_mem.wire.client import RemoteError

pytest.importorskip("websockets")

SUITE = Suite("remote-tests", "t-maze", (Task("TMaze-v0", "probe", kwargs={"length": 5}),), episodes=12, num_envs=4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    env = make_vec("TMaze-v0", 1, length=5)
    torch.manual_seed(0)
    module = MemoryAgent.build(AgentConfig(), env.single_observation_space, env.single_action_space)
    with torch.no_grad():
        module.head.out.weight.normal_()
    return save_agent(tmp_path_factory.mktemp("agent") / "agent", module, about={"env": "TMaze-v0"})


@pytest.fixture(scope="module")
def server(bundle):
    agent = load_agent(bundle)
    spaces_ = agent.module.observation_space, agent.module.action_space
    with PolicyServer(agent, *spaces_, rows=4, port=0, about={"env": "TMaze-v0"}) as running:
        yield running


def outcome(result):
    return result["metrics"], result["episodes"], result["env_steps"]


def test_evaluation_of_a_served_policy_equals_that_of_the_bundle(bundle, server):
    remote = evaluate(f"remote:{server.address}", SUITE, controls=["wiped:3"])
    assert outcome(remote) == outcome(evaluate(bundle, SUITE))
    assert remote["controls"]["wiped:3"] is None
    assert any("no local memory" in note for note in remote["notes"])
    # A second evaluation finds every row free again.
    assert outcome(evaluate(f"remote:{server.address}", SUITE)) == outcome(remote)


def test_more_rows_than_are_served_is_one_line(server):
    with pytest.raises(UsageError, match="serves 4 rows, 6 are wanted; use --num-envs"):
        evaluate(f"remote:{server.address}", SUITE, num_envs=6)


def test_a_policy_that_does_not_fit_says_what_differs(server):
    env = make_vec("TMaze-v0", 1, length=5)
    shown, taken = env.single_observation_space, env.single_action_space
    with pytest.raises(UsageError, match="does not fit the environment: it acts in"):
        RemoteAgent(server.address, shown, spaces.Discrete(99))
    with pytest.raises(UsageError, match="it reads vector; the task shows rgb"):
        RemoteAgent(server.address, spaces.Dict({"rgb": spaces.Box(0, 255, (2, 2, 3), np.uint8)}), taken)


@pytest.mark.parametrize(
    ("address", "word"),
    [
        ("ws://127.0.0.1:9", "cannot connect"),
        ("127.0.0.1:9", "expected an address like ws://"),
        ("http://x", "expected an address like ws://"),
    ],
)
def test_bad_addresses_are_one_line(address, word):
    with pytest.raises(UsageError, match=word):
        evaluate(f"remote:{address}", SUITE)
    with pytest.raises(UsageError, match="needs an argument: remote:ws://HOST:PORT"):
        evaluate("remote", SUITE)


def test_a_server_that_dies_in_the_middle_is_one_line(bundle):
    agent = load_agent(bundle)
    observations, actions = agent.module.observation_space, agent.module.action_space
    with PolicyServer(agent, observations, actions, rows=2, port=0) as server:
        remote = RemoteAgent(server.address, observations, actions)
        state = remote.initial_state(2)
        obs = np.zeros((2, *observations.shape), np.float32)
        action, state, _ = remote.act(obs, state, np.ones(2, bool))
        assert action.shape == (2,) and action.dtype == actions.dtype
    with pytest.raises(RemoteError, match="went away"):
        remote.act(obs, state, np.zeros(2, bool))
    with pytest.raises(UsageError, match="expected 0 rows"):
        remote.act(obs, state, np.zeros(2, bool))


def test_stochastic_rows_draw_by_seed(bundle):
    stochastic = PolicyAgent(load_agent(bundle).module, deterministic=False)
    observations, actions = stochastic.module.observation_space, stochastic.module.action_space
    obs = np.ones((3, *observations.shape), np.float32)
    with PolicyServer(stochastic, observations, actions, rows=3, port=0) as server:
        remote = RemoteAgent(server.address, observations, actions)
        runs = []
        for seed in (4, 4, 5):
            state, opens, played = remote.initial_state(3, seed), np.ones(3, bool), []
            for _ in range(12):
                played.append(remote.act(obs, state, opens)[0])
                opens = np.zeros(3, bool)
            runs.append(np.stack(played, 1))
        remote.close()
    assert np.array_equal(runs[0], runs[1]) and not np.array_equal(runs[0], runs[2])
    # Row 1 of seed 4 is row 0 of seed 5: same draws, same observations.
    assert np.array_equal(runs[0][1], runs[2][0])
