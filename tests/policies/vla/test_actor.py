"""The actor: a policy with a spread and a value, whose step and sequence agree, and what its gradients reach."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem.agent import save_agent
from embodied_mem.config import override
from embodied_mem.errors import UsageError
from embodied_mem.policies.vla.actor import make_actor
from embodied_mem.policies.vla.agent import VLAAgent
from embodied_mem.policies.vla.config import ActorConfig, ExpertConfig, PerceptionConfig, ScheduleConfig, VLAConfig

SEEN = spaces.Dict({"vector": spaces.Box(-np.inf, np.inf, (5,), np.float32)})
ACTIONS = spaces.Box(-1.0, 1.0, (3,), np.float32)
CONFIG = VLAConfig(
    perception=PerceptionConfig(tokens=2, width=8, cognitive=16, hidden=32, layers=1, text=4),
    memory_config={"slots": 3},
    expert=ExpertConfig(
        chunk=2,
        execute=1,
        width=16,
        layers=1,
        heads=2,
        guidance=1.0,
        start="zero",
        binary=(2,),
        schedule=ScheduleConfig(train_steps=20, steps=5, predict="sample"),
    ),
)


def actor(changes=None, **options):
    torch.manual_seed(0)
    made = make_actor(override(CONFIG, changes or {}), ActorConfig(**options), SEEN, ACTIONS)
    # layers that start at zero would hide what depends on what
    for parameter in made.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    made.policy.actions.fit(np.array([[-0.5, 0.2, -1.0], [0.5, 0.2, 1.0]], np.float32))
    return made


def frames(rows=3, steps=7):
    g = torch.Generator().manual_seed(1)
    resets = torch.zeros(rows, steps, dtype=torch.bool)
    resets[:, 0] = resets[1, 3] = True
    return {"vector": torch.randn(rows, steps, 5, generator=g)}, resets


@pytest.mark.parametrize("memory", ["perceptual_cognitive_bank", "lstm", "none"])
@torch.no_grad()
def test_steps_and_sequence_agree(memory):
    made = actor({"memory": memory, "memory_config": {"slots": 3} if "bank" in memory else {}})
    obs, resets = frames()
    inputs, values, features, last = made.sequence(obs, made.initial_state(3), resets)
    assert inputs.shape == (3, 7, 6) and values.shape == (3, 7) and features.shape == (3, 7, 24)
    state = made.initial_state(3)
    for t in range(7):
        found, value, state = made.step({"vector": obs["vector"][:, t]}, state, resets[:, t])
        assert torch.allclose(found, inputs[:, t], atol=1e-5) and torch.allclose(value, values[:, t], atol=1e-5)
    assert all(torch.allclose(state[key].float(), last[key].float(), atol=1e-5) for key in last)
    assert torch.allclose(values, made.head.value(features))


@pytest.mark.parametrize(("through", "value_gradient"), [(1, False), (5, False), (5, True)])
def test_gradients_reach_the_policy_and_the_value_stays_with_its_head(through, value_gradient):
    made = actor(through=through, value_gradient=value_gradient)
    obs, resets = frames()
    inputs, values, _, _ = made.sequence(obs, None, resets)
    values.square().mean().backward()
    policy = made.policy
    assert made.head.layers[0].weight.grad.any()
    assert any(item.grad is not None and item.grad.any() for item in policy.parameters()) == value_gradient
    made.zero_grad()
    inputs, _, _, _ = made.sequence(obs, None, resets)
    inputs[..., :2].square().mean().backward()
    for part in (policy.perception, policy.memory, policy.expert):
        assert any(item.grad is not None and bool(item.grad.any()) for item in part.parameters())


def test_earlier_denoising_steps_are_played_but_not_learned():
    grads, means = [], []
    for through in (1, 2, 5):
        made = actor(through=through)
        obs, resets = frames()
        inputs = made.sequence(obs, None, resets)[0]
        inputs[..., 0].sum().backward()
        means.append(inputs.detach())
        grads.append(made.policy.expert.embed.weight.grad.clone())
    assert torch.equal(means[0], means[1]) and torch.equal(means[0], means[2])
    assert not torch.allclose(grads[0], grads[2]) and not torch.allclose(grads[0], grads[1])


def test_the_mean_is_what_the_exported_policy_does(tmp_path):
    made = actor()
    obs, resets = frames()
    agent, state, held = VLAAgent(made.policy), made.initial_state(3), None
    for t in range(7):
        seen = {"vector": obs["vector"][:, t]}
        inputs, _, state = made.step(seen, state, resets[:, t])
        held = agent.initial_state(3, seed=t) if held is None else held
        played, held, _ = agent.act({"vector": seen["vector"].numpy()}, held, resets[:, t].numpy())
        assert np.allclose(played, made.to_env(inputs[:, :3].detach()), atol=1e-6)
    assert np.isclose(played[:, 1], 0.2).all() and np.isin(played[:, 2], (-1.0, 1.0)).all()


def test_drawn_actions_snap_and_stay_fixed_where_the_policy_does():
    made = actor(std=0.5)
    wild = torch.tensor([[0.3, 5.0, 0.01], [9.0, -5.0, -0.01]])
    found = made.to_env(wild)
    # the range of the first dimension is that of the 1 % and 99 % quantiles
    assert np.allclose(found, [[0.3 * 0.49, 0.2, 1.0], [1.0, 0.2, -1.0]], atol=1e-6)


def test_it_starts_from_a_bundle_with_the_same_settings(tmp_path):
    trained = actor({"expert.start": "zero"})
    drawn = override(CONFIG, {"expert.start": "drawn", "expert.guidance": 1.5, "expert.schedule.steps": 10})
    trained.policy.config = drawn
    save_agent(tmp_path / "agent", trained.policy)
    made = make_actor(CONFIG, ActorConfig(), SEEN, ACTIONS, tmp_path)
    for key, value in trained.policy.state_dict().items():
        assert torch.equal(made.policy.state_dict()[key], value), key
    for changes, words in (
        ({"memory_config.slots": 4}, "agent.memory_config.slots=3, not 4"),
        ({"expert.schedule.predict": "epsilon"}, "agent.expert.schedule.predict='sample', not 'epsilon'"),
        ({"perception.width": 16}, "agent.perception.width=8"),
    ):
        with pytest.raises(UsageError, match=words):
            make_actor(override(CONFIG, changes), ActorConfig(), SEEN, ACTIONS, tmp_path)
    with pytest.raises(UsageError, match="expected a trained agent"):
        make_actor(CONFIG, ActorConfig(), SEEN, ACTIONS, tmp_path / "nothing")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"expert.start": "drawn"}, "start 'zero'"),
        ({"expert.execute": 2}, "execute 1"),
        ({"policy": "decision"}, "agent.policy 'diffusion'"),
    ],
)
def test_what_cannot_be_an_actor_is_refused(changes, words):
    with pytest.raises(UsageError, match=words):
        make_actor(override(CONFIG, changes), ActorConfig(), SEEN, ACTIONS)
    with pytest.raises(UsageError, match="actor.std > 0"):
        ActorConfig(std=0.0)
