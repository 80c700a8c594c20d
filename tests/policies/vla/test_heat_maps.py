"""The acceptance checks of SAM2Act+ on the memory attention over heat maps (8 x 8 grid, D 16, memory 8, 3 slots).

Check 5, the tasks on a grid, is in test_key_frames.py.
"""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.policies.vla.fusion import TokenMemory
from embodied_mem.policies.vla.heat_maps import sine_places

P, D, D_C, SLOTS = 64, 16, 8, 3


def build(dtype=torch.float64, **options):
    torch.manual_seed(0)
    options = {"slots": SLOTS, "memory_dim": 8, "layers": 2, **options}
    made = TokenMemory("heat_map_attention", options, tokens=P, width=D, cognitive=D_C)
    with torch.no_grad():
        # what is remembered shall matter from the start, and so shall its age
        made.memory.age.mul_(50)
    return made.to(dtype).eval()


def frames(*lead, seed=1, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(*lead, *size, generator=g, dtype=dtype) for size in ((P, D), (D_C,)))


@torch.no_grad()
def test_1_later_steps_change_nothing_before():
    memory = build()
    perceptual, cognitive = frames(2, 7)
    whole = memory.sequence(perceptual, cognitive, None, None, None, {})[0]
    perceptual[:, 4:] += 1
    edited = memory.sequence(perceptual, cognitive, None, None, None, {})[0]
    assert torch.equal(whole[:, :4], edited[:, :4]) and not torch.equal(whole[:, 4], edited[:, 4])


@pytest.mark.parametrize("told", [True, False])
@torch.no_grad()
def test_1_what_is_older_than_the_window_is_gone(told):
    """Of old frames nothing is held; only the heat maps made under them still tell of them, where they are written."""
    memory = build()
    if not told:
        memory.memory.down[-1].weight.zero_()
    perceptual, cognitive = frames(1, 8)
    whole = memory.sequence(perceptual, cognitive, None, None, None, {})[0]
    for first, same in ((0, True), (4, False)):
        edited = perceptual.clone()
        edited[:, first : first + 1] += 3.0
        found = memory.sequence(edited, cognitive, None, None, None, {})[0]
        away = (found[:, 7] - whole[:, 7]).abs().max()
        assert (away == 0) == (same and not told)
    state = memory.sequence(perceptual, cognitive, None, None, None, {})[2]
    assert state["bank"].shape == (1, SLOTS, P, 8)


@torch.no_grad()
def test_2_only_ages_tell_the_order():
    memory = build()
    perceptual, cognitive = frames(2, 4)
    state = memory.sequence(perceptual[:, :3], cognitive[:, :3], None, None, None, {})[2]
    turned = {**state, "bank": state["bank"][:, [2, 0, 1]]}
    now = perceptual[:, 3], cognitive[:, 3]
    one, other = (memory.step(*now, part, None, {})[0] for part in (state, turned))
    assert (one - other).abs().max() > 1e-3
    memory.memory.age.zero_()
    one, other = (memory.step(*now, part, None, {})[0] for part in (state, turned))
    assert (one - other).abs().max() < 1e-6


def test_3_a_later_loss_reaches_the_heat_map_of_the_first_step():
    memory = build()
    heats = []

    def keep(module, inputs, output):
        output.retain_grad()
        heats.append(output)

    memory.memory.head.register_forward_hook(keep)
    perceptual, cognitive = frames(2, 3)
    fused = memory.sequence(perceptual, cognitive, None, None, None, {})[0]
    fused[:, 2].square().sum().backward()
    assert len(heats) == 3
    assert heats[0].grad.abs().max() > 0 and heats[1].grad.abs().max() > 0 and heats[2].grad is None


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@torch.no_grad()
def test_4_rows_with_resets_equal_the_episodes_alone(dtype, tolerance):
    memory = build(dtype)
    perceptual, cognitive = frames(3, 8, dtype=dtype)
    resets = torch.zeros(3, 8, dtype=torch.bool)
    resets[0, 5] = resets[1, 1] = resets[1, 6] = True
    valid = torch.ones(3, 8, dtype=torch.bool)
    valid[2, 6:] = False
    state, found = memory.initial_state(3), []
    for t in range(8):
        fused, _, state = memory.step(perceptual[:, t], cognitive[:, t], state, resets[:, t], {})
        found.append(fused)
    found = torch.stack(found, 1)
    whole, thought, _ = memory.sequence(perceptual, cognitive, None, resets, valid, {})
    assert (found - whole)[valid].abs().max() < tolerance
    assert torch.equal(thought[valid], cognitive[valid])
    for row in range(3):
        cuts = [0, *resets[row].nonzero()[:, 0].tolist(), int(valid[row].sum())]
        for first, last in zip(cuts, cuts[1:]):
            part = perceptual[row : row + 1, first:last], cognitive[row : row + 1, first:last]
            alone = memory.sequence(*part, None, None, None, {})[0][0]
            assert (found[row, first:last] - alone).abs().max() < tolerance


@torch.no_grad()
def test_an_empty_bank_leaves_the_tokens_alone():
    memory = build()
    perceptual, cognitive = frames(2)
    assert torch.equal(memory.step(perceptual, cognitive, memory.initial_state(2), None, {})[0], perceptual)


@pytest.mark.parametrize(("side", "width"), [(8, 16), (9, 8), (16, 64), (4, 4), (1, 4)])
def test_places_are_told_apart(side, width):
    """No two cells have nearly the same code, however narrow it is: periods fit the grid."""
    codes = sine_places(side, width)
    apart = torch.cdist(codes, codes) + 9 * torch.eye(side * side)
    assert codes.shape == (side * side, width) and apart.min() > 0.4


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="square number"):
        TokenMemory("heat_map_attention", {}, tokens=6, width=8, cognitive=8)
    with pytest.raises(UsageError, match="divisible by 4"):
        build(memory_dim=6)
    with pytest.raises(UsageError, match="memory_config.tokens"):
        build(tokens=9)
