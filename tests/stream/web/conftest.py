import cv2
import numpy as np
import pytest

from embodied_mem.stream.answerers import make_answerer
from embodied_mem.stream.asker import Asker
from embodied_mem.stream.session import SessionConfig
from embodied_mem.stream.sources import ArraySource
from embodied_mem.stream.web.rooms import Limits, Rooms


@pytest.fixture
def make_rooms(tmp_path):
    made = []

    def make(answerer=None, limits=None, **config):
        config = {"memory": "uniform", "memory_config": {"slots": 8}, "frame_side": 32, **config}
        rooms = Rooms(Asker(answerer or make_answerer("rule")), SessionConfig(**config), tmp_path / "uploads", limits)
        rooms.pace = 0.0
        made.append(rooms)
        return rooms

    yield make
    for rooms in made:
        rooms.close_all()


@pytest.fixture
def film():
    def make(count=40, name="film", shade=0):
        images = ((np.arange(count) * 5 + shade) % 256).astype(np.uint8)[:, None, None, None]
        return ArraySource(np.broadcast_to(images, (count, 24, 32, 3)), 0.5 * np.arange(count), source_id=name)

    return make


@pytest.fixture
def video(tmp_path):
    """The bytes of a film of 30 frames at 10 Hz."""
    path = tmp_path / "made.mp4"
    out = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for number in range(30):
        out.write(np.full((48, 64, 3), 8 * number, np.uint8))
    out.release()
    return path.read_bytes()


@pytest.fixture
def limits():
    return Limits(sessions=3, upload_bytes=200_000, picture_bytes=50_000)
