from embodied_mem import registry


def test_the_street_runs_a_million_steps_per_core_second_and_ten_thousand_alone():
    metrics = registry.get("bench", "street")(quick=True)["metrics"]
    for case in ("town_touchdown", "town_velma"):
        assert metrics[f"{case}_4096_steps_per_core_second"]["mean"] >= 1_000_000
        assert metrics[f"{case}_single_steps_per_core_second"]["mean"] >= 10_000
