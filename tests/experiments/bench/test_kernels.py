"""``bench kernels``: CPU columns always, GPU columns null without a GPU, and nothing where parity fails."""

import json
import time

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.experiments.bench import kernels as subject
from embodied_mem.kernels import bench
from embodied_mem.kernels._registry import get_op, op_names


def test_quick_run_prints_every_row(monkeypatch):
    monkeypatch.setattr(subject, "op_names", lambda: ["bank_write", "reset_scan"])
    result = subject.run(device="cpu", quick=True)
    assert result["metrics"]["reset_scan_B16_T256_C128_speedup"]["mean"] > 0
    assert result["metrics"]["reset_scan_B16_T256_C128_backward_speedup"]["mean"] > 0
    assert result["metrics"]["reset_scan_B16_T256_C128_backward_over_composition"]["mean"] > 0
    on_gpu = result["tasks"]["reset_scan/B1024_T128_C512/forward"]
    assert on_gpu["ms_median"] is None and on_gpu["notes"] == ["not measured: needs a GPU"]
    assert set(result["config"]["errors"]) == {"bank_write", "reset_scan"}
    json.dumps(result)


def test_nothing_is_measured_where_parity_fails(monkeypatch):
    broken = ["reset_scan plain float32 out0: error 1.00e+00, allowed 2e-05"]
    monkeypatch.setattr(bench.parity, "failures", lambda *_, **__: (broken, {}))
    monkeypatch.setattr(bench, "rows", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(UsageError, match="agree with their references, got: reset_scan plain"):
        subject.run(device="cpu", quick=True)


@pytest.mark.parametrize("name", op_names())
def test_every_reference_passes_the_check_before_a_run(name):
    lines, worst = bench.parity.failures("reference", torch.device("cpu"), [name])
    assert lines == [] and set(worst) == {name}


def test_a_wrong_kernel_is_found(monkeypatch):
    """The refusal rests on real comparisons: a reference that is off by a thousandth in float32 does not pass."""
    from embodied_mem.kernels.reference import reset_scan as reference

    right = reference._by_loop

    def wrong(a, b, resets, h0, reverse):
        found = right(a, b, resets, h0, reverse)
        return found * 1.001 if found.dtype == torch.float32 else found

    monkeypatch.setattr(reference, "_by_loop", wrong)
    with pytest.raises(UsageError, match="reset_scan"):
        bench.require_parity(["reset_scan"], torch.device("cpu"), quick=True)


def test_rows_merge_into_the_file(tmp_path):
    out = tmp_path / "deep" / "kernels.json"
    shape = get_op("bank_write").bench_shapes[1]
    row = bench.measure(get_op("bank_write"), shape, torch.device("cpu"), seconds=0.01)
    bench.merge(out, [row])
    bench.merge(out, [row | {"ms_median": 1.0}, row | {"op": "other"}])
    held = json.loads(out.read_text())["rows"]
    assert [(r["op"], r["ms_median"]) for r in held] == [("bank_write", 1.0), ("other", row["ms_median"])]
    assert "bank_write" in bench.show(held)


def test_a_compiled_peer_without_time_left_is_said():
    device = torch.device("cpu")
    rows = bench.rows(["bank_write"], device, seconds=0.005)
    found = list(bench.add_compiled(rows, device, seconds=0.005, deadline=time.monotonic()))
    assert len(found) == len(rows)
    for row in found:
        measured = row["ms_median"] is not None
        assert ("compiled: not measured, no time left" in row["notes"]) == measured
        assert "compiled" not in row["baselines"]


def test_parity_runs_in_processes_beside_each_other():
    lines, worst = bench._beside("interpret", ["pkm_lookup", "topk_similarity"])
    assert lines == [] and sorted(worst) == ["pkm_lookup", "topk_similarity"]
