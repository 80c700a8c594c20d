"""The deterministic rows of the published street tables, to the last digit."""

import os
from pathlib import Path

import pytest

from embodied_mem.evaluation import evaluate

COLUMNS = ("tc", "spd", "sed", "ndtw", "sdtw", "ndtw_std", "cls", "kpa", "actions", "stopped")
COUNTS = ("spd", "actions")
T, M = "touchdown", "map2seq"
# suite, split, semantics, max_actions, agent, figures in the order of COLUMNS (rates x100; None: not published).
TABLE = [
    (T, "dev_unseen", T, 55, "stop", (0.50, 23.07, 0.07, 0.22, 0.09, 2.91, 4.05, 0.10, 1.00, 100)),
    (T, "dev_unseen", T, 55, "forward", (0.00, 52.48, 0.00, 0.13, 0.00, 2.49, 10.02, 31.80, 55.00, 0)),
    (T, "dev_unseen", T, 55, "forward40", (1.25, 41.51, 1.14, 3.17, 0.96, 7.82, 13.22, 31.92, 41.81, 94.25)),
    (T, "dev_unseen", T, 55, "teacher", (99.75, 0.04, 99.75, 99.75, 99.75, 99.82, 99.85, 99.84, 36.74, 99.75)),
    (T, "dev_unseen", T, 200, "teacher", (99.87, 0.02, 99.87, 99.87, 99.87, 99.88, 99.88, 99.87, 36.94, 99.87)),
    (T, "dev_unseen", T, 200, "teacher_shortest", (99.87, 0.02, *[None] * 7, 99.87)),
    (T, "dev_unseen", "velma", 55, "forward40", (1.375, 42.6175, 1.32, 4.21, None, None, 13.96, 32.428, None, None)),
    (M, "dev_unseen", T, 55, "stop", (0.00, 39.01, 0.00, 0.00, 0.00, 0.17, 2.91, 0.00, 1.00, 100)),
    (M, "dev_unseen", T, 55, "forward", (0.00, 48.05, 0.00, 0.08, 0.00, 2.92, 14.18, 37.48, 55.00, 0)),
    (M, "dev_unseen", T, 55, "forward40", (0.75, 37.51, 0.60, 1.79, 0.47, 10.11, 18.70, 37.54, 40.96, 93.62)),
    (M, "dev_unseen", T, 55, "teacher", (100.0, 0.01, 99.99, 99.96, 99.96, 100.0, 99.99, 100.0, 42.41, 99.50)),
    (M, "dev_unseen", "velma", 55, "forward40", (0.75, 37.91, None, 1.69, None, None, None, 37.24, None, None)),
    (M, "dev_seen", T, 55, "stop", (None, 38.93, *[None] * 4, 2.91, *[None] * 3)),
    (M, "dev_seen", T, 55, "forward", (0.12, 49.64, None, 0.17, None, None, None, 39.13, None, None)),
    (M, "dev_seen", T, 55, "forward40", (0.88, 38.67, 0.78, 3.24, None, None, None, 39.13, None, None)),
]
QUICK = [TABLE[k] for k in (2, 6, 10)]


def check(row):
    suite, split, semantics, limit, agent, figures = row
    if not (Path(os.environ.get("EMBODIED_MEM_DATA", "")) / suite / f"{split}.jsonl.gz").is_file():
        pytest.skip("EMBODIED_MEM_DATA holds no street data")
    options = {"semantics": semantics, "max_actions": limit}
    metrics = evaluate(agent, suite, split=split, env_options=options, num_envs=256)["metrics"]
    assert metrics["tc"]["n"] == 800
    for name, wanted in zip(COLUMNS, figures):
        if wanted is not None:
            found = metrics[name]["mean"] * (1 if name in COUNTS else 100)
            digits = max(2, len(str(wanted).partition(".")[2]))
            # The last printed digit, with halves rounded either way.
            assert found == pytest.approx(wanted, abs=0.5 * 10**-digits + 1e-9), (name, found, wanted)


@pytest.mark.data
@pytest.mark.parametrize("row", QUICK, ids=lambda row: "-".join(map(str, row[:5])))
def test_some_rows(row):
    check(row)


@pytest.mark.full
@pytest.mark.data
@pytest.mark.parametrize("row", TABLE, ids=lambda row: "-".join(map(str, row[:5])))
def test_every_row(row):
    check(row)
