"""Intervals: known values, coverage, and the properties that hold for any data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.errors import UsageError
from embodied_mem.evaluation import statistics
from embodied_mem.evaluation.statistics import bootstrap, iqm, mean, summarise, summarise_difference, wilson


def test_wilson_matches_the_closed_form():
    z, n, p = 1.959963984540054, 40, 0.8
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert wilson(32, 40) == pytest.approx((centre - half, centre + half))


def test_wilson_is_not_degenerate_at_the_ends():
    assert wilson(0, 200)[1] == pytest.approx(0.0188, abs=1e-3)
    assert wilson(200, 200)[0] == pytest.approx(0.9812, abs=1e-3)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (3, 2), (-1, 5)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(UsageError, match="successes"):
        wilson(successes, n)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_its_rate_and_narrows(counts):
    successes, n = counts
    low, high = wilson(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0
    wider = wilson(successes, n)
    narrower = wilson(successes * 4, n * 4)
    assert narrower[1] - narrower[0] < wider[1] - wider[0]


def test_iqm_ignores_outliers():
    assert float(iqm(np.array([-1e6, 1.0, 2.0, 3.0, 2.0, 1e6, 2.0, 2.0]))) == pytest.approx(2.0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), st.lists(st.floats(-5, 5), min_size=2, max_size=40))
def test_bootstrap_lies_within_the_data(first, second):
    low, high = bootstrap([[np.array(first), np.array(second)]], mean)
    values = first + second
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_strata_keep_their_shares():
    zeros, ones = np.zeros(30), np.ones(30)
    assert bootstrap([[zeros, ones]], mean) == (0.5, 0.5)
    pooled = bootstrap([[np.concatenate([zeros, ones])]], mean)
    assert pooled[0] < 0.45 and pooled[1] > 0.55


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    hits = 0
    for trial in range(100):
        low, high = bootstrap([[rng.normal(1.0, 2.0, 60)]], mean, seed=trial)
        hits += low <= 1.0 <= high
    assert 87 <= hits <= 100


def test_the_same_numbers_give_the_same_interval(monkeypatch):
    values = np.random.default_rng(0).normal(size=500)
    whole = bootstrap([[values]], iqm)
    assert whole == bootstrap([[values]], iqm)
    monkeypatch.setattr(statistics, "_CHUNK_VALUES", 50_000)
    assert bootstrap([[values]], iqm) == pytest.approx(whole, abs=0.02)


def test_rate_of_one_agent_is_wilson():
    found = summarise([[np.array([1.0, 1.0, 0.0, 1.0])]], "rate")
    assert (found["mean"], found["n"], found["interval"]) == (0.75, 4, "wilson95")
    assert (found["low"], found["high"]) == pytest.approx(wilson(3, 4))


def test_disagreeing_checkpoints_widen_the_interval():
    good, bad = np.ones(200), np.zeros(200)
    spread = summarise([[good], [bad], [good]], "rate")
    pooled = wilson(400, 600)
    assert spread["interval"] == "bootstrap95_mean_checkpoints"
    assert spread["low"] < pooled[0] - 0.1 and spread["high"] > pooled[1] + 0.1


def test_perfect_checkpoints_keep_a_width():
    found = summarise([[np.ones(100)], [np.ones(100)], [np.ones(100)]], "rate")
    assert found["high"] == 1.0 and found["low"] == pytest.approx(wilson(300, 300)[0])


def test_checkpoints_of_unequal_size():
    found = summarise([[np.ones(10)], [np.zeros(30)]], "mean")
    assert found["mean"] == pytest.approx(0.25) and found["low"] == 0.0 and found["high"] == 1.0


@pytest.mark.parametrize("kind", ["rate", "mean", "iqm"])
def test_no_values_and_one_value(kind):
    assert summarise([[]], kind)["mean"] is None and summarise([], kind)["n"] == 0
    single = summarise([[np.array([1.0])]], kind)
    assert single["mean"] == 1.0 and (single["low"] is None or single["low"] < 0.5)


def test_paired_difference_is_tighter_than_two_separate_intervals():
    rng = np.random.default_rng(1)
    difficulty = rng.normal(0, 5, 200)
    agent, control = difficulty + 1.0 + rng.normal(0, 0.1, 200), difficulty + rng.normal(0, 0.1, 200)
    paired = summarise_difference([[agent - control]])
    alone = summarise([[agent]], "mean")
    assert paired["low"] > 0.9 and paired["interval"] == "paired_bootstrap95_mean"
    assert paired["high"] - paired["low"] < 0.1 * (alone["high"] - alone["low"])
