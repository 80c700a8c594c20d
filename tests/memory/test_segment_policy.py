"""What all segment memories share: when they write, what passes between segments, and what does not."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from embodied_mem import registry
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.segment_policy import SegmentMemory

NAMES = [name for name in registry.names("memory") if issubclass(registry.get("memory", name), SegmentMemory)]
D, L = 5, 4


def build(name, **config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "segment": L, "width": 8}
    if name == "hmt":
        sizes["sensory"] = 2
    memory = make_memory(name, **{**sizes, **config}).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return memory


def held(state):
    return {key: value for key, value in state.items() if key not in ("segment", "pos")}


def inputs(T, n=2, seed=1):
    return torch.randn(n, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_memory_changes_at_the_last_step_of_a_segment_and_nowhere_else(name):
    memory, x = build(name), inputs(14)
    opens = {0: 0, 1: 6}  # row 1 starts anew at step 6
    state = memory.initial_state(2)
    with torch.no_grad():
        for t in range(14):
            reset = torch.tensor([False, t == opens[1]])
            _, new = memory.step(x[:, t], state, reset)
            for row in range(2):
                since = t - (opens[row] if t >= opens[row] else 0)
                changed = any(not torch.equal(value[row], held(state)[key][row]) for key, value in held(new).items())
                if not reset[row]:
                    assert changed == (since % L == L - 1), f"row {row}, step {t}"
                assert new["pos"][row].item() == (since + 1) % L
            state = new
    beyond = torch.arange(L) >= state["pos"].unsqueeze(1)
    assert not state["segment"][beyond].any()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_older_than_the_segment_passes_through_the_memory_alone(name):
    memory, x = build(name), inputs(12)
    other = x.clone()
    other[:, 1] += 1
    with torch.no_grad():
        y, found = (memory.sequence(v)[0] for v in (x, other))
        assert not torch.allclose(found[:, L:], y[:, L:])
        start, wiped = memory.initial_state(2), []
        for v in (x, other):
            _, state = memory.sequence(v[:, :L])
            wiped.append(memory.sequence(v[:, L:], {**state, **held(start)})[0])
    assert torch.equal(*wiped)


@pytest.mark.parametrize("name", NAMES)
def test_a_soft_reset_drops_the_segment_and_keeps_the_memory(name):
    memory, x = build(name), inputs(11)
    soft = torch.zeros(2, 11, dtype=torch.bool)
    soft[:, 6] = True
    with torch.no_grad():
        y, after = memory.sequence(x, soft_resets=soft)
        _, state = memory.sequence(x[:, :L])
        want, want_after = memory.sequence(x[:, 6:], state)
    assert torch.allclose(y[:, 6:], want, atol=1e-12)
    assert all(torch.allclose(value, want_after[key], atol=1e-12) for key, value in after.items())


# the summary of HMT spans half of the fixed length
@pytest.mark.parametrize("name", [name for name in NAMES if name != "hmt"])
def test_another_length_of_segments_in_training(name, monkeypatch):
    memory, x = build(name, jitter=0.5), inputs(17)
    resets = torch.zeros(2, 17, dtype=torch.bool)
    resets[1, 7] = True
    monkeypatch.setattr(type(memory), "_length", lambda self: 6)
    y, _ = memory.sequence(x, None, resets)
    monkeypatch.undo()
    want, _ = build(name, segment=6).sequence(x, None, resets)
    assert torch.allclose(y, want, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_a_carried_segment_longer_than_the_present_length_ends_at_its_next_token(name, monkeypatch):
    memory, x = build(name, jitter=0.5), inputs(9)
    with torch.no_grad():
        _, state = memory.sequence(x[:, :3])
        monkeypatch.setattr(type(memory), "_length", lambda self: 2)
        y, after = memory.sequence(x[:, 3:], state)
        monkeypatch.setattr(type(memory), "_length", lambda self: 4)
        want, middle = memory.sequence(x[:, 3:4], state)
        monkeypatch.setattr(type(memory), "_length", lambda self: 2)
        rest, want_after = memory.sequence(x[:, 4:], middle)
    assert middle["pos"].tolist() == [0, 0] and after["pos"].tolist() == [1, 1]
    assert torch.allclose(y, torch.cat([want, rest], 1), atol=1e-10)
    assert all(torch.allclose(value, want_after[key], atol=1e-10) for key, value in after.items())


def copy_task(generator):
    cue = torch.randint(4, (32,), generator=generator)
    x = torch.randn(32, 4 * L, 6, generator=generator)
    x[:, :, :4] = 0
    x[:, 0, :4] = F.one_hot(cue, 4).float()
    return x, cue


# the two that learn it in seconds; RMT stays near 0.5 for hundreds of updates without a curriculum
@pytest.mark.full
@pytest.mark.parametrize("name", ["armt", "gated_fifo"])
def test_a_cue_is_copied_over_segments_through_the_memory(name):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    sizes = {"in_dim": 6, "out_dim": 16, "segment": L}
    memory, head = make_memory(name, **sizes), nn.Linear(16, 4)
    optimiser = torch.optim.Adam([*memory.parameters(), *head.parameters()], 1e-2)
    loss = torch.tensor(torch.inf)
    for _ in range(600):
        if loss < 0.02:
            break
        x, cue = copy_task(generator)
        logits = head(memory.sequence(x)[0][:, L:])
        loss = F.cross_entropy(logits.flatten(0, 1), cue.repeat_interleave(3 * L))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        x, cue = copy_task(generator)
        right = (head(memory.sequence(x)[0][:, L:]).argmax(-1) == cue.unsqueeze(1)).float().mean()
        _, state = memory.sequence(x[:, :L])
        blind = {**state, **held(memory.initial_state(32))}
        guessed = (head(memory.sequence(x[:, L:], blind)[0]).argmax(-1) == cue.unsqueeze(1)).float().mean()
    assert right >= 0.95 and guessed < 0.5, f"{right:.2f} with memory, {guessed:.2f} without"
