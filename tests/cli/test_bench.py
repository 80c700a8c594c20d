"""``embodied-mem bench``: one result, written where asked; a wrong subject or device is one line and exit 2."""

import json

import pytest

from embodied_mem import registry
from embodied_mem.cli import app
from embodied_mem.results import make_result


@pytest.fixture
def subject():
    registry.names("bench")
    asked = {}

    def run(*, device, seconds, quick):
        asked.update(device=device, seconds=seconds, quick=quick)
        return make_result("bench", "tests-subject", {"device": device}, {"ratio": 0.5})

    registry.register("bench", "tests-subject")(run)
    yield asked
    registry.unregister("bench", "tests-subject")


def test_result_is_printed_and_written(subject, tmp_path, capsys):
    out = tmp_path / "deep" / "bench.json"
    words = ["bench", "tests-subject", "--json", "--device", "cpu", "--seconds", "0.5", "--quick", "--out", str(out)]
    assert app.run(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(out.read_text())
    assert printed["metrics"]["ratio"]["mean"] == 0.5 and printed["out"] == str(out)
    assert subject == {"device": "cpu", "seconds": 0.5, "quick": True}


def test_unknown_subject_lists_those_that_exist(subject, capfd):
    assert app.run(["bench", "memroy"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "memory" in error and "tests-subject" in error


@pytest.mark.parametrize(
    "words", [["--device", "tpu"], ["--device", "cuda:99"], ["--device", "cpu:x"], ["--seconds", "0"]]
)
def test_bad_options_are_one_line(subject, words, capfd):
    assert app.run(["bench", "tests-subject", *words]) == 2
    assert capfd.readouterr().err.startswith("error: expected" if "cuda:99" not in words else "error: device")
    assert not subject


def test_an_out_that_cannot_be_written_is_refused_before_measuring(subject, tmp_path, capfd):
    (tmp_path / "file").touch()
    for out in (tmp_path, tmp_path / "file" / "x.json", tmp_path / "new" / ("x" * 300), "/proc/nowhere/x.json"):
        assert app.run(["bench", "tests-subject", "--device", "cpu", "--out", str(out)]) == 2
        error = capfd.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and str(out)[:200] in error
    assert not subject and [item.name for item in tmp_path.iterdir()] == ["file"]
