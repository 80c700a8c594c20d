"""``bench learn``: the keys it prints, and that a score comes from episodes the agent was not trained on."""

from embodied_mem.experiments.bench.learn import CASES, Case, bench_learn


def test_every_case_has_a_name_of_its_own_and_the_goal_of_its_score():
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.score for case in CASES} == {"return", "success"}


def test_it_says_how_many_seeds_reached_the_goal():
    easy = Case("easy", "tmaze", "TMaze-v0:passive-50", "success", 0.0, {"stop.iterations": 1})
    hard = Case("hard", "repeat-previous", "RepeatPrevious-v0:easy", "return", 0.99, {"stop.iterations": 1})
    result = bench_learn(quick=True, cases=(easy, hard))
    metrics = result["metrics"]
    assert metrics["easy_seeds_solved"]["mean"] == 1 and metrics["hard_seeds_solved"]["mean"] == 0
    assert metrics["hard_return"]["mean"] < 0.5 and metrics["hard_cpu_seconds"]["mean"] > 0
    assert any("hard: 0 of 1 seeds" in note for note in result["notes"])
    assert (result["command"], result["name"], result["seeds"]) == ("bench", "learn", [0])
