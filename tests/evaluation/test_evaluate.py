"""Evaluation: episodes are assigned, records survive a kill, shards merge, and bad input is refused before play."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.evaluation import Suite, Task, evaluate
from embodied_mem.evaluation.plan import block_size
from embodied_mem.files import read_json, read_jsonl

IGNORED = ("seconds", "env_steps", "out", "notes")


def outcome(result):
    return {key: value for key, value in result.items() if key not in IGNORED}


def played(folder, condition="agent"):
    rows = [row for row in read_jsonl(folder / "episodes.jsonl") if row["condition"] == condition]
    return {(row["seed"], row["episode"]): row["length"] for row in rows}


def test_every_condition_plays_the_same_episodes_once(fake, tmp_path):
    evaluate(fake.Rememberer(), fake.suite(vary=9), controls=True, seeds=(0, 5), out=tmp_path)
    agent = played(tmp_path)
    assert len(agent) == 48 and len(set(agent.values())) > 5
    for control in ("wiped:3", "shuffled", "oracle"):
        assert played(tmp_path, control) == agent
    rows = Counter((row["condition"], row["seed"], row["episode"]) for row in read_jsonl(tmp_path / "episodes.jsonl"))
    assert set(rows.values()) == {1}


def test_episodes_do_not_depend_on_the_number_of_rows(fake, tmp_path):
    for rows in (1, 7, 24):
        evaluate(fake.Rememberer(), fake.suite(vary=9), num_envs=rows, out=tmp_path / str(rows))
    assert played(tmp_path / "1") == played(tmp_path / "7") == played(tmp_path / "24")


def test_another_seed_is_another_episode_set(fake, tmp_path):
    for seed in (0, 1):
        evaluate(fake.Rememberer(), fake.suite(vary=9), seeds=(seed,), out=tmp_path / str(seed))
    first, second = played(tmp_path / "0"), played(tmp_path / "1")
    assert [first[0, e] for e in range(24)] != [second[1, e] for e in range(24)]


class Killed(Exception):
    pass


@pytest.mark.parametrize("agent", ["Rememberer", "Guesser"])
@pytest.mark.parametrize("after", [1, 13, 40])
def test_a_killed_run_resumes_to_the_same_files(fake, tmp_path, agent, after):
    suite, options = fake.suite(vary=9), {"controls": ["wiped:3", "shuffled"], "seeds": (0, 1), "num_envs": 8}
    whole = evaluate(getattr(fake, agent)(), suite, out=tmp_path / "whole", **options)

    def kill(done, total, label):
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        evaluate(getattr(fake, agent)(), suite, out=tmp_path / "cut", progress=kill, **options)
    with open(tmp_path / "cut" / "episodes.jsonl", "a") as stream:
        stream.write('{"task": "torn')
    resumed = evaluate(getattr(fake, agent)(), suite, out=tmp_path / "cut", resume=True, **options)
    assert outcome(resumed) == outcome(whole)
    for name in ("episodes.jsonl", "config.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_resuming_a_finished_run_plays_nothing(fake, tmp_path):
    first = evaluate(fake.Rememberer(), fake.suite(), out=tmp_path)
    again = evaluate(fake.Rememberer(), fake.suite(), out=tmp_path, resume=True)
    assert outcome(again) == outcome(first) and again["env_steps"] == 0


@pytest.mark.parametrize("agent", ["Rememberer", "Guesser"])
def test_shards_merge_to_the_unsharded_run(fake, tmp_path, agent):
    suite, options = fake.suite(vary=9), {"controls": ["wiped:3", "shuffled"], "seeds": (0, 1, 2), "num_envs": 8}
    whole = evaluate(getattr(fake, agent)(), suite, out=tmp_path / "whole", **options)
    parts = [
        evaluate(getattr(fake, agent)(), suite, out=tmp_path / "cut", shard=f"{i}/3", **options) for i in (2, 0, 1)
    ]
    assert [part["out"].endswith("of-3") for part in parts] == [True, True, False]
    assert outcome(parts[-1]) == outcome(whole)
    assert read_json(tmp_path / "cut" / "result.json")["metrics"] == whole["metrics"]
    assert (tmp_path / "cut" / "episodes.jsonl").read_bytes() == (tmp_path / "whole" / "episodes.jsonl").read_bytes()
    names = {path.name for path in (tmp_path / "whole" / "traces").iterdir()}
    assert names and names == {path.name for path in (tmp_path / "cut" / "traces").iterdir()}


def test_traces_hold_what_a_report_needs(fake, tmp_path):
    evaluate(fake.Rememberer(), fake.suite(length=5), controls=["wiped:3"], out=tmp_path, traces=2)
    names = sorted(path.name for path in (tmp_path / "traces").glob("*.json"))
    assert len(names) == 4
    facts = read_json(tmp_path / "traces" / names[0])
    arrays = np.load(tmp_path / "traces" / names[0].replace(".json", ".npz"))
    assert facts["record"]["condition"] == "agent" and [step["t"] for step in facts["steps"]] == [0, 1, 2, 3, 4, 5]
    assert arrays["action"].tolist() == [facts["map"]["cue"]] * 5
    assert arrays["reward"].sum() == 5.0 and arrays["vector"].shape == (5, 2)


def test_a_function_is_an_agent(fake):
    result = evaluate(lambda obs: np.zeros(len(obs["vector"]), np.int64), fake.suite())
    assert result["metrics"]["return"]["mean"] == 0.0


def test_a_network_is_an_agent(fake):
    from embodied_mem.agent import AgentConfig, MemoryAgent

    space = fake.Env().single_observation_space
    module = MemoryAgent.build(AgentConfig(memory="gru"), space, fake.Env().single_action_space)
    result = evaluate(module, fake.suite(), controls=["wiped:2"])
    assert result["controls"]["wiped:2"] is not None


def test_an_agent_by_module_and_attribute(fake, tmp_path, monkeypatch):
    text = "import numpy as np\ndef act(obs):\n    return np.abs(obs['vector'][:, 0]).astype(int)\n"
    (tmp_path / "my_agent_module.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert evaluate("my_agent_module:act", fake.suite())["metrics"]["return"]["mean"] == pytest.approx(1.0, abs=0.1)


def test_a_registered_name_wins_over_a_folder_of_that_name(fake, tmp_path, monkeypatch):
    (tmp_path / "random").mkdir()
    monkeypatch.chdir(tmp_path)
    assert evaluate("random", fake.suite())["config"]["agents"] == [{"label": "random", "agent": "random"}]
    refuse("which holds none", "./random", fake.suite())


def test_metrics_that_are_undefined_are_left_out_of_the_mean(fake):
    class Silent(fake.Env):
        def _final_info(self):
            return {"success": np.where(self.cue % 2 == 0, np.nan, 1.0)}

    import gymnasium

    gymnasium.register("evaluation_tests/Silent-v0", vector_entry_point=Silent)
    suite = Suite("silent", "some say nothing", (Task("evaluation_tests/Silent-v0", "probe"),), episodes=40)
    found = evaluate(fake.Rememberer(), suite)["metrics"]["success"]
    assert 0 < found["n"] < 40 and found["mean"] == 1.0
    del gymnasium.registry["evaluation_tests/Silent-v0"]


def test_endless_environments_are_cut(fake):
    task = Task(fake.id, "probe", kwargs={"length": 10**9}, max_steps=7)
    result = evaluate(fake.Rememberer(), Suite("endless", "", (task,), episodes=10))
    assert result["metrics"]["length"]["mean"] == 7.0 and result["metrics"]["success"]["n"] == 0


def test_foreign_environments_are_played_by_assigned_episodes(tmp_path):
    suite = Suite("poles", "", (Task("CartPole-v1", "probe"),), episodes=12, num_envs=5)
    evaluate("random", suite, out=tmp_path / "a")
    evaluate("random", suite, out=tmp_path / "b")
    assert (tmp_path / "a" / "episodes.jsonl").read_bytes() == (tmp_path / "b" / "episodes.jsonl").read_bytes()


def refuse(match, *arguments, **options):
    with pytest.raises(UsageError, match=match):
        evaluate(*arguments, **options)


def test_bad_input_is_refused_before_anything_is_written(fake, tmp_path):
    suite = fake.suite()
    refuse("unknown suite 'probe'.*did you mean 'probes'", "random", "probe")
    refuse("unknown agent 'randon'.*did you mean 'random'", "randon", suite)
    refuse("cannot import 'no_such_module'", "no_such_module:agent", suite)
    refuse("has no attribute 'nothing'", "json:nothing", suite)
    refuse("expected an agent with needs_privileged", lambda: object(), suite)
    refuse("expected an agent, a class, a factory or a function", 3, suite)
    refuse("has no task 'x'", "random", suite, tasks=["x"])
    refuse("has no split 'x'", "random", suite, split="x")
    refuse("unknown control 'wipe'", "random", suite, controls=["wipe:3"])
    refuse("has no option 'lenght'", "random", suite, env_options={"lenght": 3})
    for name in ("num_envs", "autoreset_mode", "env_id"):
        refuse(f"'{name}' is no option of the environment", "random", suite, env_options={name: 4})
    refuse("different seeds", "random", suite, seeds=(0, 0))
    refuse("episodes >= 1", "random", suite, episodes=0)
    refuse("expected a shard i/n", "random", suite, shard="3/3", out=tmp_path)
    refuse("output folder", "random", suite, shard="0/3")
    refuse("one agent, or several checkpoints", ["random", "oracle"], suite)
    refuse("CartPole-v1 reports no 'start_distance'", "random", Suite("s", "", (Task("CartPole-v1", "goal_nav"),)))
    assert not any(tmp_path.iterdir())


def test_a_folder_is_neither_overwritten_nor_mixed(fake, tmp_path):
    evaluate(fake.Rememberer(), fake.suite(), out=tmp_path)
    before = (tmp_path / "episodes.jsonl").read_bytes()
    refuse("holds an evaluation already", fake.Rememberer(), fake.suite(), out=tmp_path)
    refuse(
        "started with episodes = 24, now 25", fake.Rememberer(), fake.suite(), out=tmp_path, resume=True, episodes=25
    )
    refuse("kwargs.length = null, now 9", fake.Rememberer(), fake.suite(length=9), out=tmp_path, resume=True)
    assert (tmp_path / "episodes.jsonl").read_bytes() == before
    (tmp_path / "episodes.jsonl").write_text('{"task": 1}\n{"broken\n{"task": 1}\n')
    refuse("not valid JSON", fake.Rememberer(), fake.suite(), out=tmp_path, resume=True)
    (tmp_path / "episodes.jsonl").write_text('{"task": 1}\n')
    refuse("lacks 'condition'", fake.Rememberer(), fake.suite(), out=tmp_path, resume=True)
    (tmp_path / "episodes.jsonl").write_text("3\n")
    refuse("line 1: expected a JSON object, got int", fake.Rememberer(), fake.suite(), out=tmp_path, resume=True)


def test_shards_of_different_evaluations_do_not_merge(fake, tmp_path):
    suite, folder, first = fake.suite(), tmp_path / "out", {"shard": "0/2", "num_envs": 2}
    evaluate(fake.Rememberer(), suite, out=folder, **first)
    second = {"shard": "1/2", "num_envs": 2}
    refuse("of-2 holds another.*episodes = 24, now 16", fake.Rememberer(), suite, out=folder, episodes=16, **second)
    assert not (folder / "shard-1-of-2").exists()
    evaluate(fake.Rememberer(), suite, out=tmp_path / "other", seeds=(3,), **second)

    def copied(done, total, label):
        """Another machine's shard arrives while this one is played."""
        if not (folder / "shard-1-of-2").exists():
            shutil.copytree(tmp_path / "other" / "shard-1-of-2", folder / "shard-1-of-2")

    shutil.rmtree(folder / "shard-0-of-2")
    arrival = {"out": folder, "progress": copied}
    refuse(r"shard-1-of-2 holds another.*seeds\[0\] = 3, now 0", fake.Rememberer(), suite, **arrival, **first)
    assert not (folder / "episodes.jsonl").exists()


def test_shards_do_not_replace_another_evaluation(fake, tmp_path):
    suite = fake.suite()
    evaluate(fake.Rememberer(), suite, out=tmp_path)
    before = (tmp_path / "episodes.jsonl").read_bytes()
    refuse("holds an evaluation already", fake.Rememberer(), suite, out=tmp_path, shard="0/2")
    refuse("24, now 16", fake.Rememberer(), suite, out=tmp_path, shard="0/2", episodes=16, resume=True)
    (tmp_path / "config.json").unlink()
    refuse("no config.json", fake.Rememberer(), suite, out=tmp_path, shard="0/2", resume=True)
    assert (tmp_path / "episodes.jsonl").read_bytes() == before and not list(tmp_path.glob("shard-*"))


def test_resume_starts_afresh_in_an_empty_folder_only(fake, tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "notes.txt").write_text("mine")
    refuse("holds no config.json of an evaluation but 'notes.txt'", "random", fake.suite(), out=foreign, resume=True)
    assert [item.name for item in foreign.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        assert evaluate("random", fake.suite(), out=tmp_path / name, resume=True)["episodes"] == 24


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"shard": "0/2"}])
def test_a_refused_start_leaves_no_folder_behind(fake, tmp_path, options):
    refuse("expected an agent", "os:getcwd", fake.suite(), out=tmp_path / "deep" / "out", **options)
    assert not any(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    refuse("expected an agent", "os:getcwd", fake.suite(), out=tmp_path / "mine", **options)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    evaluate("random", fake.suite(), out=tmp_path / "mine", **options)


def test_the_result_is_one_json_object_in_the_agreed_shape(fake, tmp_path):
    result = evaluate(fake.Rememberer(), fake.suite(), controls=True, out=tmp_path)
    assert json.loads(json.dumps(result, allow_nan=False)) == read_json(tmp_path / "result.json")
    assert {"command", "name", "version", "config", "seeds", "episodes", "metrics", "controls", "tasks"} <= set(result)
    assert set(result["metrics"]["success"]) == {"mean", "low", "high", "n", "interval"}
    assert result["metrics"]["success"]["interval"] == "wilson95"
    assert result["metrics"]["return_iqm"]["interval"] == "bootstrap95_iqm"
    assert set(result["tasks"][fake.id]["controls"]) == {"wiped:3", "shuffled", "oracle"}


@pytest.mark.parametrize(("episodes", "rows", "expected"), [(200, 64, 200), (1000, 64, 250), (3, 8, 3), (600, 16, 67)])
def test_blocks_are_of_nearly_equal_size(episodes, rows, expected):
    assert block_size(episodes, rows) == expected
