"""The predicted gradient across the ends of training blocks."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.boundary_gradient import BoundaryGradient
from embodied_mem.memory.contract import StateSpec, make_memory

D = 4


def linear_rnn(state, x, A):
    for t in range(x.shape[1]):
        state = state @ A.T + x[:, t]
    return state


def test_on_a_linear_network_the_prediction_converges_to_the_true_gradient():
    """Blocks of 5 steps; the loss of the next block is |s - 1|^2 at its end, so dL/ds is linear in s up to noise."""
    torch.manual_seed(0)
    A = 0.9 * torch.linalg.qr(torch.randn(D, D))[0]
    boundary = BoundaryGradient({"s": StateSpec((D,))}, hidden=0)
    optimiser = torch.optim.Adam(boundary.parameters(), 0.02)
    for _ in range(300):
        start = 2 * torch.randn(64, D)
        entered = boundary.enter({"s": start.requires_grad_()})["s"]
        end = linear_rnn(entered, 0.1 * torch.randn(64, 5, D), A)
        optimiser.zero_grad()
        (end - 1).square().sum().backward()
        optimiser.step()
    start = 2 * torch.randn(256, D).requires_grad_()
    (true,) = torch.autograd.grad((linear_rnn(start, torch.zeros(256, 5, D), A) - 1).square().sum(), start)
    predicted = boundary({"s": start})["s"]
    assert torch.cosine_similarity(predicted, true, dim=-1).mean() > 0.9


def gradients(memory, boundary, coef):
    torch.manual_seed(1)
    x = torch.randn(3, 6, D, dtype=torch.float64)
    state = memory.detach(memory.sequence(x)[1])
    y, after = memory.sequence(x, state if boundary is None else boundary.enter(state))
    loss = y.square().sum()
    if boundary is not None:
        loss = loss + boundary.loss(after, coef)
    return torch.autograd.grad(loss, list(memory.parameters()))


def test_without_weight_the_gradients_are_those_of_plain_truncation():
    torch.manual_seed(0)
    memory = make_memory("gru", in_dim=D, out_dim=D).double()
    boundary = BoundaryGradient(memory.state_spec(), hidden=8).double()
    with torch.no_grad():
        boundary.net[2].weight.normal_()
    plain = gradients(memory, None, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(gradients(memory, boundary, 0.0), plain))
    assert not any(torch.equal(a, b) for a, b in zip(gradients(memory, boundary, 1.0), plain) if a.dim() > 1)


def test_the_predictor_learns_the_difference_and_the_state_gets_its_gradient():
    boundary = BoundaryGradient({"s": StateSpec((2,)), "t": StateSpec((), torch.int64, "counter")}, hidden=0)
    state = {"s": torch.ones(1, 2, requires_grad=True), "t": torch.zeros(1, dtype=torch.int64)}
    entered = boundary.enter(state)
    assert torch.equal(entered["s"], state["s"]) and entered["t"] is state["t"]
    (3 * entered["s"]).sum().backward()
    assert state["s"].grad.tolist() == [[3.0, 3.0]]
    # it predicted 0 where 3 arrived
    assert boundary.net.bias.grad.tolist() == [-3.0, -3.0]


def test_the_loss_hands_the_prediction_to_the_state_only():
    boundary = BoundaryGradient({"s": StateSpec((2,))}, hidden=0)
    with torch.no_grad():
        boundary.net.bias.copy_(torch.tensor([1.0, -2.0]))
    state = {"s": torch.zeros(1, 2, requires_grad=True)}
    boundary.loss(state, 0.5).backward()
    assert state["s"].grad.tolist() == [[0.5, -1.0]] and boundary.net.bias.grad is None


def test_impossible_states_are_refused():
    with pytest.raises(UsageError, match="at least one float tensor"):
        BoundaryGradient({"t": StateSpec((), torch.int64, "counter")})
    with pytest.raises(UsageError, match="expected hidden >= 0"):
        BoundaryGradient({"s": StateSpec((2,))}, hidden=-1)
