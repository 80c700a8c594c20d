"""Slot buffer: the last frames by slot, and the block that predicts from them."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.stream.memories.slot_buffer import history
from embodied_mem.stream.time_space import TimeSpaceBlock


def test_the_buffer_is_a_slice_of_the_stream(stream, make):
    memory = stream.write(make("slot_buffer", max_len=5), 0, 40)
    assert torch.equal(history(memory.snapshot())[0], torch.from_numpy(stream.tokens[35:40]))
    found = memory.read(torch.from_numpy(stream.tokens[39, 1]))
    assert torch.equal(found.tokens, torch.from_numpy(stream.tokens[35:40, 1]))


@pytest.fixture(params=["sum", "space_first", "time_first"])
def fuse(request):
    return request.param


def test_slots_are_permuted_with_the_output(fuse):
    torch.manual_seed(0)
    block, past, order = TimeSpaceBlock(8, fuse=fuse), torch.randn(2, 4, 5, 8), torch.randperm(5)
    out = block(past[:, -1], past)
    assert torch.allclose(block(past[:, -1, order], past[:, :, order]), out[:, order], atol=1e-5)


def test_the_order_of_the_past_matters_only_with_a_code_of_time(fuse):
    torch.manual_seed(0)
    past = torch.randn(1, 4, 3, 8)
    turned = past.flip(1)
    for coded in (True, False):
        block = TimeSpaceBlock(8, fuse=fuse, time_encoding=coded)
        same = torch.allclose(block(past[:, -1], past), block(past[:, -1], turned), atol=1e-5)
        assert same != coded


def test_a_history_of_one_is_attention_to_itself():
    torch.manual_seed(0)
    block, now = TimeSpaceBlock(8, max_len=1, time_encoding=False), torch.randn(2, 3, 8)
    w = block.time
    value = torch.nn.functional.linear(now, w.in_proj_weight[16:], w.in_proj_bias[16:])
    mixed = block._in_space(now) + now + w.out_proj(value)
    assert torch.allclose(block(now, now[:, None]), block.norm(mixed + block.mlp(mixed)), atol=1e-5)


@pytest.mark.full
def test_linear_motion_is_predicted_better_than_standing_still():
    torch.manual_seed(0)
    embed, block, out = torch.nn.Linear(2, 16), TimeSpaceBlock(16, max_len=4), torch.nn.Linear(16, 2)
    parameters = [*embed.parameters(), *block.parameters(), *out.parameters()]
    optimiser = torch.optim.Adam(parameters, 3e-3)

    def motion(rows):
        start, speed = torch.rand(rows, 1, 3, 2), 0.2 * torch.randn(rows, 1, 3, 2)
        return start + speed * torch.arange(5.0).view(1, 5, 1, 1)

    for _ in range(500):
        path = motion(64)
        past = embed(path[:, :4])
        loss = (path[:, 3] + out(block(past[:, -1], past)) - path[:, 4]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    path = motion(500)
    with torch.no_grad():
        past = embed(path[:, :4])
        error = (path[:, 3] + out(block(past[:, -1], past)) - path[:, 4]).square().mean()
    assert error < 0.5 * (path[:, 3] - path[:, 4]).square().mean()


def test_wrong_shapes_are_refused():
    block = TimeSpaceBlock(8, max_len=2)
    with pytest.raises(UsageError, match="L <= 2"):
        block(torch.zeros(1, 3, 8), torch.zeros(1, 3, 3, 8))
    for arguments in ({"width": 9}, {"width": 8, "fuse": "both"}):
        with pytest.raises(UsageError, match="expected"):
            TimeSpaceBlock(**arguments)
