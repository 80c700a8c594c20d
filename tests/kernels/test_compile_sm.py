"""Every kernel variant compiles for Hopper without a GPU and spills nothing there; long form: the other chips too."""

import json
import os
import subprocess
import sys

import pytest
import triton
import triton.language as tl

from embodied_mem.kernels import compile_check
from embodied_mem.kernels._registry import CompileCase, get_op, op_names


def compiled(*words):
    """Run the check in a process of its own, since triton may be an interpreter here."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "embodied_mem.kernels.compile_check", "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr
    rows = json.loads(done.stdout)["rows"]
    problems = [(row["op"], row["case"], row["arch"], row["problems"]) for row in rows if row["problems"]]
    assert problems == [] and done.returncode == 0
    return rows


def check(rows, archs):
    wanted = {(op, case.name, arch) for op in op_names() for case in get_op(op).compile_cases() for arch in case.archs}
    assert {(row["op"], row["case"], row["arch"]) for row in rows} == {job for job in wanted if job[2] in archs}
    assert all(row["registers"] <= 255 for row in rows)
    hopper = [row for row in rows if row["arch"] == 90]
    assert all(row["stack"] + row["local"] + row["instructions"]["LDL"] + row["instructions"]["STL"] == 0
               for row in hopper)  # fmt: skip


@pytest.mark.timeout(900)
def test_all_variants_compile_for_hopper_within_its_limits():
    rows = compiled("--arch", "90", "--workers", "1")
    check(rows, {90})
    assert {row["op"] for row in rows} == set(op_names())


@pytest.mark.full
def test_all_variants_compile_for_all_chips():
    check(compiled(), {80, 89, 90, 100})


@triton.jit
def too_large_kernel(x, y, N: tl.constexpr):
    """Keeps four times as many numbers as there are registers over a reduction."""
    i = tl.arange(0, N)
    values = tl.load(x + i)
    tl.store(y + i, values * tl.sum(values, 0))


def rows_of(size, monkeypatch, capsys):
    case = CompileCase("case", too_large_kernel, {"x": "*fp32", "y": "*fp32"}, {"N": size}, num_warps=1)
    row = compile_check.compile_case("op", case, 90)
    monkeypatch.setattr(compile_check, "table", lambda *_: [row])
    code = compile_check.main(["--arch", "90"])
    return row, code, capsys.readouterr().out


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="triton interprets here")
@pytest.mark.parametrize(("size", "fails"), [(16384, True), (1024, False)])
def test_a_spill_fails_the_check(size, fails, monkeypatch, capsys):
    row, code, out = rows_of(size, monkeypatch, capsys)
    assert bool(row["problems"]) == fails and code == int(fails)
    assert ("spills" in out) == fails
    assert (row["stack"] + row["local"] > 0) == fails
