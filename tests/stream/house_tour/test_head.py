import numpy as np
import pytest
import torch

from embodied_mem.perception.house_words import PAIRS, WIDTH, concepts_of
from embodied_mem.stream.house_tour.head import KINDS, LONG, HouseHead, load_head, parse, stretches
from embodied_mem.stream.house_tour.questions import CHANCE, ask


@pytest.fixture(scope="module")
def head():
    return load_head()


def _right(head, tokens, times, q):
    return int(head(parse(q.kind, q.text, q.options), tokens, times).argmax()) == q.answer


@torch.no_grad()
def test_with_perfect_tokens_it_answers_and_without_any_it_guesses(head, tour_log, perfect_tokens):
    questions = ask(tour_log, 25, seed=4)
    right, blind = ({kind: [] for kind in KINDS} for _ in range(2))
    for q in questions:
        n = int(q.ask_s) + 1
        times = torch.arange(n, dtype=torch.float64)[:, None].expand(n, 2)
        right[q.kind].append(_right(head, torch.from_numpy(perfect_tokens[:n]), times, q))
        blind[q.kind].append(_right(head, torch.zeros(0, WIDTH), torch.zeros(0, 2), q))
    for kind in KINDS:
        assert np.mean(right[kind]) >= (0.6 if kind == "count" else 0.7), kind
    assert np.mean([v for kind in KINDS for v in right[kind]]) >= 0.8
    fair = [kind for kind in KINDS if kind not in ("count", "change")]
    assert np.mean([v for kind in fair for v in blind[kind]]) <= np.mean([CHANCE[kind] for kind in fair]) + 0.12


@torch.no_grad()
def test_the_order_in_which_tokens_come_does_not_matter(head, tour_log, perfect_tokens):
    q = next(q for q in ask(tour_log, 3, seed=4) if q.kind == "last")
    parsed = parse(q.kind, q.text, q.options)
    tokens, times = torch.from_numpy(perfect_tokens[:300]), torch.arange(300.0)[:, None].expand(300, 2)
    shuffled = torch.from_numpy(np.random.default_rng(0).permutation(300))
    assert torch.allclose(head(parsed, tokens, times), head(parsed, tokens[shuffled], times[shuffled]), atol=1e-4)


@torch.no_grad()
def test_the_latest_sighting_wins(head):
    """A bed between red walls, then one between blue walls: last and when follow the later one."""
    tokens = torch.zeros(3, WIDTH)
    tokens[0, [0, PAIRS]] = 1.0
    tokens[1, PAIRS + 1] = 1.0
    tokens[2, [0, PAIRS + 4]] = 1.0
    times = torch.tensor([[0.0, 9.0], [10.0, 19.0], [20.0, 29.0]])
    walls = parse("last", "Between walls of which colour was the red bed last seen?", ("red", "blue", "pink", "grey"))
    assert int(head(walls, tokens, times).argmax()) == 1
    when = parse(
        "when", "When was the red bed last seen?", ("0 s to 9 s", "10 s to 19 s", "20 s to 30 s", "31 s to 40 s")
    )
    assert int(head(when, tokens, times).argmax()) == 2


@torch.no_grad()
def test_a_likeness_at_every_visit_does_not_outweigh_what_was_seen(head):
    """A red cabinet between red walls; then, thirty times, a red washer between blue walls that looks a bit like it."""
    cabinet, washer = concepts_of("red cabinet").argmax(), concepts_of("red washer").argmax()
    tokens, start = torch.zeros(61, WIDTH), torch.arange(61.0) * 60
    tokens[:, PAIRS + 1] = 1.0
    tokens[0] = 0
    tokens[0, [cabinet, PAIRS]] = 0.98
    tokens[1::2, washer], tokens[1::2, cabinet] = 0.95, 0.15
    tokens[1::2, PAIRS + 1], tokens[1::2, PAIRS + 4] = 0, 1.0
    asked = "Between walls of which colour was the red cabinet last seen?"
    found = head(parse("last", asked, ("red", "blue", "pink", "grey")), tokens, torch.stack([start, start + 20], 1))
    assert int(found.argmax()) == 0


@torch.no_grad()
def test_which_of_several_was_first(head):
    tokens = torch.zeros(40, WIDTH)
    tokens[:, PAIRS] = 1.0
    names = ("blue sofa", "red bed", "green chair")
    for name, at in zip(names, (30, 10, 20)):
        tokens[at : at + 3] += torch.from_numpy(concepts_of(name))
    question = parse("order", "Which of these was seen first?", names)
    assert int(head(question, tokens, torch.arange(40.0)[:, None].expand(40, 2)).argmax()) == 1


def test_frames_of_a_long_history_are_joined_between_the_same_walls():
    count = 30 * (LONG // 30 + 4)
    walls = torch.arange(count) // 30 % 2
    tokens, times = torch.zeros(count, WIDTH), torch.arange(float(count))[:, None].expand(count, 2)
    tokens[torch.arange(count), PAIRS + walls] = 1.0
    tokens[60:64, 7] = 1.0
    joined, spans = stretches(tokens, times)
    assert len(joined) == count // 30
    assert spans[:, 0].tolist() == list(range(0, count, 30)) and (spans[:, 1] - spans[:, 0] == 29).all()
    assert joined[2, 7] == pytest.approx((4 / 30) ** (1 / 3)) and joined[:, 7].count_nonzero() == 1
    again, same = stretches(joined, spans)
    assert again is joined and same is spans
    few, own = stretches(tokens[:LONG], times[:LONG])
    assert len(few) == LONG and torch.equal(own, times[:LONG])


@torch.no_grad()
def test_kinds_are_told_apart_and_other_questions_refused(head):
    asked = {
        "Where was the blue sofa last seen, in a room with walls of which colour?": "last",
        "Was there a green fridge anywhere?": "never",
        "Which of these was seen first?": "order",
        "How many colours of walls was the black bed seen between?": "count",
        "Which colour was the chair in the room of the white toilet?": "colour",
    }
    assert [KINDS[k] for k in head.kinds(list(asked)).argmax(1)] == list(asked.values())
    assert (head.kinds(["Is it going to rain today?", "Who won the match?"]).argmax(1) == len(KINDS)).all()


def test_every_part_is_trained(tour_log, perfect_tokens):
    """Gradients reach every weight of the attention: no part of the head is idle."""
    torch.manual_seed(0)
    head = HouseHead()
    loss = torch.zeros(())
    for q in ask(tour_log, 2, seed=9):
        n = int(q.ask_s) + 1
        times = torch.arange(n, dtype=torch.float64)[:, None].expand(n, 2)
        parsed, tokens = parse(q.kind, q.text, q.options), torch.from_numpy(perfect_tokens[:n])
        for logits in (head(parsed, tokens, times), head(parsed, tokens[:0], times[:0])):
            loss = loss + torch.nn.functional.cross_entropy(logits[None], torch.tensor([q.answer]))
    loss.backward()
    idle = [name for name, value in head.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert all(name.startswith(("words", "kind.")) for name in idle)
    assert all(torch.isfinite(v.grad).all() for v in head.parameters() if v.grad is not None)
