import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.distributions import Categorical, Independent, Normal

from embodied_mem import heads
from embodied_mem.errors import UsageError
from embodied_mem.heads import ActionHead, HeadConfig

DISCRETE = spaces.Discrete(4, start=2)
MULTI = spaces.MultiDiscrete([2, 3], start=[1, 0])
BOX = spaces.Box(np.array([-2.0, -np.inf], np.float32), np.array([6.0, np.inf], np.float32))
SPACES = [DISCRETE, MULTI, BOX]


def inputs(space, *lead):
    return torch.randn(*lead, heads.inputs_size(space), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("space", SPACES)
def test_log_prob_and_entropy_equal_torch_distributions(space):
    x = inputs(space, 5, 3)
    actions = heads.sample(space, x.flatten(0, 1)).unflatten(0, (5, 3))
    if space is BOX:
        reference = Independent(Normal(x[..., :2], x[..., 2:].exp()), 1)
        expected, entropy = reference.log_prob(actions), reference.entropy()
    elif space is DISCRETE:
        reference = Categorical(logits=x)
        expected, entropy = reference.log_prob(actions), reference.entropy()
    else:
        parts = [Categorical(logits=x[..., :2]), Categorical(logits=x[..., 2:])]
        expected = sum(part.log_prob(actions[..., i]) for i, part in enumerate(parts))
        entropy = sum(part.entropy() for part in parts)
    torch.testing.assert_close(heads.log_prob(space, x, actions), expected)
    torch.testing.assert_close(heads.entropy(space, x), entropy)
    both = heads.log_prob_entropy(space, x, actions)
    torch.testing.assert_close(both, (expected, entropy))


def test_samples_follow_the_distribution():
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0]]).expand(20000, 4)
    drawn = heads.sample(DISCRETE, logits, torch.Generator().manual_seed(0))
    frequency = torch.bincount(drawn, minlength=4) / len(drawn)
    torch.testing.assert_close(frequency, logits[0].softmax(-1), atol=0.012, rtol=0)
    x = torch.tensor([[1.0, -1.0, 0.0, -1.0]]).expand(20000, 4)
    box = heads.sample(BOX, x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(box.mean(0), x[0, :2], atol=0.03, rtol=0)
    torch.testing.assert_close(box.std(0), x[0, 2:].exp(), atol=0.03, rtol=0)


def test_same_generator_same_draws():
    x = inputs(MULTI, 7)
    draws = [heads.sample(MULTI, x, torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(*draws)


@pytest.mark.parametrize("space", SPACES)
def test_actions_reach_the_environment_inside_its_space(space):
    x = inputs(space, 16) * 5
    for chosen in (heads.sample(space, x), heads.mode(space, x)):
        actions = heads.to_env(space, chosen.numpy())
        assert all(space.contains(action if space is not DISCRETE else np.int64(action)) for action in actions)


def test_box_actions_span_bounds():
    actions = np.array([[-1.0, 7.0], [1.0, -7.0], [0.0, 0.5], [9.0, 0.0]], np.float32)
    np.testing.assert_allclose(heads.to_env(BOX, actions), [[-2, 7], [6, -7], [2, 0.5], [6, 0]])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("hidden", [(), (16,)])
def test_value_alone_equals_value_of_both(space, hidden):
    head = ActionHead(8, space, HeadConfig(hidden=hidden, log_std=-0.5))
    embedding = torch.randn(3, 4, 8)
    dist_inputs, value = head(embedding)
    assert dist_inputs.shape == (3, 4, heads.inputs_size(space)) and value.shape == (3, 4)
    torch.testing.assert_close(head.value(embedding), value)


def test_first_policy_is_nearly_uniform_and_first_spread_is_as_configured():
    torch.manual_seed(0)
    embedding = torch.randn(256, 64)
    logits, value = ActionHead(64, spaces.Discrete(5), HeadConfig())(embedding)
    assert (logits.softmax(-1) - 0.2).abs().max() < 0.02
    assert 0.3 < value.std() < 3.0
    dist_inputs, _ = ActionHead(64, BOX, HeadConfig(log_std=-0.5))(embedding)
    assert (dist_inputs[:, 2:] == -0.5).all()


@pytest.mark.parametrize("space", [spaces.MultiBinary(3), spaces.Box(0, 5, (2,), np.int32)])
def test_other_spaces_are_refused(space):
    with pytest.raises(UsageError, match="expected a Discrete"):
        ActionHead(8, space, HeadConfig())
