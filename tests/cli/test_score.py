"""``score``: one JSON value, exit codes, one-line errors."""

import json

import pytest

from embodied_mem.cli.app import run

LINE = {"num_nodes": 3, "undirected_edges": [[0, 1], [1, 2]], "pred_path": [0, 1], "ref_path": [0, 1, 2]}


def write(folder, document):
    path = folder / "cases.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def test_means_leave_out_what_is_undefined(tmp_path, capsys):
    apart = {"num_nodes": 3, "undirected_edges": [[0, 1]], "pred_path": [0], "ref_path": [0, 2]}
    cases = [{"kind": "street", "id": "a", "input": LINE}, {"kind": "street", "input": apart}]
    assert run(["score", write(tmp_path, cases), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in result["cases"]] == ["a", 1] and result["cases"][0]["metrics"]["spd"] == 1.0
    assert result["metrics"]["street"]["spd"] == {"mean": 1.0, "n": 1}
    assert result["metrics"]["street"]["tc"] == {"mean": 0.5, "n": 2}
    assert result["passed"] == result["failed"] == 0


def test_expected_figures_are_compared(tmp_path, capsys):
    right = {"kind": "street", "id": "right", "input": LINE, "expected": {"tc": 1.0, "spd": 1.0}}
    wrong = {**right, "id": "wrong", "expected": {"tc": 0.0}}
    path = write(tmp_path, {"tolerance": 1e-6, "cases": [right]})
    assert run(["score", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"][0]["passed"] is True
    path = write(tmp_path, {"cases": [right, wrong]})
    assert run(["score", path]) == 1
    assert "wrong is not as expected: tc 1.0 instead of 0.0" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not valid JSON"),
        ("3", "list of cases"),
        ({"cases": []}, "list of cases"),
        ({"cases": [{"kind": "street"}]}, "case 0"),
        ({"cases": [{"kind": "street", "id": "x", "input": LINE, "expected": 3}]}, "case 'x'"),
        ({"cases": [{"kind": "street", "input": LINE}], "tolerance": -1}, "tolerance >= 0"),
        (
            '[{"kind": "multion", "input": {"leg_geodesics": [1], "found_calls": [[0, NaN]], "total_path": 1}}]',
            "finite",
        ),
    ],
)
def test_bad_files_are_one_line_and_code_2(tmp_path, capsys, document, message):
    assert run(["score", write(tmp_path, document), "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and message in shown.err


def test_a_missing_file_is_named(tmp_path, capsys):
    assert run(["score", str(tmp_path / "none.json")]) == 2
    assert "none.json" in capsys.readouterr().err
