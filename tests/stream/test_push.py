"""Pictures that somebody sends: order, size, damage, a sender that stops and returns."""

import threading
import time

import cv2
import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.pictures import decoded, fitted, jpeg
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.sources import ArraySource, PushSource


def picture(level, height=24, width=32):
    return jpeg(np.full((height, width, 3), level, np.uint8))


def test_pushed_pictures_come_out_in_order_with_their_times():
    source = PushSource("phone", clock=lambda: 7.0)
    for level, t_s in ((10, 0.0), (20, 0.5), (30, 2.0)):
        assert source.push(picture(level), t_s)
    source.end()
    assert [(f.t_s, round(f.rgb.mean())) for f in source] == [(0.0, 10), (0.5, 20), (2.0, 30)]
    assert source.source_id == "phone" and not source.push(picture(0)) and source.live
    with pytest.raises(UsageError, match="time >= 0"):
        PushSource().push(b"", -1.0)


def test_damaged_and_turned_pictures_do_no_harm():
    source = PushSource()
    tall = np.zeros((32, 24, 3), np.uint8)
    tall[:16] = 200
    for data in (picture(50), b"no picture", b"", picture(60)[:60], jpeg(tall)):
        source.push(data, 0.0)
    source.end()
    frames = list(source)
    assert [f.rgb.shape for f in frames] == [(24, 32, 3)] * 2 and source.broken == 3
    turned = frames[1].rgb
    assert turned[:10, 10:22].mean() > 180 and turned[:, :5].max() < 20 and turned[14:].max() < 60


def test_the_oldest_leave_when_nobody_reads():
    source = PushSource(size=2)
    for number in range(5):
        source.push(picture(number * 20), float(number))
    source.end()
    assert [f.t_s for f in source] == [3.0, 4.0] and source.dropped == 3


def test_a_sender_that_stops_and_returns_goes_on_in_the_same_memory():
    source = PushSource("phone", idle_s=0.2)
    config = SessionConfig(memory="full_history", frame_side=0)
    with Session(source, config) as session:
        session.start()
        source.push(picture(10))
        until = time.monotonic() + 10
        while "lost" not in [event.kind for event in source.events]:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert session.running and session.memory.version == 1  # asked meanwhile, it answers
        source.push(picture(20))
        source.end()
        assert session.join(10)
        assert [event.kind for event in source.events] == ["lost", "reconnected", "end"] and source.reconnects == 1
        first, second = session.snapshot().entries
    assert first.t0 == 0.0 and 0.2 < second.t0 < 10


def test_stop_ends_a_reader_that_waits():
    source = PushSource()
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    source.stop()
    thread.join(5)
    assert not thread.is_alive()


def test_a_picture_that_would_unfold_to_gigabytes_is_refused_by_its_header(monkeypatch):
    png = cv2.imencode(".png", np.zeros((8, 5000, 3), np.uint8))[1].tobytes()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UsageError, match="4096 pixels a side, got 5000x8"):
        decoded(png)
    with pytest.raises(UsageError, match="JPEG, PNG or WebP"):
        decoded(b"GIF89a" + bytes(40))


def test_pictures_are_fitted_without_distortion():
    assert fitted(np.full((10, 10, 3), 9, np.uint8), 4, 8)[:, 2:6].min() == 9
    assert max(decoded(jpeg(np.zeros((100, 50, 3), np.uint8), side=20)).shape) == 20


def test_pace_plays_a_recording_in_time_and_stop_does_not_wait():
    source = ArraySource(np.zeros((5, 4, 4, 3), np.uint8), [0.0, 0.1, 0.2, 0.3, 100.0])
    source.pace = 2.0
    began, seen = time.monotonic(), []
    for frame in source:
        seen.append((frame.t_s, time.monotonic() - began))
        if frame.t_s == 0.3:
            threading.Timer(0.05, source.stop).start()
    assert [t for t, _ in seen] == [0.0, 0.1, 0.2, 0.3] and time.monotonic() - began < 10
    assert all(clock >= t / 2 - 0.01 for t, clock in seen)
