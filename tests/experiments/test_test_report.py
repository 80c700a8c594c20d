"""The result of the long test forms is made from what pytest wrote."""

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.experiments.test_report import main, report

JUNIT = """<testsuites><testsuite>
<testcase classname="tests.a" name="fast" time="0.5"/>
<testcase classname="tests.a" name="slow" time="61.24"/>
<testcase classname="tests.b" name="broken" time="1.0"><failure message="no"/></testcase>
<testcase classname="tests.b" name="gpu" time="0.0"><skipped message="needs a CUDA device"/></testcase>
</testsuite></testsuites>"""


def test_counts_and_the_slowest_tests(tmp_path):
    path = tmp_path / "junit.xml"
    path.write_text(JUNIT)
    found = report(path)
    counts = [found["metrics"][kind]["mean"] for kind in ("passed", "failed", "skipped")]
    assert counts == [2, 1, 1] and found["seconds"] == pytest.approx(62.74)
    assert found["metrics"]["tests.a::slow_seconds"]["mean"] == 61.2
    assert "skipped: needs a CUDA device" in found["notes"]


def test_parts_are_joined_and_a_repeated_test_counts_once(tmp_path):
    first, second = tmp_path / "first.xml", tmp_path / "second.xml"
    first.write_text(JUNIT)
    second.write_text('<testsuites><testcase classname="tests.b" name="broken" time="2.0"/></testsuites>')
    found = report(first, second)
    assert [found["metrics"][kind]["mean"] for kind in ("passed", "failed", "skipped")] == [3, 0, 1]


def test_a_file_that_is_none_is_named(tmp_path, capsys):
    (tmp_path / "junit.xml").write_text("passed")
    with pytest.raises(UsageError, match="junit.xml"):
        report(tmp_path / "junit.xml")
    assert main([str(tmp_path / "absent.xml")]) == 2 and "absent.xml" in capsys.readouterr().err
    assert main([]) == 2
