"""What is special about hierarchical chunk attention; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "chunks": 3, "chunk_steps": 4, "top_k": 2, "width": 6, "heads": 2}
    return make_memory("hcam", **{**sizes, **config}).double()


def attention(part, memory, e, steps, null):
    """Attention of e over steps from old to new, one head at a time."""
    read = []
    for h, q in enumerate(part.query(e).view(part.heads, -1)):
        coded = [step + memory.code[len(steps) - 1 - i] for i, step in enumerate(steps)]
        scores = [(q @ (part.key[h] @ item)) / len(q) ** 0.5 for item in coded]
        total = sum(score.exp() for score in scores) + (1.0 if null else 0.0)
        read.append(sum(score.exp() / total * (item @ part.value[h]) for score, item in zip(scores, coded)))
    return part.out(torch.cat(read))


def by_hand(memory, x, resets):
    c = memory.config
    outputs = []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            finished, current = [], []
        e = memory.embed(token)
        read = e
        held = finished[-c.chunks :]
        scores = []
        for age, chunk in enumerate(reversed(held), start=1):
            key = sum(chunk) / len(chunk) if c.summary == "mean" else chunk[-1]
            scores.append((memory.coarse_query(e) @ memory.coarse_key(key)) / c.width**0.5 - 1e-6 * age)
        best = sorted(range(len(scores)), key=lambda i: -float(scores[i]))[: c.top_k]
        if best:
            total = sum(scores[i].exp() for i in best)
            details = [attention(memory.detail, memory, e, held[::-1][i], False) for i in best]
            read = read + sum(scores[i].exp() / total * d for i, d in zip(best, details))
        if memory.local is not None and current:
            read = read + attention(memory.local, memory, e, current, True)
        outputs.append(memory.readout(memory.norm(read)))
        current.append(e)
        if len(current) == c.chunk_steps:
            finished.append(current)
            current = []
    return torch.stack(outputs)


@pytest.mark.parametrize(
    "config", [{}, {"summary": "last"}, {"attend_current": False}, {"chunk_steps": 1}, {"top_k": 9}, {"chunks": 1}]
)
def test_equals_the_equations(config):
    memory = build(**config)
    T = 60
    x = torch.randn(T, D, dtype=torch.float64)
    resets = torch.rand(T, generator=torch.Generator().manual_seed(3)) < 0.04
    with torch.no_grad():
        want = by_hand(memory, x, resets)
        for chunk in (None, 7):
            y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0), chunk=chunk)
            assert torch.allclose(y[0], want, atol=1e-10)


def test_streaming_in_any_pieces_is_one_long_pass():
    memory = build(chunks=5)
    x = torch.randn(2, 200, D, dtype=torch.float64)
    with torch.no_grad():
        want, _ = memory.sequence(x)
        for cut in (1, 3, 64, 130, 199):
            first, state = memory.sequence(x[:, :cut])
            second, _ = memory.sequence(x[:, cut:], state)
            assert torch.allclose(torch.cat([first, second], 1), want, atol=1e-12)


def test_a_chunk_not_selected_does_not_touch_the_output():
    memory = build(top_k=1, chunks=4)
    x = torch.randn(1, D, dtype=torch.float64)
    with torch.no_grad():
        state = memory.sequence(torch.randn(1, 16, D, dtype=torch.float64))[1]
        y, _ = memory.step(x, state)
        changed = 0
        for slot in range(4):
            chunks = state["chunks"].clone()
            chunks[:, slot] += 1
            changed += int(not torch.equal(memory.step(x, {**state, "chunks": chunks})[0], y))
    assert changed == 1


def test_one_chunk_of_everything_is_plain_attention():
    """A single finished chunk holds the whole past: the read is attention over all of it."""
    T = 8
    memory = build(chunks=1, chunk_steps=T, attend_current=False)
    x = torch.randn(T + 1, D, dtype=torch.float64)
    with torch.no_grad():
        y, _ = memory.sequence(x.unsqueeze(0))
        e = memory.embed(x)
        want = attention(memory.detail, memory, e[-1], list(e[:T]), False)
        assert torch.allclose(y[0, -1], memory.readout(memory.norm(e[-1] + want)), atol=1e-12)


def test_published_gradients_stop_at_what_is_stored():
    x = torch.randn(1, 5, D, dtype=torch.float64, requires_grad=True)
    for grad_memory, flows in (("none", False), ("sequence", True)):
        memory = build(grad_memory=grad_memory, attend_current=False)
        (dx,) = torch.autograd.grad(memory.sequence(x)[0][:, 4].sum(), x)
        assert dx[:, :4].any() == flows and dx[:, 4].any()


def test_no_token_is_readable_at_its_own_step_and_no_chunk_before_it_ends():
    memory = build(attend_current=False)
    x = torch.randn(1, 9, D, dtype=torch.float64)
    changed = x.clone()
    changed[:, 1] += 1
    with torch.no_grad():
        moved = (memory.sequence(x)[0] - memory.sequence(changed)[0]).abs().amax(-1)[0] > 0
    assert moved.tolist() == [False, True, False, False, True, True, True, True, True]


def test_the_chunk_of_a_noisy_summary_is_found():
    """32 random chunks, asked with the noisy mean of one: only the contents of that one matter."""
    width = 64
    memory = build(in_dim=width, width=width, chunks=32, top_k=1, attend_current=False)
    with torch.no_grad():
        for weight in (memory.coarse_query.weight, memory.coarse_key.weight, memory.embed.weight):
            weight.copy_(torch.eye(width))
        memory.coarse_query.bias.zero_()
        memory.embed.bias.zero_()
        state = memory.sequence(torch.randn(1, 128, width, dtype=torch.float64))[1]
        for slot in range(32):
            asked = state["keys"][:, slot] + 0.1 * torch.randn(1, width, dtype=torch.float64)
            chunks = state["chunks"].clone()
            chunks[:, slot] += torch.randn(4, width, dtype=torch.float64)
            found, changed = (memory.step(asked, {**state, "chunks": c})[0] for c in (state["chunks"], chunks))
            assert not torch.equal(found, changed), slot


@pytest.mark.parametrize("config", [{"chunks": 0}, {"chunk_steps": 0}, {"width": 7}, {"heads": 4}, {"summary": "max"}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)


def test_writing_leaves_behind_what_a_sequence_does():
    torch.manual_seed(0)
    memory = make_memory("hcam", in_dim=5, out_dim=3, chunks=3, chunk_steps=4, width=6)
    x = torch.randn(2, 29, 5)
    for cut in (0, 3, 13):
        carried = memory.sequence(x[:, :cut])[1] if cut else None
        found, want = memory.write(x[:, cut:], carried), memory.sequence(x[:, cut:], carried)[1]
        assert all(torch.equal(found[key], want[key]) for key in want)
    (gradient,) = torch.autograd.grad(memory.write(x)["chunks"].square().sum(), memory.embed.weight)
    assert gradient.any()
