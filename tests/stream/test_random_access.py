"""Frames at any times: the one that is shown then, in the order asked for, whichever decoder reads it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.sources.random_access import frames_at

_spec = importlib.util.spec_from_file_location("media", Path(__file__).with_name("media.py"))
media = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(media)

TIMES_MS = [0, 100, 250, 1000, 1040, 3000]
LEVELS = [10, 50, 90, 130, 170, 210]


@pytest.fixture
def film(tmp_path):
    media.write_gray_video(tmp_path / "a.mkv", TIMES_MS, LEVELS)
    return tmp_path / "a.mkv"


@pytest.mark.parametrize("decoder", ["opencv", "torchcodec"])
def test_what_is_shown_at_a_time_is_given(film, decoder):
    if decoder == "torchcodec":
        pytest.importorskip("torchcodec", reason="torchcodec is not installed")
    wanted = [2.9, 0.0, 0.26, 1.0, 9.0, 0.26, 0.999]
    images, times = frames_at(film, wanted, decoder=decoder)
    assert images.shape == (7, 24, 32, 3) and images.dtype == np.uint8
    assert times == pytest.approx([1.04, 0.0, 0.25, 1.0, 3.0, 0.25, 0.25], abs=2e-3)
    assert images.mean((1, 2, 3)) == pytest.approx([170, 10, 90, 130, 210, 90, 90], abs=3)


def test_a_broken_frame_leaves_the_one_before(tmp_path):
    media.write_gray_video(tmp_path / "b.mkv", TIMES_MS, LEVELS, broken=(2,))
    _, times = frames_at(tmp_path / "b.mkv", [0.5, 1.0], decoder="opencv")
    assert times == pytest.approx([0.1, 1.0])


def test_misuse_is_one_line(film, tmp_path):
    for times in ([], [float("nan")], [[1.0]]):
        with pytest.raises(UsageError, match="at least one finite time"):
            frames_at(film, times)
    with pytest.raises(UsageError, match="decoder auto, torchcodec or opencv"):
        frames_at(film, [1.0], decoder="pyav")
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    for path in (tmp_path / "no.mp4", tmp_path / "gone.mp4"):
        with pytest.raises(UsageError, match="expected a video"):
            frames_at(path, [0.0])
    if importlib.util.find_spec("torchcodec") is None:
        with pytest.raises(UsageError, match="pip install torchcodec"):
            frames_at(film, [0.0], decoder="torchcodec")
