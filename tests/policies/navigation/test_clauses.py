"""Instructions as clauses: turns, numbers, the words of each, and what is no turn."""

import numpy as np

from embodied_mem.perception.street_words import concepts
from embodied_mem.policies.navigation.clauses import CLAUSES, NUMBER, PASSED, SIDE, STEPS, STREET_END, read_clauses


def test_a_text_becomes_a_clause_per_turn_and_one_for_the_stop():
    text = "Pass two lights. At the next light turn right. Go to the end of the street and turn left. Stop 3 steps on."
    found = read_clauses([text])
    own = found.numbers[0, : found.total[0]]
    assert own[:, SIDE].tolist() == [1, -1, 0]
    assert own[0, [NUMBER, PASSED]].tolist() == [3, 2] and own[1, NUMBER] == STREET_END and own[2, STEPS] == 3
    words = concepts()
    assert words["right"] in found.tokens[0, 0] and words["left"] not in found.tokens[0, 0]
    assert words["end"] in found.tokens[0, 1] and words["stop"] in found.tokens[0, 2]
    assert not found.tokens[0, 3:].any() and not found.numbers[0, 3:].any()


def test_orienting_oneself_is_no_turn():
    found = read_clauses(
        ["Turn left so the wall is on your right. Turn right at the light.", "Turn left at the light."]
    )
    assert found.total.tolist() == [2, 2] and found.numbers[:, 0, SIDE].tolist() == [1, -1]


def test_a_text_without_turns_has_the_last_clause_alone_and_many_turns_are_cut():
    found = read_clauses(["", "Turn left. " * 30])
    assert found.total.tolist() == [1, CLAUSES] and found.numbers[1, :, SIDE].tolist() == [-1] * (CLAUSES - 1) + [0]
    assert found.tokens.dtype == np.uint8
