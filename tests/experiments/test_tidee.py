"""The TIDEE table: every ablation tidies the same messes."""

import pytest

from embodied_mem.experiments.tidee import METRICS, ROWS, measure


@pytest.mark.full
def test_every_row_has_every_metric_over_the_same_episodes():
    result = measure(houses=8, test=2, steps=5, width=8)
    rows = {result["name"]: result["metrics"], **result["controls"]}
    assert list(rows) == list(ROWS) and result["episodes"] == 2
    for row in rows.values():
        assert set(row) == set(METRICS) and all(cell["n"] == 2 for cell in row.values())
    assert len({row["found"]["mean"] for row in rows.values()}) == 1, "one detector, one set of messes"
