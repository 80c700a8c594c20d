"""What is special about MEMO; the contract itself is in test_contract_*.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.memo_hops import ponder_kl, ponder_weights

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "slots": 3, "items": 2, "item_dim": 3, "width": 4, "hops": 4}
    return make_memory("memo_hops", **{**sizes, **config}).double()


def by_hand(memory, x, resets):
    c = memory.config
    outputs, held = [], []
    for t, token in enumerate(x):
        if t == 0 or resets[t]:
            held = []
        entries = [memory.embed(e).view(c.items, c.item_dim) for e in held[-c.slots :][::-1]]
        q, before = memory.norm(memory.query(token)), None
        queries, halts = [], []
        for hop in range(c.hops):
            maps, reads = [], []
            for h, part in enumerate(q.view(c.heads, -1)):
                scores = {}
                for age, entry in enumerate(entries):
                    for i, item in enumerate(entry):
                        key = memory.key[h] @ item
                        scores[i, age] = (key @ part) * len(part) ** -0.5 + memory.code[h, age]
                total = 1 + sum(score.exp() for score in scores.values())
                weights = {place: score.exp() / total for place, score in scores.items()}
                read = torch.zeros(c.width // c.heads, dtype=torch.float64)
                for (i, age), w in weights.items():
                    read = read + w * (entries[age][i] @ memory.value[h])
                maps.append(weights)
                reads.append(read)
            q = memory.norm(q + memory.mix(torch.cat(reads)))
            queries.append(q)
            distance = torch.ones(1, dtype=torch.float64)
            if before is not None:
                overlap = [
                    sum(((now[place] * then[place] + 1e-6).sqrt() - 1e-3 for place in now), torch.zeros(()).double())
                    for now, then in zip(maps, before)
                ]
                distance = distance - sum(overlap) / len(overlap)
            if memory.halt is not None:
                progress = torch.tensor([(hop + 1) / c.hops], dtype=torch.float64)
                halts.append(memory.halt(torch.cat([distance, progress])).sigmoid())
            before = maps
        if memory.halt is None:
            result = queries[-1]
        else:
            result, left = torch.zeros_like(q), 1.0
            for hop, (query, halt) in enumerate(zip(queries, halts)):
                p = left * (halt if hop + 1 < c.hops else 1.0)
                result, left = result + p * query, left - p
        outputs.append(memory.readout(result))
        held.append(token)
    return torch.stack(outputs)


@pytest.mark.parametrize("halting", ["ponder", "fixed"])
def test_equals_the_equations(halting):
    memory = build(halting=halting)
    x, resets = torch.randn(9, D, dtype=torch.float64), torch.tensor([0] * 5 + [1, 0, 1, 0]).bool()
    with torch.no_grad():
        y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0))
        assert torch.allclose(y[0], by_hand(memory, x, resets), atol=1e-12)


def test_halting_weights_are_a_distribution_and_the_prior_costs_nothing():
    p = ponder_weights(torch.rand(50, 6, dtype=torch.float64))
    assert torch.allclose(p.sum(-1), torch.ones(50, dtype=torch.float64)) and (p >= 0).all()
    prior = ponder_weights(torch.full((6,), 0.2, dtype=torch.float64))
    assert ponder_kl(prior, 0.2).abs() < 1e-12
    assert (ponder_kl(p, 0.2) > 0).all()


def test_the_pull_lowers_the_expected_hops_of_a_patient_memory():
    memory = build(prior=0.6, beta=1.0)
    with torch.no_grad():
        memory.halt[2].bias.fill_(-3.0)
    x = torch.randn(8, 6, D, dtype=torch.float64)
    optimiser = torch.optim.Adam(memory.halt.parameters(), 0.05)

    def hops():
        p = memory._hop(x[:, 0].unsqueeze(1), last_window(memory, x))[1]
        return float((p * torch.arange(1, 5)).sum(-1).mean())

    before = hops()
    for _ in range(40):
        memory.sequence(x)
        optimiser.zero_grad()
        memory.aux_losses()["ponder"].backward()
        optimiser.step()
    assert hops() < before - 0.5


def last_window(memory, x):
    from embodied_mem.memory.window_memory import Window

    state = memory.sequence(x)[1]
    count, ages = state["count"].unsqueeze(1), torch.arange(1, 4)
    return Window(state["ring"].detach(), ((count - ages) % 3).unsqueeze(1), (ages <= count).unsqueeze(1))


def test_the_pull_counts_real_tokens_only_and_is_off_in_evaluation():
    memory = build()
    x = torch.randn(2, 6, D, dtype=torch.float64)
    valid = torch.tensor([[True] * 6, [True] * 2 + [False] * 4])
    memory.sequence(x, valid=valid)
    found = memory.aux_losses()["ponder"]
    memory.sequence(x[:1])
    first = memory.aux_losses()["ponder"]
    memory.sequence(x[1:, :2])
    second = memory.aux_losses()["ponder"]
    assert torch.allclose(found, (6 * first + 2 * second) / 8)
    memory.eval()
    memory.sequence(x)
    assert memory.aux_losses() == {}
    assert build(halting="fixed").aux_losses() == {}


def test_hops_needed_follows_the_halting():
    memory = build()
    x = torch.randn(5, 3, D, dtype=torch.float64)
    with torch.no_grad():
        state = memory.sequence(x)[1]
        for bias, hops in ((40.0, 1), (-40.0, 4)):
            memory.halt[2].bias.fill_(bias)
            assert memory.hops_needed(x[:, 0], state).tolist() == [hops] * 5
    with pytest.raises(UsageError, match="got 'fixed'"):
        build(halting="fixed").hops_needed(x[:, 0], state)


@pytest.mark.parametrize("config", [{"items": 0}, {"hops": 0}, {"width": 5}, {"prior": 1.0}, {"beta": -0.1}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
