"""What is special about the Token Turing machine; the contract itself is in test_contract_*.py."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryInput, make_memory

D = 5
SIZES = {"in_dim": D, "out_dim": 4, "slots": 4, "width": 6, "reads": 2, "heads": 2}


def build(**config):
    torch.manual_seed(0)
    return make_memory("token_turing_machine", **{**SIZES, **config}).double()


def scores(part, V):
    """Scores (H, choices, L) of the tokens V (L, W), one token and choice at a time."""
    found = []
    for i, token in enumerate(V):
        told = F.layer_norm(token, token.shape, part.norm.weight, part.norm.bias)
        told = told if part.places is None else told + part.places[i]
        if part.queries is None:
            found.append(part.mlp(told).unsqueeze(0))
        else:
            key = part.mlp(told).view(len(part.queries), -1)
            found.append(torch.stack([q @ k / math.sqrt(len(k)) for q, k in zip(part.queries, key)]))
    return torch.stack(found, -1)


def summary(part, V):
    found = scores(part.scores, V)
    H, W = len(found), V.shape[1] // len(found)
    rows = []
    for j in range(part.count):
        heads = []
        for h in range(H):
            score = found[h, j].clone()
            if part.keep is not None:
                score[j] += part.keep[j]
            heads.append(score.softmax(0) @ V[:, h * W : (h + 1) * W])
        rows.append(torch.cat(heads))
    return torch.stack(rows)


def erase_add(part, M, V):
    weights = scores(part.scores, V).softmax(1).mean(0)
    new = M.clone()
    for i in range(len(V)):
        erase, _ = part.change(part.scores.norm(V[i])).chunk(2)
        new = new * (1 - torch.outer(weights[:, i], erase.sigmoid()))
    for i in range(len(V)):
        new = new + torch.outer(weights[:, i], part.change(part.scores.norm(V[i])).chunk(2)[1])
    return new


def by_hand(memory, x, resets):
    c, outputs = memory.config, []
    start = torch.zeros(c.slots, c.width, dtype=torch.float64) if memory.start is None else memory.start
    for t, features in enumerate(x):
        if t == 0 or resets[t]:
            M = start
        items = memory.embed(features).view(c.input_tokens, c.width)
        out = summary(memory.read, torch.cat([M, items]))
        for block in memory.blocks:
            out = block(out.unsqueeze(0))[0]
        if c.write == "summary":
            M = summary(memory.write, torch.cat([M, items, out]))
        else:
            M = erase_add(memory.write, M, torch.cat([items, out]))
        outputs.append(memory.readout(memory.norm(out).flatten()))
    return torch.stack(outputs), M


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"summary": "query", "input_tokens": 3},
        {"write": "erase_add", "learned_init": True},
        {"write": "erase_add", "summary": "query"},
        {"positions": False, "layers": 2},
    ],
    ids=str,
)
def test_equals_the_equations(config):
    memory = build(**config)
    x, resets = torch.randn(8, D, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 0, 0, 1, 0]).bool()
    with torch.no_grad():
        y, state = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        want, M = by_hand(memory, x, resets)
    assert torch.allclose(y[0], want, atol=1e-12) and torch.allclose(state["M"][0], M, atol=1e-12)


def test_a_block_is_attention_and_mlp():
    block, h = build().blocks[0], torch.randn(1, 3, 6, dtype=torch.float64)
    with torch.no_grad():
        q, k, v = block.qkv(block.norm(h)).chunk(3, -1)
        heads = []
        for part in (slice(0, 3), slice(3, 6)):
            weights = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(3)).softmax(-1)
            heads.append(weights @ v[..., part])
        want = h + block.out(torch.cat(heads, -1))
        want = want + block.mlp(block.norm_mlp(want))
        assert torch.allclose(block(h), want, atol=1e-12)


def test_a_step_costs_the_same_at_any_time():
    memory = make_memory("token_turing_machine", in_dim=16, out_dim=16)
    x = torch.randn(1, 200, 16)
    with torch.no_grad():
        late = memory.sequence(x)[1]
    counts = []
    for state in (memory.initial_state(1), late):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            memory.step(x[:, 0], state)
        counts.append(counter.get_total_flops() // 2)
    assert counts[0] == counts[1] and memory.macs_per_token(0) == memory.macs_per_token(200)
    assert 0.75 * counts[0] <= memory.macs_per_token() <= 1.35 * counts[0]


def test_streaming_equals_the_unrolled_form():
    memory = make_memory("token_turing_machine", in_dim=D, out_dim=4)
    x, state = torch.randn(2, 60, D), memory.initial_state(2)
    with torch.no_grad():
        want, end = memory.sequence(x)
        reads = []
        for t in range(60):
            y, state = memory.step(x[:, t], state)
            reads.append(y)
    assert (torch.stack(reads, 1) - want).abs().max() < 1e-6 and (state["M"] - end["M"]).abs().max() < 1e-6


@pytest.mark.parametrize("summary", ["mlp", "query"])
def test_without_positions_the_order_of_the_slots_is_nothing(summary):
    x = torch.randn(2, 6, D, dtype=torch.float64)
    M, order = torch.randn(2, 4, 6, dtype=torch.float64), torch.tensor([2, 0, 3, 1])
    for positions in (False, True):
        memory = build(positions=positions, summary=summary)
        with torch.no_grad():
            y, _ = memory.sequence(x, {"M": M})
            permuted, _ = memory.sequence(x, {"M": M[:, order]})
        assert torch.allclose(permuted, y, atol=1e-12) != positions


@pytest.mark.parametrize("write", ["summary", "erase_add"])
def test_the_gradient_reaches_the_first_of_fifty_steps(write):
    torch.manual_seed(0)
    memory = make_memory("token_turing_machine", in_dim=D, out_dim=4, write=write)
    x = torch.randn(2, 51, D, requires_grad=True)
    memory.sequence(x)[0][:, -1].square().sum().backward()
    sizes = x.grad.norm(dim=(0, 2))
    assert sizes[0] > 1e-4 * sizes[-1] > 0


def test_half_lives_at_the_start():
    memory = build(shortest_half_life=2, longest_half_life=32)
    with torch.no_grad():
        memory.write.scores.mlp[2].weight.zero_()
        for slot, half_life in ((0, 2.0), (3, 32.0)):
            tokens = torch.zeros(1, 4 + 1 + 2, 6, dtype=torch.float64)
            tokens[0, slot] = 1
            kept = memory.write(tokens)[0, slot].mean()
            assert kept.item() == pytest.approx(2 ** (-1 / half_life), abs=1e-6)


def test_patch_tokens_are_read_beside_the_features():
    memory = build(token_dim=3, input_tokens=7)
    assert memory.needs == {"tokens"}
    x, tokens = torch.randn(2, 5, D, dtype=torch.float64), torch.randn(2, 5, 7, 3, dtype=torch.float64)
    y, _ = memory.sequence(MemoryInput(x, tokens=tokens))
    other = tokens.clone()
    other[:, 2, 4] += 1
    changed = (memory.sequence(MemoryInput(x, tokens=other))[0] - y).abs().amax((0, 2)) > 1e-9
    assert changed.tolist() == [False, False, True, True, True]
    with pytest.raises(UsageError, match="expected 7 patch tokens of width 3"):
        memory.sequence(MemoryInput(x, tokens=tokens[:, :, :6]))


def copied(name, updates, symbols=3, kinds=4):
    """Accuracy of repeating the symbols of an episode in order, over the last updates."""
    torch.manual_seed(0)
    memory, head = make_memory(name, in_dim=kinds + 1, out_dim=32), nn.Linear(32, kinds)
    optimiser = torch.optim.Adam([*memory.parameters(), *head.parameters()], 5e-3)
    recent = 0.0
    for _ in range(updates):
        shown = torch.randint(kinds, (32, symbols))
        x = torch.zeros(32, 2 * symbols, kinds + 1)
        x[:, :symbols, :kinds], x[:, symbols:, kinds] = F.one_hot(shown, kinds).float(), 1
        logits = head(memory.sequence(x)[0][:, symbols:])
        loss = F.cross_entropy(logits.flatten(0, 1), shown.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(memory.parameters(), 1.0)
        optimiser.step()
        recent += 0.1 * ((logits.argmax(-1) == shown).float().mean().item() - recent)
        if recent > 0.95:
            break
    return recent


@pytest.mark.full
def test_copying_needs_the_memory_and_is_learnt():
    assert copied("none", 200) < 0.4
    assert copied("token_turing_machine", 1500) > 0.9


@pytest.mark.parametrize(
    "config",
    [{"slots": 0}, {"width": 7}, {"reads": 0}, {"token_dim": -1}, {"summary": "mean"}, {"longest_half_life": 1.0}],
    ids=str,
)
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
