"""The loss of a walk is the probability of success, term by term; it trains a stop where stopping counts."""

import pytest
import torch

from embodied_mem.policies.navigation.following import (
    COUNTED,
    counting_loss,
    following_loss,
    log_success,
    log_success_returning,
)

STOP = 3


def enumerate_success(logits, target, good, length):
    """Sum the probability of every way to succeed: the teacher's moves, then one stop at a good step."""
    p = logits.softmax(-1)
    total = 0.0
    moves = 1.0
    for t in range(length):
        if target[t] >= 0:
            others = p[t].clone()
            others[STOP] = 0.0
            moves = moves * others[target[t]] / others.sum()
    for end in range(length):
        if good[end]:
            stays = torch.stack([1 - p[t, STOP] for t in range(end)]).prod() if end else torch.tensor(1.0)
            total = total + stays * p[end, STOP]
    return moves * total


def test_it_is_the_enumerated_probability():
    torch.manual_seed(0)
    logits = torch.randn(3, 6, 4, dtype=torch.float64)
    target = torch.tensor([[0, 1, 0, -1, -1, -1], [0, 0, 2, 0, -1, -1], [2, 0, -1, -1, -1, -1]])
    good = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    lengths = (6, 5, 4)
    valid = torch.arange(6) < torch.tensor(lengths)[:, None]
    found = sum(log_success(logits, target, good, valid, STOP)).exp()
    wanted = [enumerate_success(logits[k], target[k], good[k], lengths[k]) for k in range(3)]
    assert torch.allclose(found, torch.stack(wanted), atol=1e-12)


def test_steps_after_the_walk_and_walks_without_a_goal_are_harmless():
    logits = torch.randn(2, 4, 4, requires_grad=True)
    target = torch.tensor([[0, 0, -1, -1], [0, 0, 0, 0]])
    good = torch.tensor([[False, True, True, True], [False] * 4])
    valid = torch.tensor([[True, True, True, False], [True] * 4])
    loss = following_loss(*log_success(logits, target, good, valid, STOP), 0.5)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert (logits.grad[0, 3] == 0).all(), "beyond the end of the walk nothing is learnt"
    assert (logits.grad[1, :, STOP] > 0).all(), "never at the goal: stopping becomes less likely"


@pytest.mark.parametrize("decide", [0.0, 1.0])
def test_deciding_makes_one_stop(decide):
    """Two texts that look alike end at steps 1 or 2, or at 2 or 3: only a stop at 2 always counts."""
    free = torch.zeros(4, requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=0.1)
    good = torch.tensor([[False, True, True, False], [False, False, True, True]])
    target, valid = torch.full((2, 4), -1), torch.ones(2, 4, dtype=torch.bool)
    for _ in range(300):
        logits = torch.stack([torch.zeros(4), torch.zeros(4), torch.zeros(4), free], -1).expand(2, -1, -1)
        loss = following_loss(*log_success(logits, target, good, valid, STOP), decide)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    hazard = torch.sigmoid(free - torch.log(torch.tensor(3.0)))
    assert hazard[2] > 0.95 and hazard[0] < 0.1 and hazard[1] < 0.1


def test_counters_are_asked_for_where_something_is_told():
    counts = torch.tensor([[[0, 1, 2], [1, 0, 99], [-1, -1, -1]]])
    remembered = torch.full((1, 3, 30), -0.8)
    start = 0
    for index, size in enumerate(COUNTED):
        for t in range(2):
            remembered[0, t, start + min(int(counts[0, t, index]), size - 1)] = 0.8
        start += size
    assert counting_loss(remembered, counts) < 1e-12
    wrong = remembered.clone()
    wrong[0, 2] = 5.0
    wrong[0, :, start:] = 3.0
    assert counting_loss(wrong, counts) < 1e-12, "neither the goal nor channels beyond the counters are asked"
    wrong[0, 0, 0] -= 1.0
    assert torch.isclose(counting_loss(wrong, counts), torch.tensor(0.5))


def test_returns_count_where_they_lead_to():
    """K = 0 is the loss without returns; a stop that only counts one panorama back is reached by a return."""
    torch.manual_seed(1)
    links, stops = torch.randn(2, 4, 3, dtype=torch.float64), torch.randn(2, 4, 3, dtype=torch.float64)
    target = torch.tensor([[0, 1, -1, -1], [2, -1, -1, -1]])
    good = torch.tensor([[False, True, False, False], [False, True, True, False]])
    valid = torch.tensor([[True] * 4, [True, True, True, False]])
    plain = log_success(torch.cat([links, stops[..., :1]], -1), target, good, valid, 3)
    same = log_success_returning(links, stops[..., :1], target, good, valid)
    assert all(torch.allclose(a, b) for a, b in zip(plain, same))
    _, ending = log_success_returning(links, stops, target, good, valid)
    for row, length in enumerate((4, 3)):
        p = torch.cat([links[row], stops[row]], -1).softmax(-1)
        going, total = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for t in range(length):
            total = total + sum(going * p[t, 3 + k] for k in range(3) if t >= k and good[row, t - k])
            going = going * p[t, :3].sum()
        assert torch.allclose(ending[row].exp(), total)
