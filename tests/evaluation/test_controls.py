"""Controls do what they say, shown by agents whose behaviour depends on their state."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embodied_mem.errors import UsageError
from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.controls import parse_control
from embodied_mem.evaluation.controls.shuffled import derangement
from embodied_mem.policies.rows import replace_rows, take_rows, why_not_rows


def test_each_control_costs_exactly_what_it_takes_away(fake):
    result = evaluate(fake.Rememberer(), fake.suite(length=6), controls=True)
    assert result["metrics"]["success"]["mean"] == 1.0 and result["metrics"]["return"]["mean"] == 6.0
    wiped = result["controls"]["wiped:3"]
    assert wiped["return"]["mean"] == wiped["return"]["low"] == 3.0, "the state must survive three steps and no more"
    assert wiped["success"]["mean"] == 0.0 and wiped["return_drop"]["mean"] == 3.0
    shuffled = result["controls"]["shuffled"]
    assert shuffled["success"]["mean"] == 0.0
    assert 1.0 <= shuffled["return"]["mean"] < 2.5, "the first step is read before any exchange"
    assert result["controls"]["oracle"]["success"]["mean"] == 1.0


def test_wiping_counts_steps_of_the_episode_not_of_the_row(fake):
    suite = fake.suite(length=4, vary=3)
    result = evaluate(fake.Rememberer(), suite, controls=["wiped:5"])
    lengths = result["controls"]["wiped:5"]["length"]["mean"]
    returns = result["controls"]["wiped:5"]["return"]["mean"]
    assert lengths > returns > 4.0
    unwiped = evaluate(fake.Rememberer(), suite, controls=["wiped:7"])
    assert unwiped["controls"]["wiped:7"]["success"]["mean"] == 1.0


def test_an_agent_without_local_memory_reports_null_and_why(fake):
    result = evaluate(fake.Guesser(), fake.suite(), controls=True)
    assert result["controls"]["wiped:3"] is None and result["controls"]["shuffled"] is None
    assert result["controls"]["oracle"]["success"]["mean"] == 1.0
    assert "wiped:3 is null: the agent keeps no local memory state" in result["notes"]


def test_a_state_that_is_not_rows_reports_null_and_why(fake):
    class Session(fake.Rememberer):
        def initial_state(self, n, seed=None):
            return {"session": "abc"}

        def act(self, obs, state, reset, privileged=None):
            return np.zeros(len(reset), np.int64), state, {}

    result = evaluate(Session(), fake.suite(), controls=["shuffled"])
    assert result["controls"]["shuffled"] is None
    assert any("holds a str" in note for note in result["notes"])


def test_an_untrained_agent_has_no_twin_without_memory(fake):
    result = evaluate(fake.Rememberer(), fake.suite(), controls=["none"])
    assert result["controls"]["none"] is None and any("--none DIR" in note for note in result["notes"])


def test_shuffling_needs_partners(fake):
    with pytest.raises(UsageError, match="at least 8 rows"):
        evaluate(fake.Rememberer(), fake.suite(), controls=["shuffled"], num_envs=4)
    few = evaluate(fake.Rememberer(), fake.suite(), controls=["shuffled"], episodes=3)
    assert few["config"]["num_envs"] == 8 and few["controls"]["shuffled"]["success"]["n"] == 3


@pytest.mark.parametrize("text", ["wiped", "wiped:0", "wiped:x", "wiped:", "shuffled:3", "none:1", "wipe:3"])
def test_malformed_controls_are_refused(text):
    with pytest.raises(UsageError):
        parse_control(text)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_a_derangement_moves_every_row(n, seed):
    drawn = derangement(n, np.random.default_rng(seed))
    assert sorted(drawn) == list(range(n)) and not (drawn == np.arange(n)).any()


def nested(values):
    return {"a": torch.tensor(values), "b": ({"c": np.array(values)[:, None]}, torch.tensor(values) * 2)}


def test_row_operations_reach_every_leaf():
    state, fresh = nested([1.0, 2.0, 3.0]), nested([0.0, 0.0, 0.0])
    taken = take_rows(state, np.array([2, 0, 1]))
    assert taken["a"].tolist() == [3.0, 1.0, 2.0] and taken["b"][0]["c"][:, 0].tolist() == [3.0, 1.0, 2.0]
    mixed = replace_rows(state, fresh, np.array([False, True, False]))
    assert mixed["a"].tolist() == [1.0, 0.0, 3.0] and mixed["b"][1].tolist() == [2.0, 0.0, 6.0]


def test_wiping_cures_a_state_that_is_not_a_number():
    state = {"a": torch.tensor([[float("nan")], [1.0]])}
    wiped = replace_rows(state, {"a": torch.zeros(2, 1)}, np.array([True, False]))
    assert wiped["a"].flatten().tolist() == [0.0, 1.0]


def test_states_are_judged_by_their_rows():
    assert why_not_rows({"a": np.zeros((3, 2))}, 3) is None
    assert "no local memory" in why_not_rows({}, 3)
    assert "expected 3 rows" in why_not_rows({"a": np.zeros((2, 2))}, 3)
