"""Frame sources: decoder stamps, sampling, damaged input, reconnection."""

import importlib.util
from pathlib import Path

import cv2
import gymnasium
import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.frames import shrink, to_rgb
from embodied_mem.stream.sources import (
    ArraySource,
    CameraSource,
    EpisodeSource,
    FolderSource,
    NetworkSource,
    VideoSource,
    open_source,
)

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


def test_uneven_rate_keeps_the_stamps_of_the_decoder(uneven):
    with VideoSource(uneven) as source:
        frames = list(source)
    assert np.abs(np.array([frame.t_s for frame in frames]) - np.array(UNEVEN) / 1000).max() < 1e-3
    assert [round(frame.rgb.mean()) for frame in frames] == LEVELS
    assert [frame.index for frame in frames] == list(range(8)) and source.events[-1].kind == "end"
    assert frames[0].rgb.shape == (24, 32, 3) and frames[0].rgb.dtype == np.uint8


def test_sampling_leaves_even_gaps(tmp_path):
    media.write_gray_video(tmp_path / "ten.mkv", range(0, 6000, 100), [100] * 60)
    times = np.array([frame.t_s for frame in VideoSource(tmp_path / "ten.mkv", fps=2)])
    assert len(times) == 12 and np.abs(np.diff(times) - 0.5).max() <= 0.1 + 1e-9
    assert np.abs(times - np.arange(12) * 0.5).max() <= 0.1 + 1e-9  # no drift


def test_a_video_seeks_exactly_in_both_directions(uneven):
    with VideoSource(uneven) as source:
        for target, first in ((1.5, 2.0), (0.12, 0.15), (0.7, 0.7), (0.0, 0.0), (5.0, 5.0)):
            source.seek(target)
            frame = next(iter(source))
            assert frame.t_s == pytest.approx(first, abs=1e-3) and frame.index == UNEVEN.index(round(first * 1000))
        source.seek(99)
        assert list(source) == []
        with pytest.raises(UsageError, match="time >= 0"):
            source.seek(-1)


def test_broken_frames_are_counted_and_left_out(tmp_path):
    media.write_gray_video(tmp_path / "v.mkv", UNEVEN, LEVELS, broken=(0, 3, 4))
    with VideoSource(tmp_path / "v.mkv") as source:
        assert [round(frame.rgb.mean()) for frame in source] == [40, 70, 160, 190, 220]
    assert source.broken == 3 and sum(event.kind == "broken" for event in source.events) == 3


def test_a_cut_file_gives_what_is_there(uneven, tmp_path):
    whole = uneven.read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    frames = list(VideoSource(tmp_path / "cut.mkv"))
    assert [round(frame.rgb.mean()) for frame in frames] == LEVELS[: len(frames)] and 3 <= len(frames) < 8


@pytest.mark.parametrize("content, reason", [(b"", "0 bytes"), (bytes(range(256)) * 40, "expected a video")])
def test_no_video_is_one_line(tmp_path, content, reason):
    (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        open_source(tmp_path / "x.mp4")
    for missing in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(UsageError, match="expected a video file"):
            VideoSource(missing)


def test_a_file_of_broken_frames_only_is_refused(tmp_path):
    media.write_gray_video(tmp_path / "v.mkv", [0, 100], [1, 2], broken=(0, 1))
    with pytest.raises(UsageError, match="no frame"):
        VideoSource(tmp_path / "v.mkv")


def test_folder_takes_any_layout_and_skips_what_is_broken(tmp_path):
    cv2.imwrite(str(tmp_path / "f10.png"), np.full((5, 7), 200, np.uint8))
    cv2.imwrite(str(tmp_path / "f2.png"), np.full((5, 7, 4), (1, 2, 200, 255), np.uint8))
    cv2.imwrite(str(tmp_path / "f9.tif"), np.full((5, 7, 3), 256 * 50, np.uint16))
    (tmp_path / "f3.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("x")
    with open_source(tmp_path) as source:
        frames = list(source)
    assert [tuple(frame.rgb[0, 0]) for frame in frames] == [(200, 2, 1), (50, 50, 50), (200, 200, 200)]
    assert [frame.t_s for frame in frames] == [0.0, 2.0, 3.0] and source.broken == 1
    source.seek(2.5)


def test_folder_reads_time_stamps_from_its_table(tmp_path):
    for name, level in (("a.png", 10), ("b.png", 20), ("c.png", 30)):
        cv2.imwrite(str(tmp_path / name), np.full((4, 4), level, np.uint8))
    table = tmp_path / "times.csv"
    table.write_text("a.png,7.5\nb.png,0.25\nc.png,1\n")
    source = FolderSource(tmp_path)
    assert [(frame.t_s, frame.rgb[0, 0, 0]) for frame in source] == [(0.25, 20), (1.0, 30), (7.5, 10)]
    source.seek(0.5)
    assert [frame.t_s for frame in source] == [1.0, 7.5]
    for text, reason in (("a.png,1\n", "no time for"), ("a.png\n", "line 1: expected"), ("a.png,-1\n", "seconds >= 0")):
        table.write_text(text)
        with pytest.raises(UsageError, match=reason):
            FolderSource(tmp_path)


class Script:
    """A capture that plays frames (milliseconds, grey level), None for a read that fails, then fails for good."""

    def __init__(self, frames, opened=True):
        self.frames, self.opened, self.now = list(frames), opened, None

    def isOpened(self):
        return self.opened

    def grab(self):
        self.now = self.frames.pop(0) if self.frames else None
        return self.now is not None

    def retrieve(self):
        return True, np.full((4, 4, 3), self.now[1], np.uint8)

    def get(self, prop):
        return self.now[0]

    def release(self):
        self.opened = False


def test_network_stream_reconnects_and_time_goes_on():
    shows = [Script([(5000, 1), (5100, 2)]), Script([], opened=False), Script([(0, 3), (200, 4), (300, 5)]), Script([])]
    opened, slept, now = iter(shows), [], [100.0]

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    source = NetworkSource(
        "rtsp://user:secret@host/cam",
        open_capture=lambda url: next(opened, Script([], opened=False)),
        clock=lambda: now[0],
        sleep=sleep,
        retries=3,
        pause_s=1.0,
    )
    frames = list(source)
    assert [int(frame.rgb[0, 0, 0]) for frame in frames] == [1, 2, 4, 5]
    # first connection: the decoder's own steps; second: three seconds of pauses, then its own steps
    assert [frame.t_s for frame in frames] == pytest.approx([0.0, 0.1, 3.2, 3.3])
    assert source.reconnects == 1 and slept == [1.0, 2.0, 1.0, 2.0, 4.0]
    assert [event.kind for event in source.events] == ["lost", "reconnected", "lost", "end"]
    assert frames[0].source_id == "rtsp://host/cam"
    with pytest.raises(UsageError, match="cannot seek"):
        source.seek(0)


def test_camera_is_stamped_on_arrival_and_survives_single_failures():
    ticks = iter([10.0, 11.0, 11.5, 12.5])
    script = Script([(0, 1), None, (0, 2), (0, 3)])
    source = CameraSource(0, open_capture=lambda number: script, clock=lambda: next(ticks), patience=5)
    assert [(frame.t_s, int(frame.rgb[0, 0, 0])) for frame in source] == [(0.0, 1), (0.5, 2), (1.5, 3)]
    assert source.broken == 1 and "lost" in [event.kind for event in source.events]
    with pytest.raises(UsageError, match="cannot be opened"):
        CameraSource(3, open_capture=lambda number: Script([], opened=False))


def test_arrays_never_run_backwards():
    images = np.zeros((3, 4, 4), np.uint8)
    assert [frame.t_s for frame in ArraySource(images, [0, 1, 1])] == [0, 1, 1]
    for times in ([0, 2, 1], [0, 1]):
        with pytest.raises(UsageError, match="expected"):
            ArraySource(images, times)
    with pytest.raises(UsageError, match="fps > 0"):
        ArraySource(images, [0, 1, 2], fps=0)


class Clock(gymnasium.Env):
    """Shows the number of the step; ends after four."""

    observation_space = gymnasium.spaces.Dict({"rgb": gymnasium.spaces.Box(0, 255, (4, 6, 3), np.uint8)})
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, seed=None, options=None):
        self.step_number, self.actions = 0, []
        return self.look(), {}

    def look(self):
        return {"rgb": np.full((4, 6, 3), self.step_number, np.uint8)}

    def step(self, action):
        self.step_number += 1
        self.actions.append(int(action))
        return self.look(), 0.0, self.step_number == 3, False, {}


@pytest.fixture
def clock_env():
    gymnasium.register("tests/Clock-v0", entry_point=Clock)
    gymnasium.register("tests/Blind-v0", entry_point="gymnasium.envs.classic_control.cartpole:CartPoleEnv")
    yield
    del gymnasium.registry["tests/Clock-v0"], gymnasium.registry["tests/Blind-v0"]


def test_an_episode_is_stamped_with_the_clock_of_the_simulator(clock_env):
    with EpisodeSource("tests/Clock-v0", step_s=0.5, policy=lambda obs: int(obs["rgb"].max()) % 3) as source:
        frames = list(source)
        assert source.env.unwrapped.actions == [0, 1, 2]
    assert [(frame.t_s, int(frame.rgb.max())) for frame in frames] == [(0.0, 0), (0.5, 1), (1.0, 2), (1.5, 3)]
    assert [frame.t_s for frame in open_source("tests/Clock-v0", fps=5)] == pytest.approx([0.0, 0.2])
    with pytest.raises(UsageError, match="rgb"):
        EpisodeSource("tests/Blind-v0")


@pytest.mark.full
def test_a_house_tour_streams_the_camera_and_keeps_its_log():
    with EpisodeSource(seed=3, step_s=0.5, houses=1, width=24, height=16, max_steps=12) as source:
        frames = list(source)
        log = source.env.unwrapped.log()
    assert len(frames) == len(log["steps"]) == 12
    assert [frame.t_s for frame in frames] == [0.5 * step["step"] for step in log["steps"]]
    assert frames[0].rgb.shape == (16, 24, 3) and any((frame.rgb != frames[0].rgb).any() for frame in frames[1:])


def test_unknown_names_say_what_is_expected():
    with pytest.raises(UsageError, match="camera:N"):
        open_source("nowhere/film.mp4")


def test_images_of_any_layout_become_rgb():
    rgba = np.full((2, 3, 4), (100, 50, 0, 128), np.uint8)
    assert tuple(to_rgb(rgba)[0, 0]) == (50, 25, 0)
    for wrong in (np.zeros((2, 2, 3), np.float32), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2, 3), np.uint8)):
        with pytest.raises(UsageError):
            to_rgb(wrong)
    assert shrink(np.zeros((101, 50, 3), np.uint8), 20).shape == (20, 10, 3)


def test_a_named_house_tour_is_the_walk_of_the_questions():
    from embodied_mem.stream.house_tour.tours import TourStream

    with open_source("house-tour:40:3") as source:
        frames = list(source)
    drawn = np.concatenate([chunk.rgb for chunk in TourStream(40, 3).chunks()])
    assert [frame.t_s for frame in frames] == list(range(40)) and frames[0].source_id == "house-tour:40:3"
    assert (np.stack([frame.rgb for frame in frames]) == drawn).all()
    with open_source("house-tour:40:3", fps=0.5) as source:
        assert [frame.t_s for frame in source] == list(range(0, 40, 2))
    with pytest.raises(UsageError, match="length"):
        open_source("house-tour:eternal")
