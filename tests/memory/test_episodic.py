"""What is special about the episodic bank; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 6


def build(**config):
    torch.manual_seed(0)
    return make_memory("episodic", **{"in_dim": D, "out_dim": D, "key_dim": 4, "value_dim": 4, **config})


def run(memory, x, state=None):
    state = memory.initial_state(len(x)) if state is None else state
    with torch.no_grad():
        return memory.sequence(x, state)


def test_an_empty_bank_reads_exactly_nothing():
    memory = build()
    x = torch.randn(3, D)
    y, _ = memory.step(x, memory.initial_state(3))
    assert torch.equal(y, x)
    assert not memory.inspect(x, memory.initial_state(3))["weights"].any()


def test_a_surprise_outlives_a_thousand_equal_steps_in_a_small_bank():
    memory = build(slots=8)
    x = torch.randn(1, 1, D).expand(1, 1001, D).clone()
    x[:, 0] = -x[:, 1]
    state = run(memory, x)[1]
    assert 0 in state["written"][0].tolist()
    # the same bank without levels is a ring of the last steps
    ring = run(build(slots=8, levels=1), x)[1]
    assert sorted(ring["written"][0].tolist()) == list(range(993, 1001))


def test_levels_from_below_zero_keep_a_surprise_whose_logit_has_drifted_down():
    x = torch.randn(1, 1, D).expand(1, 200, D).clone()
    x[:, 0] = -x[:, 1]
    for lowest, levels, held in ((0.0, 8, False), (-8.0, 16, True)):
        memory = build(slots=4, lowest=lowest, levels=levels)
        with torch.no_grad():
            memory.bias[-1] -= 5.0
        state = run(memory, x)[1]
        assert (0 in state["written"][0].tolist()) == held
        stepped = memory.initial_state(1)
        for token in x.unbind(1):
            _, stepped = memory.step(token, stepped)
        assert torch.equal(stepped["order"].sort().values, state["order"].sort().values)


def test_preference_wears_off_after_its_horizon():
    memory = build(slots=4, levels=8, horizon=10)
    x = torch.randn(1, 1, D).expand(1, 200, D).clone()
    x[:, 0] = -x[:, 1]
    assert 0 in run(memory, x[:, :20])[1]["written"][0].tolist()
    assert 0 not in run(memory, x)[1]["written"][0].tolist()


def test_a_read_is_limited_to_the_best_and_tells_weights_and_ages():
    memory = build(slots=16, top_k=3)
    x = torch.randn(2, 11, D)
    state = run(memory, x)[1]
    told = memory.inspect(x[:, -1], state)
    assert ((told["weights"] > 0).sum(1) == 3).all()
    assert (told["weights"].sum(1) < 1).all()
    assert (told["age"].sort(1).values == torch.tensor([-1] * 5 + list(range(1, 12)))).all()
    assert (told["weights"][told["age"] < 0] == 0).all()


def test_more_places_than_items_reads_all():
    x = torch.randn(2, 5, D)
    some, every = build(top_k=64), build(top_k=5)
    every.load_state_dict(some.state_dict())
    assert torch.allclose(run(some, x)[0], run(every, x)[0], atol=1e-6)


def test_reset_empties_by_counter():
    memory = build(slots=5)
    x = torch.randn(2, 9, D)
    state = run(memory, x)[1]
    _, after = memory.step(x[:, 0], state, torch.tensor([True, False]))
    assert (after["order"][0] >= 0).sum() == 1 and after["clock"].tolist() == [1, 10]
    assert (after["order"][1] >= 0).sum() == 5


def test_old_items_share_a_time_code():
    """What was learned of ages up to the limit holds for any older item: two ages beyond it give the same read."""
    memory = build(slots=4, ages=3)
    state = run(memory, torch.randn(1, 3, D))[1]
    x = torch.randn(1, D)
    old, older = ({**state, "clock": torch.tensor([clock])} for clock in (50, 5000))
    with torch.no_grad():
        assert torch.equal(memory.step(x, old)[0], memory.step(x, older)[0])


def test_keeping_is_learned_through_the_read():
    memory = build()
    memory.sequence(torch.randn(2, 12, D))[0].square().sum().backward()
    assert memory.gain.grad.abs().sum() > 0 and memory.bias.grad[-1].abs() > 0


def test_packed_state_reads_nearly_the_same():
    memory = build()
    x = torch.randn(3, 20, D)
    state = run(memory, x)[1]
    packed = memory.pack(state)
    restored = memory.unpack(packed)
    size = {name: sum(v.numel() * v.element_size() for v in s.values()) for name, s in (("p", packed), ("s", state))}
    assert size["p"] < 0.75 * size["s"]
    assert torch.equal(restored["order"], state["order"])
    y, y_restored = (memory.step(x[:, 0], s)[0] for s in (state, restored))
    assert torch.allclose(y, y_restored, atol=1e-2)
    # an empty bank must stay empty through float16
    empty = memory.unpack(memory.pack(memory.initial_state(3)))
    assert torch.equal(memory.step(x[:, 0], empty)[0], x[:, 0])


def test_learns_to_recall_at_lengths_it_was_not_trained_on():
    """A cue at the first step, asked for at the last: trained at 8 to 20 steps, tested at 1000."""
    from torch import nn

    torch.manual_seed(1)
    memory = make_memory("episodic", in_dim=16, out_dim=16, key_dim=8, value_dim=8, slots=16)
    encode, head = nn.Linear(4, 16), nn.Linear(16, 2)
    optimiser = torch.optim.Adam([*memory.parameters(), *encode.parameters(), *head.parameters()], lr=3e-3)

    def episodes(rows, steps):
        cue = torch.randint(0, 2, (rows,))
        x = torch.zeros(rows, steps, 4)
        x[:, 1:-1, 2] = 1
        x[:, -1, 3] = 1
        x[torch.arange(rows), 0, cue] = 1
        return x, cue

    for _ in range(40):
        x, cue = episodes(16, int(torch.randint(8, 21, ())))
        loss = nn.functional.cross_entropy(head(memory.sequence(encode(x))[0][:, -1]), cue)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        x, cue = episodes(8, 1000)
        assert (head(memory.sequence(encode(x))[0][:, -1]).argmax(-1) == cue).all()


@pytest.mark.parametrize("config", [{"slots": 0}, {"top_k": 0}, {"levels": 0}, {"horizon": 0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
