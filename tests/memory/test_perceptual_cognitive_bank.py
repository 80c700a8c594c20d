"""What is special about the perceptual-cognitive bank; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryInput, make_memory
from embodied_mem.memory.perceptual_cognitive_bank import consolidate

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {
        "in_dim": D,
        "out_dim": 4,
        "slots": 4,
        "perceptual_tokens": 2,
        "perceptual_dim": 8,
        "cognitive_dim": 16,
    }
    return make_memory("perceptual_cognitive_bank", **{**sizes, **config}).double()


def retrieved(stream, x, entries, itself):
    """Two blocks of the module docstring for one row: x (N, W), entries of (time, tokens)."""
    if not entries and not itself:
        return x
    keys, values = x, x
    if entries:
        codes = []
        for time, tokens in entries:
            angle = time * stream.frequencies
            codes += [stream.time(torch.cat([angle.cos(), angle.sin()]))] * len(tokens)
        values = torch.cat([tokens for _, tokens in entries])
        keys = values + torch.stack(codes)
    q = x
    for block in stream.blocks:
        parts = [part.chunk(stream.heads, -1) for part in (block.query(q), block.key(keys), block.value(values))]
        read = [(a @ k.T / a.shape[-1] ** 0.5).softmax(-1) @ v for a, k, v in zip(*parts)]
        h = block.norm(q + torch.cat(read, -1))
        q = block.norm_mlp(h + block.mlp(h))
    return q


def by_hand(memory, x, resets):
    c = memory.config
    itself = c.variant == "dexbotic"
    outputs = []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            banks, clock = {"perceptual": [], "cognitive": []}, 0
        now = {"perceptual": memory.perceive(token).view(2, 8), "cognitive": memory.think(token).view(1, 16)}
        read = []
        for name, stream in memory.streams.items():
            entries = [(time, tokens) for time, tokens, _ in banks[name]]
            h = retrieved(stream, now[name], entries, itself)
            g = stream.gate(torch.cat([now[name], h], -1)).sigmoid()
            fused = g * now[name] + (1 - g) * h
            read.append(fused.flatten())
            bank = banks[name]
            bank.append((float(clock), fused if itself else now[name], 1))
            if len(bank) > c.slots:
                alike = [
                    float(torch.cosine_similarity(a[1], b[1], dim=-1).mean()) - 1e-6 * i
                    for i, (a, b) in enumerate(zip(bank, bank[1:]))
                ]
                i = 0 if c.merge == "fifo" else alike.index(max(alike))
                a, b = bank[i], bank[i + 1]
                share = a[2] / (a[2] + b[2]) if c.merge == "weighted" else 0.5
                time = share * a[0] + (1 - share) * b[0] if itself else a[0]
                bank[i : i + 2] = [b] if c.merge == "fifo" else [(time, share * a[1] + (1 - share) * b[1], a[2] + b[2])]
        clock += 1
        outputs.append(memory.readout(torch.cat(read)))
    return torch.stack(outputs), banks


@pytest.mark.parametrize("variant", ["openvla", "dexbotic"])
@pytest.mark.parametrize("merge", ["average", "weighted", "fifo"])
def test_equals_the_equations(variant, merge):
    memory = build(variant=variant, merge=merge)
    x, resets = torch.randn(14, D, dtype=torch.float64), torch.tensor([0] * 9 + [1, 0, 1, 0, 0]).bool()
    with torch.no_grad():
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        assert torch.allclose(y[0], by_hand(memory, x, resets)[0], atol=1e-11)
        state = memory.sequence(x[:9].unsqueeze(0))[1]
        banks = by_hand(memory, x[:9], torch.zeros(9))[1]
    for name, bank in banks.items():
        assert torch.allclose(state[f"{name}/bank"][0], torch.stack([tokens for _, tokens, _ in bank]), atol=1e-11)
        assert state[f"{name}/time"][0].tolist() == pytest.approx([time for time, _, _ in bank])


def filled(entries):
    bank = torch.stack(entries).unsqueeze(0)
    L = bank.shape[1]
    return bank, torch.arange(L).double().unsqueeze(0), torch.ones(1, L, dtype=torch.int64), torch.tensor([L])


def test_the_duplicated_pair_is_merged_and_the_others_stay_bit_identical():
    entries = [torch.eye(8, dtype=torch.float64)[2 * i : 2 * i + 2] for i in range(4)]
    entries[2] = entries[1]
    bank, time, merged, clock = filled(entries)
    item = torch.full((1, 2, 8), 0.1, dtype=torch.float64) * torch.tensor([1.0, -1.0]).repeat(4)
    after, times, counts = consolidate(bank, time, merged, clock, item)
    assert torch.equal(after[0], torch.stack([entries[0], entries[1], entries[3], item[0]]))
    assert times[0].tolist() == [0.0, 1.0, 3.0, 4.0] and counts[0].tolist() == [1, 2, 1, 1]
    mean_times = consolidate(bank, time, merged, clock, item, mean_time=True)[1]
    assert mean_times[0].tolist() == [0.0, 1.5, 3.0, 4.0]


def test_similarity_is_the_mean_over_tokens_not_of_the_flattened_entries():
    """The long token of the first pair agrees, its short one does not: flattened it would win."""
    far, short = torch.tensor([[100.0, 0.0], [0.0, 1.0]]), torch.tensor([[100.0, 0.0], [0.0, -1.0]])
    third = torch.tensor([[-1.0, 0.2], [0.3, -1.0]])
    bank, time, merged, clock = filled([far.double(), short.double(), third.double()])
    item = torch.tensor([[[-1.0, 0.3], [0.2, -1.0]]], dtype=torch.float64)
    assert consolidate(bank, time, merged, clock, item)[2][0].tolist() == [1, 1, 2]


def test_ties_go_to_the_earliest_pair():
    bank, time, merged, clock = filled([torch.ones(2, 3, dtype=torch.float64)] * 4)
    counts = consolidate(bank, time, merged, clock, torch.ones(1, 2, 3, dtype=torch.float64))[2]
    assert counts[0].tolist() == [2, 1, 1, 1]


@pytest.mark.parametrize("variant", ["openvla", "dexbotic"])
def test_times_increase_and_the_length_is_bounded(variant):
    memory = build(variant=variant)
    with torch.no_grad():
        state = memory.sequence(torch.randn(3, 100, D, dtype=torch.float64))[1]
    for name in ("perceptual", "cognitive"):
        assert (state[f"{name}/time"].diff(dim=1) > 0).all()
        assert state[f"{name}/merged"].sum(1).tolist() == [100] * 3


def test_an_empty_bank_leaves_the_tokens_as_they_are():
    memory = build()
    x = torch.randn(3, D, dtype=torch.float64)
    with torch.no_grad():
        y, _ = memory.step(x, memory.initial_state(3))
        assert torch.allclose(y, memory.readout(torch.cat([memory.perceive(x), memory.think(x)], 1)), atol=1e-12)


@pytest.mark.parametrize("bias,same", [(40.0, True), (-40.0, False)])
def test_the_gate_is_the_share_of_the_current_tokens(bias, same):
    memory = build()
    x = torch.randn(2, 6, D, dtype=torch.float64)
    with torch.no_grad():
        for stream in memory.streams.values():
            stream.gate.bias.fill_(bias)
        y, _ = memory.sequence(x)
        current = memory.readout(torch.cat([memory.perceive(x), memory.think(x)], -1))
    assert torch.allclose(y, current, atol=1e-10) == same


def test_an_unlike_entry_survives_merging_but_not_a_queue():
    """One strange frame, then 200 of a slow drift."""
    torch.manual_seed(0)
    drift = torch.randn(8) + 0.02 * torch.randn(200, 8).cumsum(0)
    strange = torch.nn.functional.normalize(-drift.mean(0), dim=0)
    for merge, survives in (("average", True), ("weighted", True), ("fifo", False)):
        bank, time, merged = torch.zeros(1, 6, 1, 8), torch.zeros(1, 6), torch.zeros(1, 6, dtype=torch.int64)
        for t, item in enumerate([strange, *drift]):
            bank, time, merged = consolidate(bank, time, merged, torch.tensor([t]), item.view(1, 1, 8), merge)
        best = torch.cosine_similarity(bank[0, :, 0], strange.unsqueeze(0), dim=-1).max()
        assert (best > 0.99) == survives, merge


def test_weighted_merging_keeps_the_mean_of_all():
    items = 5 + torch.randn(30, 1, 8, dtype=torch.float64)
    bank, time = torch.zeros(1, 3, 1, 8, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64)
    merged = torch.zeros(1, 3, dtype=torch.int64)
    for t, item in enumerate(items):
        bank, time, merged = consolidate(bank, time, merged, torch.tensor([t]), item.unsqueeze(0), "weighted")
    mean = (bank * merged.view(1, 3, 1, 1)).sum(1) / 30
    assert torch.allclose(mean[0], items.mean(0), atol=1e-12)


def test_entries_carry_no_gradient_as_published_where_asked():
    x = torch.randn(1, 6, D, dtype=torch.float64, requires_grad=True)
    for grad_memory, flows in (("none", False), ("sequence", True)):
        (dx,) = torch.autograd.grad(build(grad_memory=grad_memory).sequence(x)[0][:, -1].sum(), x)
        assert dx[:, :-1].any() == flows and dx[:, -1].any()


def test_attention_weights_learn():
    """Published initialisation leaves queries and keys at zero for ever."""
    memory = build()
    memory.sequence(torch.randn(2, 6, D, dtype=torch.float64))[0].square().sum().backward()
    for stream in memory.streams.values():
        for block in stream.blocks:
            assert block.query.weight.grad.any() and block.key.weight.grad.any()


def test_patch_tokens_are_the_perceptual_tokens():
    memory = build(token_dim=3)
    tokens = torch.randn(2, 5, 2, 3, dtype=torch.float64)
    x = torch.randn(2, 5, D, dtype=torch.float64)
    with torch.no_grad():
        y, _ = memory.sequence(MemoryInput(x, tokens=tokens))
        other, _ = memory.sequence(MemoryInput(x, tokens=tokens + 1))
    assert not torch.allclose(y, other)
    with pytest.raises(UsageError, match="expected 2 patch tokens per frame, got 3"):
        memory.sequence(MemoryInput(x, tokens=torch.zeros(2, 5, 3, 3)))


def test_times_are_packed_without_rounding():
    memory = build()
    with torch.no_grad():
        state = memory.float().sequence(torch.randn(1, 20, D))[1]
    state["cognitive/time"] += 4001
    assert torch.equal(memory.unpack(memory.pack(state))["cognitive/time"], state["cognitive/time"])


@pytest.mark.parametrize(
    "config", [{"slots": 0}, {"perceptual_dim": 7}, {"variant": "other"}, {"token_dim": -1}, {"merge": "max"}]
)
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
