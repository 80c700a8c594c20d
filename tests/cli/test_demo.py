"""The demo end to end on a tiny budget: both twins, five conditions, a report, the time of each phase."""

import json

import pytest

from embodied_mem.cli import app, demo


@pytest.mark.timeout(280)
def test_demo_writes_a_report_and_names_each_phase(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("EMBODIED_MEM_DATA", "")
    out = tmp_path / "demo"
    code = app.run(["demo", "--out", str(out), "--seconds", "3", "--episodes", "16", "--json"])
    printed = capfd.readouterr()
    assert code == 0, printed.err[-2000:]
    result = json.loads(printed.out)
    assert set(result["controls"]) == {"none", demo.WIPE, "shuffled", "oracle"}
    assert result["controls"]["oracle"]["success"]["mean"] > 0.9
    assert len(result["phases"]) == 3 and all(seconds >= 0 for seconds in result["phases"].values())
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<html" in page and "http://" not in page.replace("http://www.w3.org", "")


def test_demo_does_not_overwrite(tmp_path):
    (tmp_path / "demo").mkdir()
    assert demo._beside(tmp_path / "demo").name == "demo-2"


def test_failed_training_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(demo, "PRESET", "no-such-preset")
    assert app.run(["demo", "--out", str(tmp_path / "demo"), "--seconds", "3"]) == 2
    err = capfd.readouterr().err
    assert "error: training" in err and "no-such-preset" in err
