"""What HouseTourQA reports of answers: shares, ages, what is kept, and whether targets were reached."""

import pytest

from embodied_mem.evaluation.house_tour_cells import COLUMNS, CellKey, StreamKey
from embodied_mem.evaluation.house_tour_scores import columns, kept_share, overall, verdicts
from embodied_mem.results import metric


def stream(length, number, kinds, ages):
    questions = [
        {"kind": kind, "answer": 0, "age": age, "ask_s": 10.0 * (k + 1)}
        for k, (kind, age) in enumerate(zip(kinds, ages))
    ]
    return StreamKey(length, 0, number), {"decode_ms": 1.0, "encode_ms": 3.0, "questions": questions}


def cell(key, name, choices, nbytes=0, cost=1.0):
    row = {column: [cost] * len(choices) for column in COLUMNS}
    return CellKey(*key, name, nbytes), {**row, "choice": choices}


def test_answers_are_counted_by_kind_and_by_tenth_of_age():
    a, b = (stream("short", n, ("last", "what", "never"), (0.05, 1.0, None)) for n in range(2))
    cells = dict([cell(a[0], "m", [0, 1, 0], 9), cell(b[0], "m", [0, 0, None], 9), cell(b[0], "m", [1, 1, 1], 7)])
    found = columns(dict([a, b]), cells, "short", {"m": 9, "absent": 9})
    assert set(found) == {"m"}
    m = {name: item["mean"] for name, item in found["m"].items()}
    assert m["success"] == pytest.approx(4 / 6) and m["unparsed_rate"] == pytest.approx(1 / 6)
    assert (m["success_last"], m["success_what"], m["success_never"]) == (1.0, 0.5, 0.5)
    assert (m["success_age_0"], m["success_age_9"], m["success_age_4"]) == (1.0, 0.5, None)
    assert (m["decode_ms"], m["encode_ms"], m["retrieve_ms"]) == (1.0, 3.0, 1.0)


def test_costs_are_means_and_writes_count_by_the_frames_they_took():
    key, row = stream("short", 0, ("last", "what"), (0.1, 0.2))
    _, made = cell(key, "m", [0, 0], 9)
    made |= {"write_ms": [2.0, 0.0], "answer_ms": [0.0, 4.0]}
    row["questions"][0]["ask_s"], row["questions"][1]["ask_s"] = 5.5, 7.0
    found = columns({key: row}, {CellKey(*key, "m", 9): made}, "short", {"m": 9})["m"]
    # frames 0 to 5 before the first question, 6 and 7 before the second
    assert found["write_ms"]["mean"] == pytest.approx(2.0 * 6 / 8) and found["answer_ms"]["mean"] == pytest.approx(2.0)


def table(blind, full, own, kinds=(0.8, 0.8), cost=1.0):
    def row(value):
        last, what = kinds
        return {
            "success": metric(value, n=100),
            "success_last": metric(last),
            "success_what": metric(what),
            "retrieve_ms": metric(cost / 2),
            "answer_ms": metric(cost / 2),
        }

    return {"blind": row(blind), "full_history": row(full), "m": row(own)}


def test_what_is_kept_and_ten_hours_beside_two_minutes():
    tasks = {"short": table(0.4, 0.9, 0.9), "long_tight": table(0.4, 0.8, 0.7), "very_long": table(0.3, 0.6, 0.5)}
    tasks["very_long"] = table(0.3, 0.6, 0.5, kinds=(0.6, 0.78), cost=1.1)
    assert kept_share(tasks["long_tight"], "m") == pytest.approx(0.75)
    assert kept_share({"m": tasks["short"]["m"]}, "m") is None
    found = {name: item["mean"] for name, item in overall(tasks, "m").items()}
    assert found["success"] == pytest.approx(0.7) and found["kept_very_long"] == pytest.approx(2 / 3)
    assert found["success_last_10h_minus_2min"] == pytest.approx(-0.2)
    assert found["ratio_answer_10h_over_2min"] == pytest.approx(1.1)
    lines = verdicts(tasks, ["m"])
    said = {line.split(" = ")[0].split(" keeps")[0]: line.endswith("reached)") for line in lines}
    assert said == {
        "short: full history - blind": True,
        "long_tight: full history - blind": True,
        "very_long: full history - blind": True,
        "long_tight: the best memory at 1 % of the bytes, m,": False,
        "m, last: 10 hours - 2 minutes": False,
        "m, what: 10 hours - 2 minutes": True,
        "m: time of retrieval and answer, 10 hours over 2 minutes": True,
    }
