"""Suites name environments that exist, one task per level, with facts that their metric families understand."""

import numpy as np
import pytest

from embodied_mem import registry
from embodied_mem.envs import ENVIRONMENTS
from embodied_mem.errors import UsageError
from embodied_mem.evaluation import Task, evaluate, load_suite
from embodied_mem.evaluation.controls import parse_control
from embodied_mem.evaluation.families import FAMILIES
from embodied_mem.evaluation.suite import narrow

SUITES = registry.names("suite")
HOUSE = [name for name in SUITES if name.startswith("house-")]


def test_the_promised_suites_are_there():
    promised = {
        "probes",
        "popgym",
        "house-hide-and-recall",
        "house-rewrite",
        "house-object-nav",
        "house-multi-object-nav",
        "house-instruction-following",
    }
    promised |= {"touchdown", "map2seq", "indoor-vln"}
    assert promised <= set(SUITES)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_is_complete(name):
    suite = load_suite(name)
    assert suite.name == name and suite.tasks and suite.about
    assert len({task.name for task in suite.tasks}) == len(suite.tasks)
    for control in suite.controls:
        parse_control(control)
    for task in suite.tasks:
        assert task.family in FAMILIES and suite.split in task.splits


def test_popgym_suite_plays_every_game_by_its_rules_and_the_oracle_solves_them():
    suite = load_suite("popgym")
    rules = {item.id for item in ENVIRONMENTS if item.summary.endswith("(POPGym's rules)")}
    assert {task.env for task in suite.tasks} == rules and len(suite.tasks) == 3 * len(rules)
    tasks = [f"{name}-v0:easy" for name in ("Concentration", "Battleship", "LabyrinthEscape", "PositionOnlyPendulum")]
    metrics = evaluate("oracle", "popgym", tasks=tasks, episodes=4)["metrics"]
    assert metrics["success"]["mean"] == 1.0 and metrics["success"]["n"] == 16


@pytest.mark.parametrize("name", HOUSE)
def test_house_suites_play_every_level_and_disjoint_splits(name):
    from gymnasium.envs.registration import load_env_creator

    from embodied_mem.envs.make import find_spec

    suite = load_suite(name)
    levels = load_env_creator(find_spec(suite.tasks[0].env).vector_entry_point).levels
    assert [task.kwargs["level"] for task in suite.tasks] == list(range(len(levels)))
    assert suite.split == "test" and {task.splits["test"]["split"] for task in suite.tasks} == {"test"}
    for task, level in zip(suite.tasks, levels):
        if task.chance is not None:
            known = np.exp(1 - level.landmarks) if hasattr(level, "landmarks") else 1 / level.containers
            assert task.chance == pytest.approx(known)


@pytest.mark.parametrize("name", HOUSE)
def test_house_suites_are_playable(name, tmp_path):
    options = {"houses": 2, "max_steps": 20} if "nav" in name or "instruction" in name else {"houses": 2}
    result = evaluate("random", name, tasks=["level-0"], episodes=4, env_options=options, out=tmp_path, traces=1)
    metrics = result["metrics"]
    sequence = {"progress", "ppl", "ppl_total", "found"}
    expected = sequence if "multi" in name else {"sr", "osr", "soft_spl", "dtg", "dts"}
    expected = sequence | {"ndtw", "sdtw", "cls", "ne"} if "instruction" in name else expected
    assert expected | {"success", "spl", "return", "length"} <= set(metrics)
    assert metrics["success"]["n"] == 4 and 0.0 <= metrics["spl"]["mean"] <= metrics["success"]["mean"] <= 1.0
    trace = next((tmp_path / "traces").glob("*.npz"))
    assert np.load(trace)["rgb"].shape[1:] == (128, 128, 3), "reports show a picture where the agent has no camera"


def test_cameras_of_the_agent_are_left_as_they_are():
    from embodied_mem.evaluation.casting import with_options
    from embodied_mem.evaluation.sources import Source

    source = Source(
        "a", {}, lambda task, env: None, about={"env_config": {"sensors": ["rgb"], "width": 84, "level": 3}}
    )
    suite = with_options(load_suite("house-object-nav"), [source], {})
    assert suite.tasks[0].kwargs == {"level": 0, "sensors": ["rgb"], "width": 84}


def test_narrowing():
    suite = load_suite("house-rewrite")
    train = narrow(suite, tasks=["level-1"], split="train")
    assert [task.variant for task in train.tasks] == ["level-1"] and train.tasks[0].kwargs["split"] == "train"
    with pytest.raises(UsageError, match="did you mean 'test'"):
        narrow(suite, split="tset")


def test_facts_that_are_missing_are_named():
    with pytest.raises(UsageError, match="reports no 'found'.*it reports success"):
        FAMILIES["multion"].score({"success": True}, Task("X-v0", "multion"))


def test_padding_of_legs_is_ignored():
    facts = {"leg_geodesics": np.array([2.0, 3.0, np.nan]), "found": 1, "path_at_last_found": 2.0, "path_length": 4.0}
    scores = FAMILIES["multion"].score(facts, Task("X-v0", "multion"))
    assert scores["progress"] == 0.5 and scores["ppl"] == 0.5 and scores["ppl_total"] == 0.25
