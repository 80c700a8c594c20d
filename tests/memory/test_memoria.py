"""What is special about Memoria; the contract itself is in test_contract_*.py, segments in test_segment_policy.py."""

import math

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.memoria import Bank, remember

D = 5
NAMES = ("empty", "working", "short", "long")


def build(**config):
    torch.manual_seed(0)
    sizes = {"in_dim": D, "out_dim": 4, "segment": 4, "width": 8, "slots": 12, "short": 3, "recall_short": 2}
    return make_memory("memoria", **{**sizes, "recall_long": 2, **config}).double()


class ByHand:
    """Engrams as dicts and sets."""

    def __init__(self, c):
        self.c, self.slots, self.fired, self.born = c, {}, {}, 0

    def distance(self, working, slot):
        v = self.slots[slot]["vector"]
        return round(sum(sum((a - b) ** 2 for a, b in zip(w, v)) for w in working) / len(working), 3)

    def count(self, i, j):
        return self.fired.get((i, j), 0)

    def of(self, kind):
        return sorted(slot for slot, engram in self.slots.items() if engram["kind"] == kind)

    def drop(self, slot):
        self.slots.pop(slot, None)
        self.fired = {pair: n for pair, n in self.fired.items() if slot not in pair}

    def step(self, working, mass):
        c = self.c
        total = sum(mass.values())
        for slot, share in mass.items():
            self.slots[slot]["life"] += c.extend * share / total * len(mass)
        for slot in list(self.slots):
            self.slots[slot]["life"] = round(self.slots[slot]["life"] - 1, 3)
            if self.slots[slot]["life"] <= 0:
                self.drop(slot)
        for slot in self.of("working"):
            self.slots[slot]["kind"] = "short"
        for slot in sorted(self.of("short"), key=lambda s: self.slots[s]["born"])[
            : max(0, len(self.of("short")) - c.short)
        ]:
            self.slots[slot]["kind"] = "long"
        free = [slot for slot in range(c.slots) if slot not in self.slots]
        by_life = sorted(self.of("long"), key=lambda s: (self.slots[s]["life"], s))
        taken = [*free, *by_life][: len(working)]
        for slot, vector in zip(taken, working):
            self.drop(slot)
            self.slots[slot] = {"vector": vector, "kind": "working", "life": c.life, "born": self.born}
            self.born += 1
        near = lambda s: (self.distance(working, s), s)  # noqa: E731
        recent = sorted(self.of("short"), key=near)[: c.recall_short]
        reached, now = set(), recent
        for _ in range(c.depth + 1):
            following = []
            for slot in now:
                options = [s for s in self.of("long") if s not in reached and self.count(slot, s)]
                if options:
                    following.append(max(options, key=lambda s: (self.count(slot, s), -s)))
            reached.update(following)
            now = following
        distant = sorted(reached, key=near)[: c.recall_long]
        for i in {*taken, *recent, *distant}:
            for j in {*taken, *recent, *distant}:
                self.fired[i, j] = self.count(i, j) + 1
        return taken, recent, distant


@pytest.mark.parametrize("extend", [0.0, 1.5, 8.0])
@pytest.mark.parametrize("depth", [0, 3])
def test_engrams_equal_a_model_of_dicts_and_sets(extend, depth):
    c = build(extend=extend, depth=depth, life=5.0).config
    generator = torch.Generator().manual_seed(3)
    model, E, W = ByHand(c), c.slots, 2
    bank = Bank(
        torch.zeros(1, E, W, dtype=torch.float64),
        torch.zeros(1, E, dtype=torch.int64),
        torch.zeros(1, E, dtype=torch.float64),
        torch.zeros(1, E, E, dtype=torch.float64),
        torch.zeros(1, E, dtype=torch.int64),
    )
    place, recalled = torch.full((1, c.shown), -1), 0
    for t in range(60):
        working = torch.randn(1, c.working, W, dtype=torch.float64, generator=generator)
        mass = torch.rand(1, c.shown, dtype=torch.float64, generator=generator)
        shares = {s: m for s, m in zip(place[0].tolist(), mass[0].tolist()) if s >= 0}
        taken, recent, distant = model.step(working[0].tolist(), shares)
        bank, place = remember(bank, working, torch.tensor([t]), mass, place, c)
        recalled += len(distant)
        want = [taken, recent + [-1] * (c.recall_short - len(recent)), distant + [-1] * (c.recall_long - len(distant))]
        assert place[0].tolist() == [s for part in want for s in part], t
        for slot in range(E):
            engram = model.slots.get(slot)
            assert NAMES[bank.kind[0, slot]] == ("empty" if engram is None else engram["kind"]), t
            if engram is not None:
                assert math.isclose(bank.life[0, slot], engram["life"], abs_tol=1e-9)
                assert bank.vectors[0, slot].tolist() == engram["vector"]
        assert bank.counts[0].tolist() == [[float(model.count(i, j)) for j in range(E)] for i in range(E)]
    # without any extension nothing lives long enough to be long-term and recalled
    assert extend == 0.0 or recalled > 20


def test_equals_the_equations(by_hand):
    memory = build(layers=2)
    c, W = memory.config, memory.config.width

    def weights(n, h, shown):
        """Per head and token, the rest to 1 went to the null slot."""
        part = memory.readers[n]
        q = part.query(part.norm(h)).view(len(h), c.heads, W)
        scores = torch.einsum("qhd,sd->hqs", q, shown).div(W**0.5).exp()
        return scores / (1 + scores.sum(2, keepdim=True))

    def look(held, segment):
        model, shown, place = held
        L = len(segment)
        sees, age = by_hand.frame(0, L, 0)

        def mixed(n, h, local):
            if not len(shown):
                return h + local
            found = torch.einsum("hqs,sd->qhd", weights(n, h, shown), shown).flatten(1)
            return h + local + memory.readers[n].answer(found)

        inputs, outputs = by_hand.layers(memory, segment, torch.arange(L), sees, age, mixed=mixed)
        if L < c.segment:
            return outputs[-1][-1], None
        key, value = memory.offered(inputs[-1]).chunk(2, 1)
        working = memory.abstract((memory.asked @ key.T / W**0.5).softmax(1) @ value)
        mass = sum(weights(n, inputs[n], shown).sum((0, 1)) for n in range(c.layers)) if len(shown) else []
        taken, recent, distant = model.step(working.tolist(), dict(zip(place, [float(m) for m in mass])))
        vectors = [torch.tensor(model.slots[s]["vector"], dtype=torch.float64) for s in [*taken, *recent, *distant]]
        return outputs[-1][-1], (model, torch.stack(vectors), [*taken, *recent, *distant])

    start = lambda: (ByHand(c), torch.zeros(0, W, dtype=torch.float64), [])  # noqa: E731
    (model, shown, place), state = by_hand.check(memory, start, look, T=45, cut=(3,))
    real = state["place"][0] >= 0
    assert model.of("long") and state["place"][0][real].tolist() == place
    assert torch.allclose(state["shown"][0][real], shown, atol=1e-10)


def test_learning_acts_through_the_working_engrams_of_the_segment_before():
    memory = build()
    x = torch.randn(1, 12, D, dtype=torch.float64, requires_grad=True)
    y, state = memory.sequence(x)
    (dx,) = torch.autograd.grad(y[:, -1].sum(), x, retain_graph=True)
    assert dx[:, 4:].any(2).all()
    (first,) = torch.autograd.grad(state["shown"][:, : memory.config.working].sum(), x)
    assert first[:, 8:].any() and not state["vectors"].requires_grad


@pytest.mark.parametrize("config", [{"slots": 6}, {"life": 0.0}, {"working": 0}, {"depth": -1}, {"extend": -1.0}])
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)
