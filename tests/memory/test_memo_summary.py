"""What is special about Memo; the contract itself is in test_contract_*.py, segments in test_segment_policy.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "segment": 4, "width": 8, "layers": 2, "queries": 2, "sets": 2}
    return make_memory("memo_summary", **{**sizes, **config}).double()


@pytest.mark.parametrize("sets", [2, 9])
def test_accumulated_summaries_equal_one_pass_over_all_of_them(by_hand, sets):
    memory = build(sets=sets)
    Q = memory.config.queries

    def look(summaries, segment):
        n, L = len(summaries), len(segment)
        P = n * Q
        sees, age = by_hand.frame(P, L, Q)
        sees[P + L :, P + L :].tril_()
        for g in range(n):
            sees[g * Q : (g + 1) * Q, :P] = False
            sees[g * Q : (g + 1) * Q, max(0, g - sets) * Q : g * Q] = True
            sees[g * Q : (g + 1) * Q, g * Q : (g + 1) * Q].fill_(True).tril_()
        sees[P:, : max(0, n - sets) * Q] = False
        rows = torch.cat([*summaries, segment, memory.query])
        h = by_hand.layers(memory, rows, torch.arange(P + L + Q), sees, age)[1][-1]
        return h[P + L - 1], [*summaries, memory.norm(h[P + L :])]

    held, state = by_hand.check(memory, list, look, T=27, cut=(3,))
    assert state["count"].item() == len(held) == 6


def test_replaced_summaries_equal_one_pass(by_hand):
    memory = build(accumulate=False)
    Q = memory.config.queries

    def look(summary, segment):
        P, L = len(summary), len(segment)
        sees, age = by_hand.frame(P, L, Q)
        sees[:P, :P].tril_()
        sees[P + L :, P + L :].tril_()
        rows = torch.cat([summary, segment, memory.query])
        h = by_hand.layers(memory, rows, torch.arange(P + L + Q), sees, age)[1][-1]
        return h[P + L - 1], memory.norm(h[P + L :])

    by_hand.check(memory, lambda: memory.query[:0], look)


def test_attended_tokens_are_bounded():
    memory = build(sets=3)
    state = memory.initial_state(1)
    with torch.no_grad():
        for t in range(40):
            shown, exists = memory.prefix(memory._held(state))
            n = t // 4
            assert exists.sum().item() == 2 * min(n, 3) and state["pos"].item() == t % 4
            assert memory.origin(memory._held(state)).item() == 2 * n
            _, state = memory.step(torch.randn(1, D, dtype=torch.float64), state)
    assert shown.shape[1] == 6


def test_the_first_observation_reaches_the_last_output():
    x = torch.randn(1, 24, D, dtype=torch.float64, requires_grad=True)
    reached = {}
    for accumulate in (True, False):
        y, _ = build(sets=9, accumulate=accumulate).sequence(x)
        reached[accumulate] = torch.autograd.grad(y[:, -1].sum(), x)[0][0, 0].norm().item()
    # summaries stay in sight; a replaced one is read anew by every segment
    assert reached[True] > reached[False] > 0


def test_the_segment_length_varies_in_training_alone():
    memory = build(jitter=0.5)
    x = torch.randn(3, 29, D, dtype=torch.float64)
    fixed, _ = build().sequence(x)
    with torch.no_grad():
        assert torch.allclose(memory.sequence(x)[0], fixed)
    assert torch.allclose(memory.eval().sequence(x)[0], fixed)
    memory.train()
    lengths = set()
    for seed in range(20):
        torch.manual_seed(seed)
        y, state = memory.sequence(x)
        fitting = [n for n in range(2, 7) if torch.allclose(y, build(segment=n).sequence(x)[0])]
        assert len(fitting) == 1 and state["count"].tolist() == [29 // fitting[0]] * 3
        lengths.update(fitting)
    assert lengths == {2, 3, 4, 5, 6}


@pytest.mark.parametrize("config", [{"queries": 0}, {"sets": 0}, {"jitter": -0.1}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
