"""The decision policy: acceptance checks of DT-Mem, and actions that follow the return that is asked for."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.config import from_dict
from embodied_mem.demonstrations import Episode
from embodied_mem.errors import UsageError
from embodied_mem.policies.imitation.batches import BatchConfig, Batches
from embodied_mem.policies.vla.agent import VLAAgent
from embodied_mem.policies.vla.config import VLAConfig
from embodied_mem.policies.vla.policy import make_policy

S, A = 4, 2
STATE = spaces.Dict({"vector": spaces.Box(-np.inf, np.inf, (S,), np.float32)})
ACTIONS = spaces.Box(-1.0, 1.0, (A,), np.float32)
SMALL = {
    "policy": "decision",
    "perception": {"tokens": 1, "width": 4, "cognitive": 16, "hidden": 32, "layers": 1, "text": 4},
    "memory": "dt_mem",
    "memory_config": {"slots": 4, "slot_dim": 8, "out_dim": 16},
    "decision": {"bins": 9, "hidden": 32},
}


def build(**changes):
    torch.manual_seed(0)
    return make_policy(from_dict(VLAConfig, {**SMALL, **changes}), STATE, ACTIONS)


def shown(count=24, seed=0):
    """The cue of the first frame is to be told in the last: three of four episodes do so (success)."""
    g = np.random.default_rng(seed)
    episodes = []
    for k in range(count):
        length, cue, success = int(g.integers(3, 6)), 2 * (k % 2) - 1, k % 8 < 6
        state = np.zeros((length, S), np.float32)
        state[0, 0], state[:, 1], state[-1, 2] = cue, g.normal(size=length), 1
        actions = np.zeros((length, A), np.float32)
        actions[-1, 0] = 0.8 * cue * (1 if success else -1)
        actions[:, 1] = 0.5 * state[:, 1].clip(-1, 1)
        episodes.append(Episode("", state, {}, actions, seed=0, success=success))
    return episodes


def batches(mode="episode", rows=24, window=4, count=24):
    return Batches(shown(count), BatchConfig(mode, rows, window), 1, 0)


def train(policy, updates, parameters=None):
    made = batches(count=128)
    optimiser = torch.optim.Adam(parameters or policy.parameters(), 1e-2)
    losses = []
    for update in range(updates):
        loss, _ = policy.loss(made.batch(update), None, torch.Generator())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters or policy.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_rewards_come_from_the_episode_or_its_success():
    made = batches()
    batch = made.batch(0)
    last = made.lengths[batch.episode] - 1
    ends = (batch.time == torch.from_numpy(last)) & batch.valid
    success = torch.tensor([float(k % 8 < 6) for k in range(24)])[batch.episode]
    assert torch.equal(batch.rewards[batch.valid], (success * ends)[batch.valid])
    assert torch.equal(batch.returns[batch.valid], success[batch.valid])
    inner = batch.valid[:, 1:]
    assert torch.equal(batch.previous[:, 1:][inner], batch.chunks[:, :-1, 0][inner])
    paid = Episode("", np.zeros((3, S), np.float32), {}, np.zeros((3, A), np.float32), seed=0, success=True)
    paid = Episode(**{**paid.__dict__, "rewards": np.array([1, 2, 4], np.float32)})
    assert Batches([paid], BatchConfig("episode", 1), 1, 0).batch(0).returns[0].tolist() == [7, 6, 4]


def episode_of(length, seed=1):
    g = np.random.default_rng(seed)
    state, actions = g.normal(size=(length, S)), g.uniform(-1, 1, (length, A))
    return Episode("", state.astype(np.float32), {}, actions.astype(np.float32), seed=0, success=True)


@torch.no_grad()
def test_two_calls_with_the_state_equal_one():
    policy = build().double()
    made = Batches([episode_of(8)], BatchConfig("episode", 1), 1, 0).batch(0)
    made = made._replace(
        obs={"vector": made.obs["vector"].double()}, **{k: getattr(made, k).double() for k in ("chunks", "previous")}
    )
    made = made._replace(rewards=made.rewards.double(), returns=made.returns.double())
    whole = policy.frames(made, None)[0]
    cut = lambda part: made._replace(  # noqa: E731
        obs={"vector": made.obs["vector"][:, part]},
        **{k: getattr(made, k)[:, part] for k in made._fields if k != "obs"},
    )
    first, _, _, state = policy.frames(cut(slice(0, 5)), None)
    second = policy.frames(cut(slice(5, 8)), state)[0]
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-12)
    # an edit at t leaves what was before as it is
    edited = made._replace(obs={"vector": made.obs["vector"].clone()})
    edited.obs["vector"][:, 5] += 1
    found = policy.frames(edited, None)[0]
    assert torch.equal(found[:, :5], whole[:, :5]) and (found[:, 5] - whole[:, 5]).abs().max() > 1e-6


@torch.no_grad()
def test_acting_frame_by_frame_is_what_was_trained():
    """Step by step with its own actions, and as one row with these actions demonstrated."""
    policy = build()
    policy.fit(np.random.default_rng(0).normal(size=(50, S)), np.array([[-1, -1], [1, 1]]), np.array([0.0, 1.0]))
    agent, state = VLAAgent(policy), None
    states = episode_of(5).state
    actions, state = [], agent.initial_state(1, seed=0)
    for t in range(5):
        action, state, _ = agent.act({"vector": states[t : t + 1]}, state, np.array([t == 0]))
        actions.append(action[0])
    done = Episode("", states, {}, np.stack(actions), seed=0, success=True)
    batch = Batches([done], BatchConfig("episode", 1), 1, 0).batch(0)
    h = policy.frames(batch, None)[0]
    from embodied_mem.policies.vla import bins

    replayed = policy.actions.restore(bins.read(policy._choice(h)))[0]
    assert np.allclose(replayed.numpy(), np.stack(actions), atol=1e-5)
    assert set(agent.initial_state(2)["memory"]) == {"M", "previous_action"}


def tell(policy, target):
    """Share of episodes in which the cue is told rightly."""
    from dataclasses import replace

    policy.config = replace(policy.config, decision=replace(policy.config.decision, target=target))
    agent = VLAAgent(policy)
    right = []
    for item in shown(seed=5):
        state = agent.initial_state(1, seed=0)
        for t in range(len(item)):
            action, state, _ = agent.act({"vector": item.state[t : t + 1]}, state, np.array([t == 0]))
        right.append(np.sign(action[0, 0]) == item.state[0, 0])
    return float(np.mean(right))


@pytest.mark.parametrize("memory", ["dt_mem", "none"])
def test_the_return_that_is_asked_for_decides(memory):
    """From mixed data: asked for success it tells the cue, asked for failure less often; without memory neither."""
    policy = build(**({} if memory == "dt_mem" else {"memory": memory, "memory_config": {}}))
    made = batches(count=128)
    policy.fit(made.entries["vector"].numpy(), made.actions.numpy(), made.returns.numpy())
    losses = train(policy, 220 if memory == "dt_mem" else 60)
    assert losses[-1] < losses[0]
    well, badly = tell(policy, None), tell(policy, 0.0)
    if memory == "dt_mem":
        assert well > 0.85 and badly < well - 0.25
    else:
        assert 0.2 < well < 0.8


def test_adapting_moves_the_low_rank_weights_only():
    policy = build(memory_config={**SMALL["memory_config"], "lora_rank": 2})
    trained = policy.adapt()
    before = {key: value.clone() for key, value in policy.state_dict().items()}
    losses = train(policy, 8, trained)
    moved = {key for key, value in policy.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {f"memory.memory.{part}.{name}" for part in ("project", "out") for name in "AB"}
    assert losses[-1] < losses[0]
    with pytest.raises(UsageError, match="expected memory 'dt_mem'"):
        build(memory="lstm", memory_config={}).adapt()
    with pytest.raises(UsageError, match="lora_rank"):
        build().adapt()


@pytest.mark.parametrize("mode", ["group", "stream"])
def test_other_batches_work_too(mode):
    policy = build()
    made, state = batches(mode, rows=3, window=4), None
    for update in range(3):
        loss, state = policy.loss(made.batch(update), state if mode == "stream" else None, torch.Generator())
        assert torch.isfinite(loss)
        state = {key: value.detach() for key, value in state.items()}
