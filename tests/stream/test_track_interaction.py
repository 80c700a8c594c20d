"""Track interaction: no order among tracks, long memories that move by the clock and only when the score says so."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.stream.track_interaction import TrackInteraction, sine_codes


def case(b=2, k=5, d=16, seed=0):
    draw = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(b, k, d, generator=draw) for _ in range(3)]
    return *vectors, torch.rand(b, k, 4, generator=draw), torch.rand(b, k, generator=draw)


@pytest.fixture
def block():
    torch.manual_seed(0)
    return TrackInteraction(16, 4).eval()


def test_the_order_of_the_tracks_does_not_matter(block):
    inputs, order = case(), torch.randperm(5, generator=torch.Generator().manual_seed(1))
    plain, moved = block(*inputs, 0.1), block(*(x[:, order] for x in inputs), 0.1)
    for a, b in zip(plain, moved):
        torch.testing.assert_close(a[:, order], b, rtol=1e-5, atol=1e-5)


def test_tracks_see_each_other_but_not_rows_without_a_track(block):
    output, before, long, boxes, scores = case()
    alive = torch.tensor([[True, True, True, False, False]] * 2)
    query, _ = block(output, before, long, boxes, scores, 0.1, alive)
    for place, same in ((1, False), (3, True)):
        changed = output.clone()
        changed[:, place] += 1
        other, _ = block(changed, before, long, boxes, scores, 0.1, alive)
        assert torch.allclose(other[:, 0], query[:, 0], atol=1e-6) == same
    none = torch.zeros_like(alive)
    assert torch.isfinite(block(output, before, long, boxes, scores, 0.1, none)[0]).all()


def test_long_memories_are_their_closed_form_whatever_the_frame_rate(block):
    target, start = torch.ones(1, 1, 16), torch.zeros(1, 1, 16)
    score, ends = torch.ones(1, 1), []
    for rate in (10, 30):
        long = start
        for _ in range(2 * rate):
            long = block.remembered(target, long, score, 1 / rate)
        ends.append(long[0, 0, 0].item())
    assert ends[0] == pytest.approx(ends[1], rel=1e-4) == pytest.approx(1 - math.exp(-2 / block.horizon_s), rel=1e-4)
    per_frame = block.remembered(target, start, score, 1 / 30)[0, 0, 0].item()
    assert per_frame == pytest.approx(0.01, rel=0.01), "the published rate at 30 frames per second"


def test_what_is_not_sure_stays_bit_by_bit(block):
    output, _, long, _, _ = case()
    scores = torch.tensor([[0.9, 0.5, 0.1, 0.51, 0.0]] * 2)
    found = block.remembered(output, long, scores, 0.5)
    changed = (found != long).any(-1)
    assert changed.tolist() == [[True, False, False, True, False]] * 2


def test_no_gradient_goes_back_through_the_long_memory(block):
    output, before, long, boxes, scores = case()
    output.requires_grad_()
    long.requires_grad_()
    query, after = block(output, before, long, boxes, scores, 0.1)
    (query.sum() + after.sum()).backward()
    assert long.grad is None and output.grad.abs().sum() > 0


def test_codes_tell_places_apart_and_wrong_sizes_are_refused(block):
    boxes = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    codes = sine_codes(boxes, 32)
    assert codes.shape == (50, 32) and torch.cdist(codes, codes).fill_diagonal_(9).min() > 1e-3
    for arguments in ((12, 8), (16, 3)):
        with pytest.raises(UsageError, match="expected a width"):
            TrackInteraction(*arguments)
    with pytest.raises(UsageError, match="horizon_s > 0"):
        TrackInteraction(16, 4, horizon_s=0.0)
    output, before, long, boxes, scores = case()
    with pytest.raises(UsageError, match="outputs and memories"):
        block(output, before[:, :3], long, boxes, scores, 0.1)
    with pytest.raises(UsageError, match="dt_s >= 0"):
        block(output, before, long, boxes, scores, -1.0)
