"""Comparison of texts and numbers."""

import pytest

from embodied_mem.stream.qa.texts import anls, edits, mean_relative_accuracy, one_number, token_f1, yes_or_no


def test_mean_relative_accuracy_has_ten_exact_thresholds():
    assert mean_relative_accuracy(2, 2) == 1 and mean_relative_accuracy(1.3, 1) == 0.5
    assert mean_relative_accuracy(0.7, 1) == 0.5, "0.3 is not above 0.3, whatever floats say"
    assert [mean_relative_accuracy(1 + n / 100, 1) for n in (5, 6, 10, 50, 51)] == [1, 0.9, 0.9, 0.1, 0]
    assert mean_relative_accuracy(0, 0) == 1 and mean_relative_accuracy(1, 0) == 0
    assert mean_relative_accuracy(-1, 1) == 0


def test_words_and_characters():
    assert token_f1("a red cup", "the cup is red") == pytest.approx(0.8)
    assert token_f1("", "cup") == 0 and token_f1("the", "a") == 1
    assert anls("cup", "cups") == 0.75 and anls("dog", "cup") == 0 and edits("kitten", "sitting") == 3


@pytest.mark.parametrize(
    "text, number",
    [("4", 4), ("about -2.5 m", -2.5), ("1,200 steps", 1200), ("two", 2), ("2 or 3", None), ("2 and 2", 2), ("", None)],
)
def test_numbers(text, number):
    assert one_number(text) == number


@pytest.mark.parametrize(
    "text, word",
    [("Yes.", "yes"), ("no, yes", "no"), ("I think yes", "yes"), ("maybe yes, maybe no", None), ("none", None)],
)
def test_yes_or_no(text, word):
    assert yes_or_no(text) == word
