"""Every answer is checked against the log by a search of its own."""

import numpy as np
import pytest

from embodied_mem.perception.house_words import COLOUR_WORDS, PAIRS, THINGS, WALL_WORDS, find_pairs, pair, pair_name
from embodied_mem.stream.house_tour.questions import CHANCE, KINDS, ask


@pytest.fixture(scope="module")
def questions(tour_log):
    return ask(tour_log, 25, seed=1)


def _last(log, p, now):
    return int(np.flatnonzero(log.seen[: now + 1, p])[-1])


def _stay(log, t, now):
    start = end = t
    while start > 0 and log.place[start - 1] == log.place[t]:
        start -= 1
    while end < now and log.place[end + 1] == log.place[t]:
        end += 1
    return start, end


def _right(log, q, text):
    """Return whether an option is true, from the frames before the question."""
    now = int(q.ask_s)
    seen = log.seen[: now + 1]
    p = q.subjects[0] if q.subjects else None
    if q.kind in ("where", "last"):
        return WALL_WORDS[log.walls[_last(log, p, now)]] == text
    if q.kind in ("what", "colour"):
        start, end = _stay(log, _last(log, p, now), now)
        if q.kind == "what":
            ((colour, thing),) = find_pairs(text)
        else:
            thing = next(thing for colour, thing in find_pairs(q.text) if colour is None)
            colour = COLOUR_WORDS.index(text)
        return bool(seen[start : end + 1, pair(thing, colour)].any())
    if q.kind == "when":
        low, high = (int(word) for word in text.split() if word.isdigit())
        return low <= _last(log, p, now) <= high
    if q.kind == "order":
        firsts = {o: np.flatnonzero(seen[:, pair(*reversed(find_pairs(o)[0]))])[0] for o in q.options}
        return min(firsts, key=firsts.get) == text
    if q.kind == "count":
        return len(np.unique(log.walls[: now + 1][seen[:, p]])) == int(text)
    if q.kind == "change":
        first = int(np.flatnonzero(seen[:, p])[0])
        return (log.walls[first] != log.walls[_last(log, p, now)]) == (text == "yes")
    return bool(seen[:, p].any()) == (text == "yes")


@pytest.mark.parametrize("kind", KINDS)
def test_one_option_is_true_and_it_is_the_answer(tour_log, questions, kind):
    some = [q for q in questions if q.kind == kind]
    assert len(some) >= 10
    for q in some:
        assert len(set(q.options)) == len(q.options) == round(1 / CHANCE[kind])
        assert [_right(tour_log, q, option) for option in q.options] == [k == q.answer for k in range(len(q.options))]


def test_subjects_are_named_in_the_words(questions):
    for q in questions:
        assert all(pair_name(p) in q.text for p in q.subjects)
        assert "{" not in q.text


def test_evidence_lies_before_the_question_and_shows_the_subject(tour_log, questions):
    for q in questions:
        first, last = (int(t) for t in q.evidence)
        assert 0 <= first <= last <= q.ask_s < len(tour_log)
        if q.subjects and q.age is not None:
            assert tour_log.seen[first : last + 1, q.subjects[0]].any()


def test_never_seen_means_not_even_glimpsed(tour_log, questions):
    absent = [q for q in questions if q.kind == "never" and q.options[q.answer] == "no"]
    assert 5 <= len(absent) <= 20
    for q in absent:
        assert not tour_log.glimpsed[: int(q.ask_s) + 1, q.subjects[0]].any() and q.age is None


def test_ages_reach_far_back_and_the_right_option_stands_anywhere(tour_log):
    many = [q for seed in range(8) for q in ask(tour_log, 10, seed)]
    ages = np.array([q.age for q in many if q.age is not None])
    assert np.histogram(ages, bins=5, range=(0, 1))[0].min() >= 0.04 * len(ages)
    four = [q.answer for q in many if q.kind in ("where", "last", "what", "colour", "order")]
    assert np.bincount(four, minlength=4).min() > 0.17 * len(four)


def test_questions_come_out_the_same_and_in_the_order_of_time(tour_log, questions):
    assert questions == ask(tour_log, 25, seed=1) != ask(tour_log, 25, seed=2)
    assert [q.ask_s for q in questions] == sorted(q.ask_s for q in questions)
    assert PAIRS == len(THINGS) * len(COLOUR_WORDS)
