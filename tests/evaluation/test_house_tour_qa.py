import json

import numpy as np
import pytest

from embodied_mem import registry
from embodied_mem.cli.app import run as command
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.memory_sizes import SIZES, fit
from embodied_mem.evaluation.question_suite import load_question_suite
from embodied_mem.evaluation.question_suites import house_tour_qa as suite
from embodied_mem.evaluation.question_suites.house_tour_qa import NAME, history_bytes
from embodied_mem.perception.house_words import WIDTH
from embodied_mem.stream.house_tour.questions import KINDS
from embodied_mem.stream.house_tour.tours import LENGTHS

OPTIONS = {"memory": ["uniform", "last_k"], "each": 1, "bytes": 20_000}


def run(**given):
    return load_question_suite(NAME).run(
        **{"tasks": ["short"], "episodes": 2, "seeds": [0], "options": OPTIONS, **given}
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("qa") / "run"
    return out, run(out=out, controls=True)


def test_memories_and_controls_answer_the_same_questions(folder):
    out, result = folder
    short = result["tasks"]["short"]
    names = {"last_k", "blind", "last_frame", "full_history", "oracle", "wiped:60", "shuffled"}
    assert set(short["controls"]) == set(result["controls"]) == names
    counts = {column["success"]["n"] for column in (short["metrics"], *short["controls"].values())}
    assert len(counts) == 1 and short["episodes"] == 2
    streams, cells = (
        [json.loads(line) for line in (out / file).read_text().splitlines()]
        for file in ("streams.jsonl", "cells.jsonl")
    )
    assert counts == {sum(len(row["questions"]) for row in streams)}
    assert len(cells) == len(streams) * (len(names) + 1)
    for cell in cells:
        asked = streams[cell["stream"]]["questions"]
        assert len(cell["choice"]) == len(asked)
        for q, c in zip(asked, cell["choice"]):
            assert q["kind"] in KINDS and 0 <= q["answer"] < len(q["options"])
            assert c is None or 0 <= c < len(q["options"])
    assert all(f"success_{kind}" in short["metrics"] for kind in KINDS)
    assert short["controls"]["blind"]["tokens"]["mean"] == 0 and short["controls"]["last_frame"]["tokens"]["mean"] == 1
    for stage in ("decode", "encode", "write", "retrieve", "answer"):
        assert short["metrics"][f"{stage}_ms"]["mean"] > 0, stage
    assert short["metrics"]["success"]["interval"] == "bootstrap95_mean_streams"
    json.dumps(result, allow_nan=False)


def test_what_was_done_is_not_done_again(folder):
    out, result = folder
    again = run(out=out, controls=True, resume=True)
    assert again["metrics"] == result["metrics"] and again["controls"] == result["controls"]
    with pytest.raises(UsageError, match="resume"):
        run(out=out, controls=True)
    with pytest.raises(UsageError, match="other options"):
        run(out=out, controls=True, resume=True, options={**OPTIONS, "each": 2})


def test_a_killed_run_goes_on_with_the_first_missing_cell(folder, tmp_path, monkeypatch):
    _, result = folder
    real, done = suite.measure, []

    def measure(stream, name, nbytes, answerer):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append((stream.key, name))
        return real(stream, name, nbytes, answerer)

    monkeypatch.setattr(suite, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        run(out=tmp_path / "k", controls=True)
    monkeypatch.setattr(suite, "measure", lambda s, n, b, a: (done.append((s.key, n)), real(s, n, b, a))[1])
    again = run(out=tmp_path / "k", controls=True, resume=True)
    assert len(done) == len(set(done)) == 2 * 8
    assert again["tasks"]["short"]["metrics"]["success"] == result["tasks"]["short"]["metrics"]["success"]


def test_a_length_is_drawn_once_for_its_tasks(tmp_path, monkeypatch):
    monkeypatch.setitem(LENGTHS, "long", (150, 2))
    options = {"memory": ["last_k", "hippomm"], "each": 1, "bytes": 40_000}
    result = run(tasks=["long", "long_tight"], episodes=1, controls=True, out=tmp_path, options=options)
    wide, tight = (result["tasks"][name] for name in ("long", "long_tight"))
    assert tight["metrics"]["tokens"]["mean"] == 1 < wide["metrics"]["tokens"]["mean"]
    assert tight["controls"]["full_history"]["success"] == wide["controls"]["full_history"]["success"]
    assert any(note.startswith("long_tight: hippomm is left out") for note in result["notes"])
    assert any("full history - blind" in note for note in result["notes"])
    assert {"success_long", "success_long_tight"} <= set(result["metrics"])


def test_shards_make_the_whole(folder, tmp_path):
    _, result = folder
    run(out=tmp_path / "s", controls=True, shard="0/2")
    assert not (tmp_path / "s" / "result.json").exists()
    whole = run(out=tmp_path / "s", controls=True, shard="1/2")
    for name in ("success", "bytes", "tokens"):
        assert whole["tasks"]["short"]["metrics"][name] == result["tasks"]["short"]["metrics"][name]
    assert (tmp_path / "s" / "result.json").exists()


@pytest.mark.parametrize("name", sorted(SIZES))
def test_sizes_fill_the_bytes_and_do_not_exceed_them(name):
    nbytes = history_bytes(360)
    memory, bound = fit(name, nbytes, 1, WIDTH)
    assert 0.5 * nbytes < bound <= nbytes
    draw = np.random.default_rng(0)
    for t in range(600):
        memory.write(draw.random((1, WIDTH), np.float32), float(t))
    assert 0 < memory.nbytes() <= bound


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="smallest"):
        fit("hippomm", 1000, 1, WIDTH)
    with pytest.raises(UsageError, match="at most"):
        fit("full_history", 10**6, 1, WIDTH)
    assert set(SIZES) <= set(registry.names("stream_memory"))


def test_wrong_words_are_refused(tmp_path):
    for wrong in ({"tasks": ["eternal"]}, {"split": "dev"}, {"shard": "2/2"}, {"options": {"read": "upside down"}},
                  {"options": {"memory": ["no_such_memory"]}}, {"options": {"answerer": "rule"}}):  # fmt: skip
        with pytest.raises(UsageError):
            run(**wrong)


def test_the_command_line_runs_it(tmp_path, capsys):
    words = [
        "eval",
        NAME,
        "--task",
        "short",
        "--episodes",
        "1",
        "--each",
        "1",
        "--memory",
        "uniform",
        "--memory",
        "last_k",
    ]
    assert command([*words, "--bytes", "20000", "--out", str(tmp_path / "o"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["command"] == "eval" and result["config"]["memories"] == ["uniform", "last_k"]
    assert command(["eval", NAME, "--agent", "random"]) == 2
    assert command(["list", "suites", "--json"]) == 0
    assert NAME in {row["name"] for row in json.loads(capsys.readouterr().out)}
