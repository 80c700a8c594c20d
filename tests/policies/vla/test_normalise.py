"""Actions to [-1, 1] by quantiles and back."""

import numpy as np
import torch

from embodied_mem.policies.vla.normalise import ActionNormaliser


def fitted(binary=()):
    made = ActionNormaliser(4, binary)
    g = np.random.default_rng(0)
    actions = g.uniform(-0.3, 0.7, (5000, 4)).astype(np.float32)
    actions[0, 0] = 100.0
    actions[:, 2] = 0.25
    actions[:, 3] = g.integers(0, 2, 5000)
    made.fit(actions)
    return made, torch.from_numpy(actions)


def test_the_range_is_that_of_the_quantiles():
    made, actions = fitted()
    x = made(actions)
    assert x.abs().max() == 1.0 and 0.01 < (x[:, 0].abs() == 1.0).float().mean() < 0.03
    inside = x[:, 0].abs() < 1
    assert torch.allclose(made.restore(x)[inside, 0], actions[inside, 0], atol=1e-6)


def test_an_action_that_never_changes_is_0_and_comes_back():
    made, actions = fitted()
    x = made(actions)
    assert not x[:, 2].any()
    assert torch.allclose(made.restore(x + 0.4)[:, 2], torch.tensor(0.25))


def test_grippers_go_to_the_nearer_end():
    made, _ = fitted((3,))
    x = torch.tensor([[0.0, 0.0, 0.0, -0.2], [0.0, 0.0, 0.0, 0.01]])
    assert made.restore(x)[:, 3].tolist() == [0.0, 1.0]


def test_ranges_are_saved_with_the_policy():
    made, _ = fitted()
    other = ActionNormaliser(4)
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.low, made.low) and torch.equal(other.high, made.high)
