"""The command line: one line and exit code 2 for a user's error, one JSON value on stdout with --json."""

import email.message
import errno
import importlib.metadata
import json
import os
import tomllib
from pathlib import Path

import pytest

from embodied_mem import registry
from embodied_mem._version import __version__
from embodied_mem.cli import app, doctor
from embodied_mem.cli import list as list_command
from embodied_mem.cli.output import emit_rows
from embodied_mem.envs import ENVIRONMENTS


@pytest.mark.parametrize(
    "words", [["nosuch"], ["--nosuch"], ["list"], ["list", "memry"], ["view", "/no/such/folder"], ["bench", "nosuch"]]
)
def test_usage_errors_are_one_line_and_exit_2(words, capfd):
    assert app.run(words) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("error: ")


def test_version(capsys):
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"embodied-mem {__version__}"


@pytest.mark.parametrize("kind", sorted(list_command.LISTERS))
def test_list_prints_one_json_array_of_named_rows(kind, capsys):
    assert app.run(["list", kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows and all(row["name"] for row in rows)
    assert len({row["name"] for row in rows}) == len(rows)


def test_list_memories_holds_the_first_seven(capsys):
    app.run(["list", "memories", "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"none", "lstm", "gru", "min_gru", "gated_delta", "episodic", "hierarchical"} <= set(rows)
    assert rows["gru"]["bytes_per_env"] == 512 and rows["gru"]["fidelity"] == "exact"
    columns = {"name", "family", "source", "bytes_per_env", "macs_per_token", "parallel", "fidelity"}
    assert all(columns == row.keys() for row in rows.values())


def test_list_envs_states_horizon_and_scores_of_every_probe(capsys):
    app.run(["list", "envs", "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    targets = {item.id: item.vector for item in ENVIRONMENTS}
    probes = [row for name, row in rows.items() if ".envs.probes." in targets[name]]
    assert rows["embodied_mem/RepeatPrevious-v0"]["memoryless"]["easy"] == pytest.approx(2 * 13 / 51 - 1, abs=1e-3)
    for row in probes:
        assert row["horizon"] and row["memoryless"] is not None and row["oracle"] is not None
        ceiling, floor = row["oracle"], row["memoryless"]
        settings = {key for score in (ceiling, floor) if isinstance(score, dict) for key in score} or {""}
        for setting in settings:
            top, low = (score[setting] if isinstance(score, dict) else score for score in (ceiling, floor))
            assert low <= top, (row["name"], setting)
    emit_rows([{"name": "a", "score": {"easy": -0.49, "hard": 1.0}}], False)
    assert "easy -0.49, hard 1.0" in capsys.readouterr().out


def test_doctor_names_a_command_for_every_gap(capsys):
    assert app.run(["doctor", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["core"]["usable"]
    assert all(row["usable"] or row["add"] for row in rows.values())


def test_doctor_says_how_to_add_a_missing_extra(monkeypatch):
    monkeypatch.setattr(doctor, "extras", lambda: {"viewer": ["torch", "no-such-dist"]})
    finding = next(item for item in doctor.examine() if item.name == "extra viewer")
    assert not finding.usable and finding.detail.endswith("; missing: no-such-dist")
    assert finding.add == "pip install 'embodied-mem[viewer]'"


def test_doctor_knows_the_extras_from_the_metadata(monkeypatch):
    asked = ["torch>=2", "triton; sys_platform == 'linux'", "av>=14; extra == 'video'", "openai>=1; extra == 'llm'"]
    asked += ["winonly; sys_platform == 'none' and extra == 'llm'", "embodied-mem[llm,video]; extra == 'all'"]
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda name: asked)
    message = email.message.Message()
    for name in ("video", "llm", "all"):
        message["Provides-Extra"] = name
    monkeypatch.setattr(doctor.importlib.metadata, "metadata", lambda name: message)
    assert doctor.extras() == {"video": ["av"], "llm": ["openai"], "all": ["openai", "av"]}


def test_doctor_lists_every_extra_of_the_project():
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    names = tomllib.loads(text)["project"]["optional-dependencies"]
    assert {item.name for item in doctor.examine()} >= {f"extra {name}" for name in names}


def test_doctor_without_an_installed_package(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.importlib.metadata, "requires", absent)
    finding = next(item for item in doctor.examine() if item.name == "extras")
    assert not finding.usable and "not installed" in finding.detail and finding.add == "pip install -e ."


def test_full_disk_is_one_line(monkeypatch, capfd):
    def full(options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.json")

    monkeypatch.setattr(registry, "names", lambda kind: full(None))
    assert app.run(["list", "agents"]) == 2
    assert "No space left" in capfd.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST, errno.EACCES])
def test_a_file_that_cannot_be_written_is_named_in_one_line(number, monkeypatch, capfd):
    def fail(kind):
        raise OSError(number, os.strerror(number), "temporary", None, "x.json")

    monkeypatch.setattr(registry, "names", fail)
    assert app.run(["list", "agents"]) == 2
    assert capfd.readouterr().err.endswith(f"write x.json: {os.strerror(number)}\n")


def test_an_os_error_without_a_file_is_a_bug(monkeypatch):
    def fail(kind):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(registry, "names", fail)
    with pytest.raises(OSError):
        app.run(["list", "agents"])
