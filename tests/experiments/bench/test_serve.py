"""The serve bench prints every figure; the server processes it starts are gone afterwards."""

import pytest

from embodied_mem.experiments.bench import serve

pytest.importorskip("websockets")


@pytest.mark.full
def test_quick_run_prints_every_figure():
    result = serve.run(device="cpu", quick=True)
    metrics = result["metrics"]
    for clients in serve.CLIENTS:
        for key in ("p50_ms", "p95_ms", "requests_per_second"):
            assert metrics[f"clients_{clients}_{key}"]["mean"] > 0
    assert metrics["clients_32_p50_ms"]["n"] >= 32
    assert metrics["ratio_request_over_act"]["mean"] > 1


def test_bare_calls_are_timed_one_by_one(tmp_path):
    agent = serve._policy(tmp_path / "agent", "cpu")
    spent = serve._act(agent, 0.05)
    assert spent.ndim == 1 and (spent > 0).all() and spent.sum() < 5
