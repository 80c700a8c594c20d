"""The navigation comparison: its tasks, its cells on disk, and its table."""

import numpy as np

from embodied_mem.evaluation.casting import make_env
from embodied_mem.experiments import tables
from embodied_mem.experiments.navigation.plan import MAP, PLAYERS, SETTINGS, Setting
from embodied_mem.experiments.navigation.run import main
from embodied_mem.files import read_json


def test_settings_make_the_environments_they_name():
    assert len({item.name for item in SETTINGS}) == len(SETTINGS) and len({item.name for item in PLAYERS}) == len(
        PLAYERS
    )
    for setting in (Setting("small", 1), Setting("small", 5, 2)):
        (task,) = setting.suite().tasks
        env = make_env(task, 1)
        env.reset(seed=0)
        if setting.goals > 1:
            sequence = env.unwrapped.sequence[0]
            assert len(sequence) == 5 and len(np.unique(sequence)) == 2
        env.close()


def test_cells_are_kept_and_the_map_stands_first(tmp_path):
    words = ["--players", f"{MAP}|random", "--settings", "small, 1 goal", "--episodes", "4"]
    words += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]
    main(words)
    first = read_json(tmp_path / "found.json")
    cell = first["tasks"]["small, 1 goal"]
    assert (
        cell["metrics"]["success"]["n"] == 4 and "random" in cell["controls"] and f"{MAP}, wiped:20" in cell["controls"]
    )
    stamp = (tmp_path / "work" / "random" / "small-1-goal" / "result.json").stat().st_mtime_ns
    main(words)
    assert read_json(tmp_path / "found.json")["tasks"] == first["tasks"]
    assert (tmp_path / "work" / "random" / "small-1-goal" / "result.json").stat().st_mtime_ns == stamp
    assert "small, 1 goal" in tables.render(first)
