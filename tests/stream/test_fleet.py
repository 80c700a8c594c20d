"""A fleet of sessions in Ray: asked side by side, told of errors, going on from checkpoints after a kill."""

import os
import signal
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.fleet import Fleet, StreamActor
from embodied_mem.stream.session import SessionConfig

CONFIG = SessionConfig(memory="last_k", memory_config={"slots": 4}, frame_side=8)


@pytest.fixture
def folders(tmp_path):
    found = {}
    for name, count in (("door", 6), ("hall", 9)):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(count):
            cv2.imwrite(str(folder / f"{number:03d}.png"), np.full((8, 8, 3), 20 * number, np.uint8))
        found[name] = str(folder)
    return found


def test_an_actor_is_a_session(folders):
    actor = StreamActor(folders["door"], CONFIG, None, "echo", {})
    assert actor.join(30)
    facts = actor.facts()
    assert facts["counters"].written == 6 and facts["until_s"] == 5.0 and facts["error"] is None
    assert actor.ask("who is there?").text == "who is there?" and not facts["running"]
    actor.close()


def test_an_actor_that_is_started_again_goes_on_from_its_checkpoint(folders, tmp_path):
    saved = replace(CONFIG, checkpoint=str(tmp_path / "c"))
    first = StreamActor(folders["hall"], saved, None, "echo", {})
    assert first.join(30)
    first.close()
    again = StreamActor(folders["hall"], saved, None, "echo", {})
    assert again.join(30) and again.facts()["until_s"] == 8.0 and again.facts()["counters"].written == 0
    again.close()


@pytest.mark.full
def test_sessions_run_and_are_asked_in_actors_of_their_own(folders, tmp_path):
    saved = SessionConfig(memory="last_k", memory_config={"slots": 4}, frame_side=8, checkpoint=str(tmp_path / "c"))
    with Fleet(folders, saved, answerer="echo", cpus=0.5) as fleet:
        assert fleet.join(60)
        assert {name: c.written for name, c in fleet.counters().items()} == {"door": 6, "hall": 9}
        pids = {name: facts["pid"] for name, facts in fleet.facts().items()}
        assert len(set(pids.values())) == 2 and os.getpid() not in pids.values()
        replies = fleet.ask("who?")
        assert replies["hall"].at_s == 8.0 and replies["door"].at_s == 5.0 and len(replies["hall"].frames) == 4
        assert set(fleet.ask("who?", names=["door"])) == {"door"}
        with pytest.raises(UsageError, match="expected sessions of door, hall"):
            fleet.ask("who?", names=["roof"])
    with Fleet(folders, saved, answerer="echo", cpus=0.5) as fleet:
        assert fleet.join(60) and all(c.written == 0 for c in fleet.counters().values()), "all was seen before"
        os.kill(fleet.facts()["hall"]["pid"], signal.SIGKILL)
        until = time.monotonic() + 60
        while True:
            try:
                again = fleet.facts()["hall"]
                break
            except UsageError:
                assert time.monotonic() < until
                time.sleep(0.5)
        assert again["until_s"] == 8.0, "started again by Ray, on its checkpoint"
    with pytest.raises(UsageError, match="session roof: .*expected a video file"):
        Fleet({"roof": "nowhere.mp4"}, cpus=0.5)
    with pytest.raises(UsageError, match="at least one source"):
        Fleet({})
