from embodied_mem import registry
from embodied_mem.experiments.bench.probes import CASES


def test_probes_run_a_million_steps_per_core_second():
    result = registry.get("bench", "probes")(quick=True)
    metrics = result["metrics"]
    rates = {name: item["mean"] for name, item in metrics.items() if name.endswith("_4096_steps_per_core_second")}
    assert len(rates) == len(CASES) and min(rates.values()) >= 1e6, rates
    assert {"ratio_repeat_previous_easy_over_popgym", "ratio_repeat_first_easy_over_popgym"} <= set(metrics)
