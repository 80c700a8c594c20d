"""The bounded queue: what each policy drops, counters that add up, waits that end."""

import threading
import time

import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.queue import BoundedQueue, QueueCounters


def drained(queue):
    return [queue.get(0) for _ in range(queue.counters().waiting)]


def test_what_each_policy_keeps():
    for policy, kept in (("drop_oldest", [2, 3, 4]), ("latest", [4])):
        queue = BoundedQueue(3, policy)
        assert all(queue.put(item) for item in range(5))
        assert queue.counters() == QueueCounters(5, 0, 5 - len(kept), len(kept)) and drained(queue) == kept


def test_block_waits_for_room_and_loses_nothing():
    queue, got = BoundedQueue(2, "block"), []
    writer = threading.Thread(target=lambda: [queue.put(item) for item in range(50)] and queue.close())
    writer.start()
    while (item := queue.get(5)) is not None:
        got.append(item)
        assert queue.counters().waiting <= 2
    writer.join()
    assert got == list(range(50)) and queue.counters() == QueueCounters(50, 50, 0, 0)


def test_a_slow_reader_with_latest_lags_by_two_items_at_most():
    queue, lags = BoundedQueue(1, "latest"), []
    stop = threading.Event()

    def produce():
        for item in range(200):
            queue.put(item)
            time.sleep(0.001)
        stop.set()

    writer = threading.Thread(target=produce)
    writer.start()
    last = None
    while not stop.is_set() or queue.counters().waiting:
        item = queue.get(0.1)
        if item is not None:
            lags.append(queue.counters().produced - 1 - item)
            last = item
            time.sleep(0.01)
    writer.join()
    found = queue.counters()
    assert last == 199 and found.produced == found.consumed + found.dropped == 200 and found.dropped > 0
    assert sorted(lags)[int(0.9 * len(lags))] <= 2


def test_close_ends_every_wait():
    queue = BoundedQueue(1, "block")
    queue.put(1)
    waiting = threading.Thread(target=lambda: results.append(queue.put(2)))
    results = []
    waiting.start()
    queue.close()
    waiting.join(5)
    assert results == [False] and queue.get() == 1 and queue.get() is None and queue.get(0.01) is None


def test_wrong_sizes_and_policies_are_refused():
    for arguments in ((0, "block"), (1, "newest")):
        with pytest.raises(UsageError, match="expected"):
            BoundedQueue(*arguments)
