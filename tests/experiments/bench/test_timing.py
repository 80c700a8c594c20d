"""Paired timing: who is measured when, and what is made of it."""

import time

import numpy as np
import pytest
import torch

from embodied_mem.experiments.bench.timing import INTERVAL, interleave, median_metric, one_thread


def spin(seconds):
    def call():
        until = time.process_time() + seconds
        while time.process_time() < until:
            pass

    return call


def test_ratio_of_known_times():
    timings = interleave({"slow": spin(4e-3), "fast": spin(1e-3)}, seconds=0.2)
    found = timings.ratio("slow", "fast")
    assert found["low"] <= found["mean"] <= found["high"] and found["interval"] == INTERVAL
    assert found["mean"] == pytest.approx(4.0, rel=0.3)
    assert timings.milliseconds("fast")["mean"] == pytest.approx(1.0, rel=0.3)


def test_candidates_take_turns_in_rotating_order():
    calls = []

    def record(name):
        def call():
            calls.append(name)
            spin(3e-2)()  # longer than the shortest block, so that no call is repeated inside one

        return call

    timings = interleave({name: record(name) for name in "abc"}, seconds=0.01)
    assert [len(timings.seconds[name]) for name in "abc"] == [5, 5, 5]
    rounds = calls[-15:]
    assert all(sorted(rounds[i : i + 3]) == ["a", "b", "c"] for i in range(0, 15, 3))
    assert {rounds[i] for i in range(0, 15, 3)} == {"a", "b", "c"}


def test_short_calls_are_repeated_inside_a_block():
    counted = [0]

    def call():
        counted[0] += 1

    timings = interleave({"call": call}, seconds=0.05)
    assert counted[0] > 1000 and (timings.seconds["call"] < 1e-4).all()


def test_median_interval_covers_the_median():
    g = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        found = median_metric(g.normal(size=25))
        inside += found["low"] <= 0 <= found["high"]
    assert inside / 400 > 0.93


def test_median_of_few_samples_spans_them_all():
    found = median_metric(np.array([3.0, 1.0, 2.0]))
    assert (found["mean"], found["low"], found["high"], found["n"]) == (2.0, 1.0, 3.0, 3)


def test_nothing_to_time_is_refused():
    with pytest.raises(ValueError, match="candidates"):
        interleave({})
    with pytest.raises(ValueError, match="positive"):
        interleave({"a": spin(1e-3)}, seconds=0)


def test_one_thread_is_undone():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == before
