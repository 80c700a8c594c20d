import json

import pytest

from embodied_mem.experiments.training import train
from embodied_mem.policies.training import sweep as sweep_module

pytestmark = pytest.mark.usefixtures("local_ray")


def test_every_combination_and_seed_is_a_run(cli, tiny, tmp_path, rows):
    out = tmp_path / "sweep"
    code, stdout, _ = cli("train", tiny, "stop.iterations=4", "--tune", "lr=1e-3,3e-3", "--out", out, "--json")
    assert code == 0
    result = json.loads(stdout)
    assert set(result["tasks"]) == {"lr=0.001", "lr=0.003"} and result["notes"][0].startswith("best: lr=0.00")
    for value in (0.001, 0.003):
        for seed in (0,):
            folder = out / f"lr={value}" / f"seed{seed}"
            assert len(rows(folder)) == 4 and (folder / "agent" / "agent.json").is_file()
            stored = json.loads((folder / "config.json").read_text())
            assert stored["config"]["train"]["lr"] == value and stored["seed"] == seed
        assert (out / f"lr={value}" / "result.json").is_file()
    assert sorted(path.name for path in out.iterdir()) == ["lr=0.001", "lr=0.003", "result.json"]


def test_wrong_values_are_found_before_the_first_trial(tiny, tmp_path):
    from embodied_mem.errors import UsageError

    with pytest.raises(UsageError, match="did you mean 'gru'"):
        train(tiny, out=tmp_path / "s", tune={"agent.memory": ["gru", "gruu"]})
    assert not (tmp_path / "s").exists()


def test_a_failed_trial_leaves_the_finished_ones(tiny, tmp_path, monkeypatch):
    from embodied_mem.errors import UsageError

    out = tmp_path / "s"
    # a file stands where this combination wants its folder of seed 0
    original = sweep_module.write_run

    def blocking(folder, *values):
        original(folder, *values)
        if folder.name == "lr=0.002":
            (folder / "seed0").write_text("in the way")

    monkeypatch.setattr(sweep_module, "write_run", blocking)
    with pytest.raises(UsageError, match="1 of 2 trials failed; 1 combinations are complete"):
        train(tiny, out=out, tune={"lr": [0.001, 0.002]}, **{"stop.iterations": 2})
    assert (out / "lr=0.001" / "result.json").is_file() and not (out / "lr=0.002" / "result.json").exists()
    assert not (out / "result.json").exists()
