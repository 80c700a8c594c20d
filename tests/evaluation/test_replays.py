"""A success and a typical failure are traced beside the first episodes, as they were played."""

from dataclasses import replace

import numpy as np
import pytest

from embodied_mem.evaluation import evaluate
from embodied_mem.evaluation.replays import Outcomes
from embodied_mem.files import read_json, read_jsonl


def sloppy(fake, wrong):
    """An agent that forgets the cue at the third step of the episodes whose cue is `wrong` of."""

    class Sloppy(fake.Rememberer):
        def act(self, obs, state, reset, privileged=None):
            action, state, info = super().act(obs, state, reset, privileged)
            forgets = (obs["vector"][:, 1] == 2) & wrong(action)
            return np.where(forgets, 0, action), state, info

    return Sloppy()


@pytest.mark.parametrize("limit", [1, 2])
def test_what_is_missing_among_the_first_is_played_again(fake, tmp_path, limit):
    suite = replace(fake.suite(vary=9), outcomes=True)
    evaluate(sloppy(fake, lambda cue: cue % 3 == 0), suite, controls=["wiped:3"], out=tmp_path, traces=limit)
    rows = [row for row in read_jsonl(tmp_path / "episodes.jsonl") if row["condition"] == "agent"]
    success = {row["episode"]: row["metrics"]["success"] for row in rows}
    assert 0 < sum(success.values()) < len(rows)
    traced = [read_json(path) for path in sorted((tmp_path / "traces").glob("*.json"))]
    agent = {facts["record"]["episode"]: facts for facts in traced if facts["record"]["condition"] == "agent"}
    extra = set(agent) - set(range(limit))
    assert {success[number] for number in agent} == {0.0, 1.0} and len(extra) <= 2
    for number in extra:
        assert all(success[first] != success[number] for first in range(limit))
        record, array = agent[number]["record"], agent[number]
        (path,) = (tmp_path / "traces").glob(f"*agent*-e{number}.npz")
        played = np.load(path)["action"]
        assert len(played) == record["length"] and played[1] == array["map"]["cue"]
        assert (played[2] == 0) == (success[number] == 0.0)
        assert [step["t"] for step in array["steps"]] == list(range(record["length"] + 1))
    failures = sorted(row["length"] for row in rows if row["metrics"]["success"] == 0.0)
    for number in extra:
        if success[number] == 0.0:
            assert agent[number]["record"]["length"] == failures[len(failures) // 2]


def test_suites_that_do_not_ask_get_the_first_ones_only(fake, tmp_path):
    evaluate(sloppy(fake, lambda cue: cue % 3 == 0), fake.suite(), out=tmp_path, traces=1)
    assert len(list((tmp_path / "traces").glob("*.json"))) == 1


def test_nothing_is_chosen_where_all_end_alike():
    outcomes = Outcomes()
    for number in range(4):
        outcomes.keep({"episode": number, "length": 5, "metrics": {"success": 1.0}}, np.zeros(5))
    assert outcomes.chosen(1) == [] and len(outcomes.chosen(0)) == 1
