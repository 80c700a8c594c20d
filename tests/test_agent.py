import json

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.agent import Agent, AgentConfig, MemoryAgent, PolicyAgent, load_agent, load_weights, save_agent
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.perception.street_words import tokenize
from embodied_mem.spaces import as_dict_obs, encode_text

OBS = spaces.Dict({"vector": spaces.Box(-1.0, 1.0, (6,), np.float32), "rgb": spaces.Box(0, 255, (8, 8, 3), np.uint8)})
ACTIONS = spaces.Discrete(3, start=1)


def build(memory="gru", seed=0, space=OBS, actions=ACTIONS, **extra):
    torch.manual_seed(seed)
    config = {"memory": memory, "memory_config": {"out_dim": 16}, "encoder": {"out_dim": 12}, **extra}
    return MemoryAgent.build(from_dict(AgentConfig, config), space, actions)


def observe(*lead, seed=0, space=OBS):
    space.seed(seed)
    flat = [space.sample() for _ in range(int(np.prod(lead)))]
    return {key: np.stack([obs[key] for obs in flat]).reshape(*lead, *space[key].shape) for key in space}


def tensors(obs):
    return {key: torch.from_numpy(value) for key, value in obs.items()}


@pytest.mark.parametrize("skip", [False, True])
def test_step_loop_equals_sequence_with_resets(skip):
    agent = build(skip=skip)
    torch.nn.init.normal_(agent.head.out.weight)
    obs = tensors(observe(4, 9))
    resets = torch.rand(4, 9, generator=torch.Generator().manual_seed(2)) < 0.3
    inputs, values, embedding, last = agent.sequence(obs, agent.initial_state(4), resets)
    state = agent.initial_state(4)
    for t in range(9):
        here, value, state = agent.step({key: x[:, t] for key, x in obs.items()}, state, resets[:, t])
        torch.testing.assert_close(here, inputs[:, t])
        torch.testing.assert_close(value, values[:, t])
    torch.testing.assert_close(state, last)
    torch.testing.assert_close(agent.head.value(embedding), values)


def test_policy_agent_is_an_agent_and_acts_inside_the_space():
    policy = PolicyAgent(build(), deterministic=False)
    assert isinstance(policy, Agent) and policy.needs_privileged is False
    state = policy.initial_state(5, seed=1)
    actions, state, info = policy.act(observe(5), state, np.ones(5, bool))
    assert actions.shape == (5,) and all(ACTIONS.contains(action) for action in actions)
    assert info == {} and len(next(iter(state.values()))) == 5


def test_a_seed_fixes_the_draws():
    policy = PolicyAgent(build(), deterministic=False)

    def run(seed):
        state, reset, out = policy.initial_state(8, seed=seed), np.ones(8, bool), []
        for t in range(6):
            action, state, _ = policy.act(observe(8, seed=t), state, reset)
            out.append(action)
            reset = np.zeros(8, bool)
        return np.stack(out)

    assert (run(3) == run(3)).all() and (run(3) != run(4)).any()


def test_reset_rows_forget():
    agent = build()
    torch.nn.init.normal_(agent.head.out.weight)
    policy = PolicyAgent(agent)
    used = policy.act(observe(2), policy.initial_state(2), np.ones(2, bool))[1]
    mixed = policy.act(observe(2, seed=1), used, np.array([True, False]))[1]
    fresh = policy.act(observe(2, seed=1), policy.initial_state(2), np.ones(2, bool))[1]
    key = next(key for key in fresh if fresh[key].is_floating_point())
    assert torch.equal(mixed[key][0], fresh[key][0]) and not torch.allclose(mixed[key][1], fresh[key][1])


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (spaces.Discrete(4), spaces.MultiDiscrete([2, 3])),
        (spaces.Box(-1, 1, (3,), np.float32), spaces.Box(-2, 2, (2,), np.float32)),
        (OBS, ACTIONS),
    ],
)
def test_bundle_round_trip(tmp_path, space, actions):
    agent = build(space=space, actions=actions)
    save_agent(tmp_path / "run" / "agent", agent, deterministic=False, about={"preset": "x"})
    loaded = load_agent(tmp_path / "run")
    assert loaded.deterministic is False and load_agent(tmp_path / "run", deterministic=True).deterministic
    assert loaded.module.config == agent.config
    assert loaded.module.observation_space == space and loaded.module.action_space == actions
    for key, value in agent.state_dict().items():
        assert torch.equal(value, loaded.module.state_dict()[key])
    batch = [space.sample() for _ in range(3)]
    obs = {key: np.stack([o[key] for o in batch]) for key in space} if space is OBS else np.stack(batch)
    named = tensors(as_dict_obs(space, obs))
    with torch.no_grad():
        expected = agent.step(named, agent.initial_state(3))[0]
        torch.testing.assert_close(loaded.module.step(named, loaded.initial_state(3))[0], expected)
    assert sorted(path.name for path in (tmp_path / "run" / "agent").iterdir()) == ["agent.json", "weights.safetensors"]


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "weights.safetensors").unlink(), "cannot read the weights"),
        (lambda d: (d / "weights.safetensors").write_bytes(b"short"), "corrupted"),
        (lambda d: (d / "agent.json").write_text("{"), "not valid JSON"),
        (lambda d: (d / "agent.json").write_text("[]"), "no agent description"),
        (lambda d: (d / "agent.json").unlink(), "expected a trained agent"),
        (lambda d: edit(d / "agent.json", lambda v: v.update(format=99)), "bundle format 99"),
        (lambda d: edit(d / "agent.json", lambda v: v["config"].update(memory="gruu")), "did you mean 'gru'"),
        (lambda d: edit(d / "agent.json", lambda v: v["config"].update(memory="none")), "does not fit"),
        (lambda d: edit(d / "agent.json", lambda v: v["action_space"].update(type="Cube")), "expected a space of type"),
        (lambda d: edit(d / "agent.json", lambda v: v["action_space"].pop("n")), "JSON form of a space"),
    ],
)
def test_damaged_bundles_are_explained(tmp_path, damage, message):
    save_agent(tmp_path, build())
    damage(tmp_path)
    with pytest.raises(UsageError, match=message):
        load_agent(tmp_path)


def test_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    import os

    save_agent(tmp_path / "agent", build(seed=0))
    before = load_agent(tmp_path).module.state_dict()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_agent(tmp_path / "agent", build(seed=1))
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["agent"]
    after = load_agent(tmp_path).module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_wrong_input_is_explained():
    policy = PolicyAgent(build())
    with pytest.raises(UsageError, match=r"reset of shape \(2,\)"):
        policy.act(observe(2), policy.initial_state(2), np.ones(3, bool))
    with pytest.raises(UsageError, match="did you mean 'gru'"):
        build(memory="gruu")
    with pytest.raises(UsageError, match="in_dim"):
        build(memory_config={"in_dim": 5})


def test_inspect_forgets_reset_rows_first():
    agent = build()
    agent.memory.inspect = lambda x, state: {"seen": next(iter(state.values()))}
    policy = PolicyAgent(agent, record=True)
    state = policy.initial_state(2)
    used = {key: value + 1 for key, value in state.items()}
    _, _, info = policy.act(observe(2), used, np.array([True, False]))
    assert not info["inspect"]["seen"][0].any() and (info["inspect"]["seen"][1] == 1).all()


TEXT = spaces.Dict({**OBS.spaces, "instruction": spaces.Box(0, 255, (24,), np.uint8)})
READER = {"width": 8, "embedding": 4, "heads": 2, "hops": 1, "words": 12}


def told(*lead, seed=0):
    """Observations with a text that changes where an episode begins (step 4)."""
    obs = observe(*lead, seed=seed)
    words = [encode_text(text, 24) for text in ("turn left at the light", "go straight, then stop")]
    texts = np.stack([np.stack([words[(row + (t >= 4)) % 2] for t in range(lead[1])]) for row in range(lead[0])])
    return {**obs, "instruction": texts}


def test_an_agent_with_a_reader_steps_as_it_runs_sequences_and_round_trips(tmp_path):
    agent = build(space=TEXT, reader=READER, skip=True)
    torch.nn.init.normal_(agent.head.out.weight)
    obs, resets = tensors(told(3, 7)), torch.zeros(3, 7, dtype=torch.bool)
    resets[:, 4] = True
    inputs, values, embedding, _ = agent.sequence(obs, agent.initial_state(3), resets)
    state = agent.initial_state(3)
    with torch.no_grad():
        for t in range(7):
            here, value, state = agent.step({key: x[:, t] for key, x in obs.items()}, state, resets[:, t])
            torch.testing.assert_close(here, inputs[:, t])
            torch.testing.assert_close(value, values[:, t])
    torch.testing.assert_close(agent.head.value(embedding), values)
    whole = {key: x[:, :4] for key, x in obs.items()}
    tokens = tokenize(whole["instruction"][:, 0], 12)
    torch.testing.assert_close(agent.follow(whole, tokens)[0], inputs[:, :4])
    save_agent(tmp_path / "agent", agent)
    again = load_agent(tmp_path / "agent").module
    torch.testing.assert_close(again.sequence(obs, None, resets)[0], inputs)
    other = build(space=TEXT, reader=READER, skip=True, seed=1)
    load_weights(other, tmp_path)
    torch.testing.assert_close(other.sequence(obs, None, resets)[0], inputs)
    load_weights(other, tmp_path, fresh_value=True)
    told_again, fresh, _, _ = other.sequence(obs, None, resets)
    torch.testing.assert_close(told_again, inputs)
    assert (fresh == 0).all() and values.abs().min() > 0, "imitation leaves values as they were drawn"
    with pytest.raises(UsageError, match="same agent"):
        load_weights(build(space=TEXT, reader={**READER, "width": 16}, skip=True), tmp_path)


def test_a_reader_without_text_is_explained():
    with pytest.raises(UsageError, match="expected text"):
        build(reader=READER)
    with pytest.raises(UsageError, match="with a reader"):
        build().follow(tensors(observe(2, 3)), torch.zeros(2, 4, dtype=torch.int64))
