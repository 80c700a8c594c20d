"""Videos through PyAV: the container's own stamps, seeking by key frames, the same frames as the default decoder."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.sources import PyAVSource, VideoSource, open_source

av = pytest.importorskip("av")
_spec = importlib.util.spec_from_file_location("stream_media", Path(__file__).with_name("media.py"))
media = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(media)

UNEVEN = [0, 100, 150, 700, 701, 2000, 2040, 5000]
LEVELS = [10, 40, 70, 100, 130, 160, 190, 220]


@pytest.fixture
def uneven(tmp_path):
    path = tmp_path / "uneven.mkv"
    media.write_gray_video(path, UNEVEN, LEVELS)
    return path


@pytest.fixture
def h264(tmp_path):
    """60 frames at 10 Hz with a key frame every 12, B-frames, brightness = 4 x number."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        try:
            stream = container.add_stream("libx264", rate=10, options={"g": "12", "bf": "2", "crf": "10"})
        except (av.FFmpegError, ValueError) as error:
            pytest.skip(f"no H.264 encoder here: {error}")
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(60):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_stamps_are_those_of_the_container(uneven):
    with PyAVSource(uneven) as source:
        frames = list(source)
    assert [frame.t_s for frame in frames] == [t / 1000 for t in UNEVEN]
    assert [round(frame.rgb.mean()) for frame in frames] == LEVELS and source.events[-1].kind == "end"
    assert [frame.index for frame in frames] == list(range(8)) and frames[0].rgb.shape == (24, 32, 3)


def test_both_decoders_give_the_same_frames_and_times(h264):
    for fps in (None, 2.0):
        ours, default = list(PyAVSource(h264, fps=fps)), list(VideoSource(h264, fps=fps))
        assert [f.index for f in ours] == [f.index for f in default]
        assert np.allclose([f.t_s for f in ours], [f.t_s for f in default], atol=1e-3)
        assert all(abs(a.rgb.astype(int) - b.rgb).max() <= 4 for a, b in zip(ours, default))


def test_seeks_exactly_in_both_directions(h264, uneven):
    with PyAVSource(h264) as source:
        for target, number in ((3.05, 31), (0.3, 3), (5.9, 59), (0.0, 0), (1.2, 12)):
            source.seek(target)
            frame = next(iter(source))
            assert (frame.index, frame.t_s) == (number, pytest.approx(number / 10)), target
            assert abs(frame.rgb.mean() - 4 * number) < 4
        source.seek(99)
        assert list(source) == []
    with PyAVSource(uneven) as source:
        source.seek(1.5)
        assert [frame.t_s for frame in source] == [2.0, 2.04, 5.0]


def test_a_turned_video_stands_upright(h264, tmp_path, monkeypatch):
    source = PyAVSource(h264)

    class Turned:
        rotation = -90

        def to_ndarray(self, format):
            return np.arange(6, dtype=np.uint8).reshape(1, 2, 3)

    source._frame = Turned()
    assert source._retrieve().shape == (2, 1, 3)
    source.close()


def test_broken_frames_are_counted(tmp_path):
    media.write_gray_video(tmp_path / "v.mkv", UNEVEN, LEVELS, broken=(0, 3, 4))
    with PyAVSource(tmp_path / "v.mkv") as source:
        assert [round(frame.rgb.mean()) for frame in source] == [40, 70, 160, 190, 220]
    assert source.broken == 3


@pytest.mark.parametrize("content, reason", [(b"", "0 bytes"), (bytes(range(256)) * 40, "no decoder reads it")])
def test_no_video_is_one_line(tmp_path, content, reason):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        open_source(tmp_path / "x.mp4", decoder="pyav")


def test_choosing_a_decoder(uneven, monkeypatch):
    assert isinstance(open_source(uneven, decoder="pyav"), PyAVSource)
    with pytest.raises(UsageError, match="opencv or pyav"):
        open_source(uneven, decoder="decord")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"embodied-mem\[video\]"):
        PyAVSource(uneven)
