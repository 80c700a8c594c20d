"""Open questions through ``ask`` on a walk that is drawn, and what counts as right."""

import json

import numpy as np
import pytest

from embodied_mem.experiments import ask_tour
from embodied_mem.perception.house_words import PAIRS, WALL_WORDS, pair_name
from embodied_mem.stream.house_tour.questions import KINDS, Question
from embodied_mem.stream.house_tour.tours import TourLog


@pytest.fixture
def log():
    seen = np.zeros((30, PAIRS), bool)
    seen[5:10, [0, 9]] = True
    return TourLog(np.zeros(30, np.int64), np.zeros(30, np.int64), seen, seen)


def question(kind, options, answer=0, subjects=(0,)):
    return Question(kind, "Which?", options, answer, 29.0, (5.0, 9.0), 0.5, subjects)


def test_open_answers_are_judged_by_the_log(log):
    where = question("where", WALL_WORDS[:4])
    assert ask_tour.is_right(where, WALL_WORDS[0], log) and not ask_tour.is_right(where, "not seen", log)
    what = question("what", (pair_name(9), pair_name(11)))
    assert ask_tour.is_right(what, pair_name(9), log)
    assert not ask_tour.is_right(what, pair_name(0), log) and not ask_tour.is_right(what, pair_name(11), log)
    when = question("when", ("0 s to 9 s", "10 s to 19 s", "20 s to 29 s"), 1)
    said = {"8 s to 13 s": True, "18 s to 24 s": False, "not seen": False, "19 s to 20 s": True}
    assert {words: ask_tour.is_right(when, words, log) for words in said} == said


def test_a_question_of_order_names_its_options():
    order = question("order", ("red bed", "blue sofa"), subjects=())
    assert ask_tour.worded(order) == "Which: red bed, blue sofa?"


def test_a_walk_is_asked_from_frames_to_answers(capsys):
    ask_tour.main(["--short", "1", "--long", "0", "--each", "1", "--memory", "sparse_events"])
    found = json.loads(capsys.readouterr().out)["tasks"]["short"]["metrics"]
    assert 5 <= found["success"]["n"] <= len(KINDS) and found["success"]["mean"] > 0.3
    assert 0 < found["answer_p95_s"]["mean"] <= found["answer_max_s"]["mean"]
