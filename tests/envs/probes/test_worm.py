import numpy as np
import pytest

from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.scripted.memory_tasks import StreamOracle

TASKS = (
    "item_recognition serial_recall serial_recognition change_detection complex_span memory_updating "
    "spatial_coordination spatial_free_recall spatial_integration task_switching"
).split()
STUDY, EXTRA, PROBE = range(3)
ASKS_ITEMS = ("serial_recall", "complex_span", "memory_updating")


def play(policy, rows=1000, seed=0, **kwargs):
    """Return observations (T, N, 29), answers (T, N), rewards (T, N) and the last info of one episode per row."""
    env = make_vec("WorM-v0", rows, autoreset_mode="DISABLED", **kwargs)
    observed, _ = env.reset(seed=seed)
    seen, answers, rewards = [], [], []
    while True:
        seen.append(observed)
        answers.append(env.privileged()["stream_answer"])
        observed, reward, terminated, _, info = env.step(policy(env, seen))
        rewards.append(reward)
        if terminated.any():
            return np.stack(seen), np.stack(answers), np.stack(rewards), info


def oracle(env, seen):
    return StreamOracle().act(seen[-1], {}, None, env.privileged())[0]


def frames(seen, row):
    """Return the frames of a row that are not blank as (phase, item, place), None where there is none.

    Several places are a tuple.
    """
    found = []
    for frame in seen[:, row]:
        if frame.any():
            item, place = (np.flatnonzero(part).tolist() for part in (frame[13:21], frame[21:29]))
            assert len(item) <= 1 and frame[10:13].sum() == 1
            spots = tuple(place) if len(place) > 1 else place[0] if place else None
            found.append((int(frame[10:13].argmax()), item[0] if item else None, spots))
    return found


def solve(task, shown):
    """Return the right answers of a trial from its frames alone."""
    study = [(item, place) for phase, item, place in shown if phase == STUDY]
    extra = [(item, place) for phase, item, place in shown if phase == EXTRA]
    probes = [(item, place) for phase, item, place in shown if phase == PROBE]
    items = [item for item, _ in study]
    if task == "item_recognition":
        return [int(probes[0][0] in items)]
    if task in ("serial_recall", "complex_span"):
        assert len(extra) == (4 if task == "complex_span" else 0)
        return [items[place] for _, place in probes]
    if task == "serial_recognition":
        return [int(items[place] == item) for item, place in probes]
    if task == "spatial_free_recall":
        assert [place for _, place in probes] == list(range(8)) and len(study) == 4
        return [int(place in [spot for _, spot in study]) for _, place in probes]
    if task == "spatial_integration":
        parts = [spot for _, spots in study for spot in spots]
        assert len(study) == 2 and len(set(parts)) == 4 == len(probes[0][1])
        return [int(set(parts) == set(probes[0][1]))]
    if task == "task_switching":
        found = []
        for phase, item, place in shown:
            if phase == EXTRA:
                rule = item
            else:
                assert (item >= 4) != (place >= 4)
                found.append(int((place if rule else item) >= 4))
        assert len(extra) == 2 and [phase for phase, *_ in shown] == [EXTRA, PROBE, PROBE, EXTRA, PROBE, PROBE]
        return found
    held = {place: item for item, place in study}
    assert len(held) == 4
    if task == "change_detection":
        return [int(held[probes[0][1]] != probes[0][0])]
    if task == "memory_updating":
        for item, place in extra:
            held[place] = (held[place] + item) % 8
        return [held[place] for _, place in probes]
    return [int(all(7 - place in held for place in held))]


@pytest.mark.parametrize("task", TASKS)
def test_the_answers_follow_from_the_frames_and_are_balanced(task):
    seen, answers, rewards, info = play(oracle, rows=1000, tasks=task)
    number = TASKS.index(task)
    assert all((frame[:, :10].argmax(1) == number)[frame.any(1)].all() for frame in seen)
    for row in range(200):
        shown = frames(seen, row)
        assert len(shown) == len(seen) - 4, "the delay is four blanks"
        assert solve(task, shown) == answers[answers[:, row] >= 0, row].tolist()
    assert info["success"].all() and rewards.sum(0) == pytest.approx(np.ones(1000), abs=1e-5)
    asked = answers[answers >= 0]
    kinds = 8 if task in ASKS_ITEMS else 2
    assert np.bincount(asked, minlength=kinds) / len(asked) == pytest.approx(np.full(kinds, 1 / kinds), abs=0.05)


def test_play_without_memory_is_at_chance_over_all_tasks():
    def react(env, seen):
        # What is shown tells nothing: the item shown for a recognition, else a constant.
        return (seen[-1][:, 13:21].argmax(1) > 3).astype(np.int64)

    seen, _, rewards, info = play(react, rows=6000)
    total = rewards.sum(0)
    assert total.mean() == pytest.approx((3.5 + 3 / 8) / 10, abs=0.02)
    task = seen[-1, :, :10].argmax(1)
    assert np.bincount(task) / 6000 == pytest.approx(np.full(10, 1 / 10), abs=0.02)
    chance = [total[task == k].mean() for k in range(10)]
    assert chance == pytest.approx([1 / 8 if task in ASKS_ITEMS else 0.5 for task in TASKS], abs=0.06)
    assert len(seen) == 4 + 4 + 4 + 4, "all trials take as long as the longest"


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        ({"tasks": "serial_recal"}, "unknown task 'serial_recal'.*serial_recall"),
        ({"tasks": []}, "at least one task"),
        ({"load": 3}, "even load"),
        ({"load": 8}, r"load in \[2, 7\]"),
        ({"places": 2}, "places >= 4"),
        ({"delay": -1}, "delay >= 0"),
        ({"places": 14}, "places <= 12 with spatial_integration"),
    ],
)
def test_bad_settings(kwargs, expected):
    with pytest.raises(UsageError, match=expected):
        make_vec("WorM-v0", 1, **kwargs)
