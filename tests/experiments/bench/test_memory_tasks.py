from embodied_mem import registry


def test_every_task_is_measured_and_fast():
    metrics = registry.get("bench", "memory_tasks")(quick=True)["metrics"]
    rates = {name: item["mean"] for name, item in metrics.items() if name.endswith("_steps_per_core_second")}
    # Half of the targets: short spans on a busy machine are noisy.
    floors = {name: 5e4 if "pixels" in name else 5e5 for name in rates}
    assert len(rates) >= 25 and all(rate >= floors[name] for name, rate in rates.items()), rates
