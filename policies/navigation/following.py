"""The loss of a walk: how likely the agent is to reach the goal as the teacher does, and to stop where that counts.

With move probabilities p_t (stop left out) and the probability h_t of stopping, along the teacher's walk

    log P = sum_{t < arrival} log p_t(teacher's move) + log sum_{t good} h_t prod_{s < t} (1 - h_s)

where t is good if the agent stands at the goal or next to it. Cross-entropy on a stop label would ask for the one
panorama that the annotator chose; here every panorama that counts as success does, and going on beyond the goal is what
the walk shows next. `following_loss` is -log P at first; then the probability of a good stop takes the place of its
logarithm. The first spreads its stops where a text leaves the place open (a likelihood pays for being possible), the
second decides, since only one stop is made: it is the success rate of the agent that moved rightly, and its gradient is
exact, without sampling. The moves keep their logarithm: all of them right is too rare at first to learn from its rate.
"""

from __future__ import annotations

import torch
from torch import Tensor

COUNTED = (6, 6, 10)
"""Values told apart of each count: turns made, junctions since the last turn, panoramas since the last junction."""
_TOLD = 0.8
_SCALE = 3.0
"""Brings gradients of a rate near those of its logarithm at rates around a third."""


def log_success(logits: Tensor, target: Tensor, good: Tensor, valid: Tensor, stop: int) -> tuple[Tensor, Tensor]:
    """Return the two terms of log P, each (B,) float32: that of the moves and that of the stop.

    Args:
        logits: (B, T, A) float32 of the actions.
        target: (B, T) int64 moves, -1 where none is asked for.
        good: (B, T) bool, stopping here is a success.
        valid: (B, T) bool, the steps of the walk.
        stop: number of the action stop.

    A walk that is never good (cut before the goal) counts as one on which the agent must not stop.
    """
    others = logits.index_fill(-1, torch.tensor([stop], device=logits.device), float("-inf"))
    total, onward = logits.logsumexp(-1), others.logsumexp(-1)
    stays = torch.where(valid, onward - total, 0.0)
    halts = logits[..., stop] - total
    asked = (target >= 0) & valid
    moves = others.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1) - onward
    counts = good & valid
    before = stays.cumsum(1) - stays
    stopping = torch.where(counts, halts + before, float("-inf"))
    # a row of -inf alone would give NaN gradients
    ever = counts.any(1)
    safe = torch.where(ever.unsqueeze(1), stopping, 0.0)
    ending = torch.where(ever, safe.logsumexp(1), stays.sum(1))
    return torch.where(asked, moves, 0.0).sum(1), ending


def log_success_returning(
    links: Tensor, stops: Tensor, target: Tensor, good: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the terms of log P as `log_success` for walkers that may also go back k panoramas and stop there.

    Args:
        links: (B, T, L) float32 scores of going on, one decision per panorama.
        stops: (B, T, 1 + K) float32 scores of stopping after a return by 0..K panoramas.
        target: (B, T) int64 links, -1 where none is asked for.
        good: (B, T) bool, stopping on the panorama of this decision is a success.
        valid: (B, T) bool, the decisions of the walk.
    """
    onward = links.logsumexp(-1)
    total = torch.logaddexp(onward, stops.logsumexp(-1))
    stays = torch.where(valid, onward - total, 0.0)
    asked = (target >= 0) & valid
    moves = links.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1) - onward
    most = stops.shape[-1] - 1
    earlier = torch.nn.functional.pad(good, (most, 0))
    reached = torch.stack([earlier[:, most - k : most - k + good.shape[1]] for k in range(most + 1)], -1)
    counts = (reached & valid.unsqueeze(-1)).flatten(1)
    before = stays.cumsum(1) - stays
    halts = (stops - total.unsqueeze(-1) + before.unsqueeze(-1)).flatten(1)
    ever = counts.any(1)
    safe = torch.where(ever.unsqueeze(1), torch.where(counts, halts, float("-inf")), 0.0)
    ending = torch.where(ever, safe.logsumexp(1), stays.sum(1))
    return torch.where(asked, moves, 0.0).sum(1), ending


def following_loss(moves: Tensor, ending: Tensor, decide: float) -> Tensor:
    """Return the loss () of the terms (B,) of `log_success`; ``decide`` in [0, 1] weighs the rate of good stops."""
    return -(moves + (1.0 - decide) * ending + decide * _SCALE * ending.exp()).mean()


def counting_loss(remembered: Tensor, counts: Tensor) -> Tensor:
    """Return how far the first channels of a memory's output are from telling what the agent has done, ().

    A counter per value is asked to be 0.8 where the count has this value and -0.8 elsewhere (mean squared error, summed
    over the counters), as a progress monitor does for instructions (Ma et al. 2019). Counting is learnt from the first
    update on then, instead of after the text is understood, which itself waits for the counts.

    Args:
        remembered: (B, T, M) float32 outputs, M >= the sum of `COUNTED`.
        counts: (B, T, 3) int64, -1 where nothing is told; larger values than are told apart count as the largest.
    """
    told = counts[..., 0] >= 0
    total = torch.zeros((), device=remembered.device)
    start = 0
    for index, size in enumerate(COUNTED):
        wanted = torch.nn.functional.one_hot(counts[..., index].clamp(0, size - 1), size) * 2.0 * _TOLD - _TOLD
        error = (remembered[..., start : start + size] - wanted).square().sum(-1)
        total = total + torch.where(told, error, 0.0).sum()
        start += size
    return total / told.sum().clamp(min=1)
