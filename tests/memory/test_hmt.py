"""What is special about HMT; the contract itself is in test_contract_*.py, segments in test_segment_policy.py."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory

D = 5


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "segment": 4, "width": 8, "layers": 2, "queue": 2, "sensory": 2}
    return make_memory("hmt", **{**sizes, **config}).double()


def test_equals_the_equations(by_hand):
    memory = build()
    k, W = memory.config.sensory, memory.config.width

    def causal(rows):
        place = torch.arange(len(rows))
        return by_hand.layers(memory, rows, place, place.unsqueeze(1) >= place, (place.unsqueeze(1) - place).abs())[1][
            -1
        ]

    def look(held, segment):
        queue, front = held
        P, L = len(front), len(segment)
        sees, age = by_hand.frame(P, L, 1)
        sees[:P, :P].tril_()
        place = torch.arange(P)
        age[:P, :P] = (place.unsqueeze(1) - place).abs()
        # a segment always begins at position 1 + k
        place = torch.cat([place, torch.arange(L + 1) + 1 + k])
        h = by_hand.layers(memory, torch.cat([front, segment, memory.writer]), place, sees, age)[1][-1]
        if L < memory.config.segment:
            return h[P + L - 1], None
        queue = [*queue, memory.norm(h[-1])][-memory.config.queue :]
        s = memory.norm(causal(torch.cat([memory.prompt, segment[-2:], memory.prompt]))[-1])
        scores = torch.stack([(memory.query(s) * memory.key(m)).sum() / W**0.5 for m in queue]).exp()
        p = sum(score * m for score, m in zip(scores / scores.sum(), queue))
        return h[P + L - 1], (queue, torch.cat([p.unsqueeze(0), segment[-k:]]))

    (queue, _), state = by_hand.check(memory, lambda: ([], memory.null), look, cut=(3,))
    # embeddings 3 and 4 of five
    assert state["count"].item() == 5
    assert torch.allclose(state["queue"][0], torch.stack(queue).flip(0), atol=1e-10)


def test_the_queue_gives_up_the_oldest():
    memory = build(queue=3)
    x = torch.randn(1, 20, D, dtype=torch.float64)
    with torch.no_grad():
        before = memory.sequence(x[:, :16])[1]
        after = memory.sequence(x[:, 16:], before)[1]
    assert before["count"].item() == 4 and after["count"].item() == 5
    # embedding 4 replaces embedding 1
    changed = (before["queue"] != after["queue"]).any(2)[0]
    assert changed.tolist() == [False, True, False]


def test_first_segment_shows_no_sensory_tokens():
    memory = build()
    _, exists = memory.prefix(memory.initial_state(1))
    assert exists.tolist() == [[True, False, False]]
    _, state = memory.sequence(torch.randn(1, 4, D, dtype=torch.float64))
    assert memory.prefix(state)[1].all()


def test_sensory_tokens_must_fit_the_shortest_segment():
    with pytest.raises(UsageError, match="expected sensory <= the shortest segment, 3, got 4"):
        build(jitter=0.25, sensory=4)
