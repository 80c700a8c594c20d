"""The acceptance checks of MemoryVLA on the bank as a policy uses it (D_p = 8, N_p = 4, D_c = 16, L = 4).

Checks 6 and 7 are those of the action expert: test_expert.py.
"""

import pytest
import torch

from embodied_mem.policies.vla.fusion import TokenMemory

P, D_P, D_C, L = 4, 8, 16, 4


def bank(dtype=torch.float64, **options):
    torch.manual_seed(0)
    made = TokenMemory("perceptual_cognitive_bank", {"slots": L, **options}, tokens=P, width=D_P, cognitive=D_C)
    return made.to(dtype).eval()


def frames(*lead, dtype=torch.float64, seed=1):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(*lead, size, generator=g, dtype=dtype) for size in (P * D_P, D_C))


def tokens(flat):
    return flat.unflatten(-1, (P, D_P))


def write(memory, entries, state=None):
    """Write entries [(perceptual (P, D_P), cognitive (D_C)), ...] of one row; returns the state."""
    state = memory.initial_state(1) if state is None else state
    for perceptual, cognitive in entries:
        _, _, state = memory.step(perceptual[None], cognitive[None], state, None, {})
    return state


def entry(k):
    """Entries with different k are orthogonal, token by token."""
    return torch.roll(torch.eye(D_P, dtype=torch.float64)[:P], k, 1), torch.eye(D_C, dtype=torch.float64)[k]


@torch.no_grad()
def test_1_the_fifth_write_merges_exactly_the_duplicates():
    memory = bank()
    kept = [entry(0), entry(4), entry(4), entry(2)]
    # nothing is like its neighbour but the second and third
    before = write(memory, kept)
    fresh = (torch.roll(entry(0)[0], 6, 1) * -1.0, entry(9)[1])
    after = write(memory, [fresh], before)
    for name, part in (("perceptual", 0), ("cognitive", 1)):
        wanted = [kept[0], kept[1], kept[3], fresh]
        held = after[f"{name}/bank"][0].reshape(L, -1)
        assert torch.equal(held, torch.stack([item[part].flatten() for item in wanted]))
        assert after[f"{name}/merged"][0].tolist() == [1, 2, 1, 1]
        assert after[f"{name}/time"][0].tolist() == [0.0, 1.0, 3.0, 4.0]


@torch.no_grad()
def test_2_ties_go_to_the_lowest_index_and_times_increase():
    memory = bank()
    same = [entry(3)] * (L + 1)
    assert write(memory, same)["perceptual/merged"][0].tolist() == [2, 1, 1, 1]
    perceptual, cognitive = frames(2, 100)
    _, _, state = memory.sequence(tokens(perceptual), cognitive, None, None, None, {})
    for name in ("perceptual", "cognitive"):
        assert state[f"{name}/bank"].shape[1] == L
        assert (state[f"{name}/time"].diff(dim=1) > 0).all()


@pytest.mark.parametrize(("bias", "wanted"), [(None, "current"), (60.0, "current"), (-60.0, "retrieved")])
@torch.no_grad()
def test_3_an_empty_bank_is_the_identity_and_the_gate_goes_from_current_to_retrieved(bias, wanted):
    """g multiplies the current token, as in the published code."""
    memory = bank()
    perceptual, cognitive = frames(3)
    if bias is None:
        fused, thought, _ = memory.step(tokens(perceptual), cognitive, memory.initial_state(3), None, {})
        assert torch.allclose(fused, tokens(perceptual), rtol=0, atol=1e-14)
        assert torch.allclose(thought, cognitive, rtol=0, atol=1e-14)
        return
    state = memory.step(*[part + 1 for part in (tokens(perceptual), cognitive)], memory.initial_state(3), None, {})[2]
    for stream in memory.memory.streams.values():
        stream.gate.bias.fill_(bias)
    fused, thought, _ = memory.step(tokens(perceptual), cognitive, state, None, {})
    same = torch.allclose(fused, tokens(perceptual), atol=1e-12) and torch.allclose(thought, cognitive, atol=1e-12)
    assert same == (wanted == "current")
    if wanted == "retrieved":
        # what is retrieved leaves a layer norm: mean 0, variance 1 per token
        for part in (fused, thought):
            assert part.mean(-1).abs().max() < 1e-6 and (part.var(-1, unbiased=False) - 1).abs().max() < 1e-2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("variant", ["openvla", "dexbotic"])
@torch.no_grad()
def test_4_rows_with_resets_equal_the_rows_alone(dtype, tolerance, variant):
    memory = bank(dtype, variant=variant)
    perceptual, cognitive = frames(3, 12, dtype=dtype)
    resets = torch.zeros(3, 12, dtype=torch.bool)
    resets[0, 5] = resets[1, 1] = resets[1, 9] = True
    state, found = memory.initial_state(3), []
    for t in range(12):
        fused, thought, state = memory.step(tokens(perceptual[:, t]), cognitive[:, t], state, resets[:, t], {})
        found.append(torch.cat([fused.flatten(1), thought], 1))
    found = torch.stack(found, 1)
    for row in range(3):
        cuts = [0, *resets[row].nonzero()[:, 0].tolist(), 12]
        for first, last in zip(cuts, cuts[1:]):
            part = slice(first, last)
            fused, thought, _ = memory.sequence(
                tokens(perceptual[row : row + 1, part]), cognitive[row : row + 1, part], None, None, None, {}
            )
            alone = torch.cat([fused.flatten(2), thought], 2)[0]
            assert (found[row, part] - alone).abs().max() < tolerance


@pytest.mark.parametrize(("merge", "survives"), [("average", True), ("weighted", True), ("fifo", False)])
@torch.no_grad()
def test_5_a_distinct_entry_survives_a_slow_drift_but_not_a_queue(merge, survives):
    memory = bank(merge=merge)
    g = torch.Generator().manual_seed(2)
    start = torch.randn(P, D_P, generator=g, dtype=torch.float64)
    strange = (-start, -torch.ones(D_C, dtype=torch.float64))
    turned = torch.randn(P, D_P, generator=g, dtype=torch.float64)
    drift = [
        (start + 0.001 * t * turned, torch.ones(D_C, dtype=torch.float64) + 0.001 * t * turned.flatten()[:D_C])
        for t in range(200)
    ]
    state = write(memory, [strange, *drift])
    for name, part in (("perceptual", 0), ("cognitive", 1)):
        held = state[f"{name}/bank"][0].reshape(L, -1)
        best = torch.cosine_similarity(held, strange[part].reshape(1, -1), dim=-1).max()
        assert (best > 0.99) == survives


@torch.no_grad()
def test_time_codes_are_on_keys_only():
    """With a single entry the weights are 1 whatever its key is, so the time changes nothing; with two it does."""
    memory = bank()
    perceptual, cognitive = frames(1, 3)
    for held, moves in ((1, False), (2, True)):
        state = write(memory, [(tokens(perceptual[0, t]), cognitive[0, t]) for t in range(held)])
        later = {key: value + 5.5 if key.endswith("/time") else value for key, value in state.items()}
        later["cognitive/time"] = later["cognitive/time"] * torch.tensor([1.0, 0.2, 1, 1], dtype=torch.float64)
        now = (tokens(perceptual[:, 2]), cognitive[:, 2])
        a, b = (memory.step(*now, part, None, {})[1] for part in (state, later))
        assert torch.allclose(a, b, rtol=0, atol=1e-13) != moves


@torch.no_grad()
def test_nothing_is_dropped_when_evaluating():
    memory = bank(variant="dexbotic")
    perceptual, cognitive = frames(2, 6)
    first, second = (memory.sequence(tokens(perceptual), cognitive, None, None, None, {})[0] for _ in range(2))
    assert torch.equal(first, second)


def test_ablations_change_what_they_name():
    perceptual, cognitive = frames(2, 6)
    for name in ("perceptual", "cognitive"):
        memory = bank(streams=name)
        with torch.no_grad():
            fused, thought, state = memory.sequence(tokens(perceptual), cognitive, None, None, None, {})
        assert {key.split("/")[0] for key in state} == {"clock", name}
        assert torch.equal(fused, tokens(perceptual)) == (name == "cognitive")
        assert torch.equal(thought, cognitive) == (name == "perceptual")
    timeless, added = bank(time_code=False), bank(fusion="add")
    assert not any("time" in key for key, _ in timeless.named_parameters())
    assert not any("gate" in key for key, _ in added.named_parameters())
    with torch.no_grad():
        first = added.step(tokens(perceptual[:, 0]), cognitive[:, 0], added.initial_state(2), None, {})
    assert torch.equal(first[0], tokens(perceptual[:, 0]))
