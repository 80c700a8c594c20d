"""The navigation comparison: its tasks, its cells on disk, and its table."""

import numpy as np

from embodied_mem.evaluation.casting import make_env
from embodied_mem.experiments import tables
from embodied_mem.experiments.navigation.plan import CONTROLLED, CORE, MAP, PLAYERS, SETTINGS, Setting
from embodied_mem.experiments.navigation.run import main, training_seeds, verdicts
from embodied_mem.files import read_json


def test_settings_make_the_environments_they_name():
    assert len({item.name for item in SETTINGS}) == len(SETTINGS) and len({item.name for item in PLAYERS}) == len(
        PLAYERS
    )
    assert {*CONTROLLED, *CORE} <= {item.name for item in SETTINGS}
    for setting in (Setting("small", 1), Setting("small", 5, 2), Setting("small", 3, told=True)):
        (task,) = setting.suite().tasks
        env = make_env(task, 1)
        env.reset(seed=0)
        if setting.goals > 1:
            sequence = env.unwrapped.sequence[0]
            assert len(sequence) == setting.goals and len(np.unique(sequence)) == (setting.kinds or setting.goals)
        env.close()


def test_cells_are_kept_and_the_map_stands_first(tmp_path):
    words = ["--players", f"{MAP}|random", "--settings", "small, 1 goal", "--episodes", "4"]
    words += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]
    main(words)
    first = read_json(tmp_path / "found.json")
    cell = first["tasks"]["small, 1 goal"]
    assert cell["metrics"]["success"]["n"] == 4 and list(cell["controls"]) == ["random"]
    stamp = (tmp_path / "work" / "random" / "small-1-goal" / "result.json").stat().st_mtime_ns
    main([*words, "--minutes", "0"])
    assert read_json(tmp_path / "found.json")["tasks"] == first["tasks"]
    assert (tmp_path / "work" / "random" / "small-1-goal" / "result.json").stat().st_mtime_ns == stamp
    assert "small, 1 goal" in tables.render(first)


def test_a_result_file_keeps_its_rows_without_the_cells_on_disk(tmp_path):
    def words(player, work, episodes="2"):
        found = ["--players", player, "--settings", "small, 1 goal", "--episodes", episodes]
        return [*found, "--work", str(tmp_path / work), "--out", str(tmp_path / "found.json")]

    main(words("random", "one"))
    random = read_json(tmp_path / "found.json")["tasks"]["small, 1 goal"]["controls"]["random"]
    main(words(MAP, "two"))
    both = read_json(tmp_path / "found.json")
    assert both["tasks"]["small, 1 goal"]["controls"] == {"random": random}
    assert both["tasks"]["small, 1 goal"]["metrics"]["spl"]["n"] == 2
    assert "random on" not in both["notes"][-1] and "lstm on 1 tasks" in both["notes"][-1]
    main(words("random", "three", "3"))
    other = read_json(tmp_path / "found.json")["tasks"]["small, 1 goal"]
    assert not other["metrics"] and other["controls"]["random"]["spl"]["n"] == 3


def test_a_verdict_compares_intervals_with_every_sequence_memory():
    def spl(low, high):
        return {"spl": {"mean": (low + high) / 2, "low": low, "high": high}}

    names = [item.name for item in PLAYERS if item.kind == "sequence"]
    cells = {
        "small, 4 goals": {MAP: spl(0.6, 0.8), **{name: spl(0.0, 0.1) for name in names}},
        "large, 5 goals": {MAP: spl(0.3, 0.5), names[0]: spl(0.2, 0.4)},
        "small, 3 goals": {MAP: spl(0.6, 0.8), names[0]: spl(0.0, 0.1)},
    }
    four, five = verdicts(cells)
    assert " apart from" in four and "not apart" not in four and "not played" not in four
    assert "not apart from" in five and f"the highest {names[0]}" in five and "not played" in five


def test_training_seeds_are_told_of_trained_rows_only():
    rows = {MAP: {"spl": {"n": 100}}, "lstm": {"spl": {"n": 300}}, "memo": {"spl": {"n": 100}}}
    found = training_seeds({"small, 4 goals": rows, "large, 4 goals": {MAP: {"spl": {"n": 100}}}}, 100)
    assert found == ["small, 4 goals: training seeds: lstm 3, memo 1"]
