"""Sound: windows by the decoder's time stamps, features, and memories that cut where it falls silent."""

from fractions import Fraction

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.audio import FEATURES, RATE, AudioTrack, decibels, features, joined, windows
from embodied_mem.stream.memory import make_stream_memory
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.sources import ArraySource

av = pytest.importorskip("av")


def tone(seconds, hertz=440.0, level=0.5, rate=RATE):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def write(path, samples, rate=RATE, late_s=0.0, codec="pcm_s16le"):
    """Write mono sound; ``late_s`` puts the second half later."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        packed = (np.asarray(samples) * 32767).astype(np.int16)
        for first in range(0, len(packed), 1024):
            frame = av.AudioFrame.from_ndarray(packed[None, first : first + 1024], format="s16", layout="mono")
            shift = round(late_s * rate) if first >= len(packed) // 2 else 0
            frame.sample_rate, frame.pts, frame.time_base = rate, first + shift, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_windows_tile_the_track(tmp_path):
    path = write(tmp_path / "a.wav", tone(2.2, rate=44100), rate=44100)
    found = list(windows(path))
    assert [round(w.t1 - w.t0, 2) for w in found[:-1]] == [0.5] * 4 and found[0].t0 == 0
    assert all(a.t1 == pytest.approx(b.t0) for a, b in zip(found, found[1:]))
    assert found[-1].t1 == pytest.approx(2.2, abs=0.01)
    assert decibels(found[1].samples) == pytest.approx(20 * np.log10(0.5 / 2**0.5), abs=0.2)


def test_a_gap_between_time_stamps_is_silence(tmp_path):
    path = write(tmp_path / "a.mkv", tone(4.096), late_s=2.0)
    levels = [decibels(w.samples) for w in windows(path)]
    assert len(levels) == 13 and levels[2] > -12 and levels[5] < -60 and levels[10] > -12


def test_features_tell_silence_tones_and_noise_apart():
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, RATE // 2).astype(np.float32)
    low, high, hiss = (features(np.asarray(x, np.float32)) for x in (tone(0.5, 200), tone(0.5, 5000), noise))
    for found in (low, high, hiss):
        assert found.shape == (FEATURES,) and (found >= 0).all() and (found <= 1).all()
        assert found[5:].sum() == pytest.approx(1, abs=1e-4) and found[0] > 0.5
    assert low[2] == pytest.approx(200 / 8000, abs=0.005) and high[2] == pytest.approx(5000 / 8000, abs=0.005)
    assert low[5] > 0.95 and high[7] > 0.95 and low[1] < high[1]
    assert hiss[4] > 0.4 > 0.01 > low[4]
    assert (features(np.asarray(tone(0.5, level=0.005), np.float32)) == 0).all(), "-49 dB is silence"
    with pytest.raises(UsageError, match="finite samples"):
        features(np.array([np.nan], np.float32))


def test_a_track_is_read_forward(tmp_path):
    track = AudioTrack(write(tmp_path / "a.wav", np.concatenate([tone(1), np.zeros(RATE), tone(1)])))
    assert [bool(track.at(t)[0]) for t in (0.2, 0.9, 1.3, 1.9, 2.1, 5)] == [True, True, False, False, True, False]
    with pytest.raises(UsageError, match="read forward"):
        track.at(1)


def test_errors_are_one_line(tmp_path):
    (tmp_path / "no.mp4").write_bytes(b"nothing")
    for path, reason in ((tmp_path / "no.mp4", "no decoder"), (tmp_path / "gone", "found nothing")):
        with pytest.raises(UsageError, match=reason):
            AudioTrack(path)
    with pytest.raises(UsageError, match="window_s > 0"):
        list(windows(tmp_path / "no.mp4", 0))


def test_hippomm_cuts_where_the_sound_falls_silent(tmp_path):
    """The picture never changes; the sound falls silent at 8, 18 and 27 seconds."""
    parts = [tone(8), np.zeros(2 * RATE), tone(8), np.zeros(RATE), tone(8), np.zeros(3 * RATE)]
    path = write(tmp_path / "a.wav", np.concatenate(parts))
    times = np.arange(0, 30, 0.5)
    images = np.full((len(times), 32, 32, 3), 120, np.uint8)
    config = SessionConfig(memory="hippomm", memory_config={"audio": FEATURES, "min_s": 5.0, "max_s": 30.0})
    with Session(ArraySource(images, times), config, audio=AudioTrack(path)) as session:
        session.run()
        entries = session.snapshot().stores["events"]
    assert [event.t0 for event in entries] == pytest.approx([0, 8, 18], abs=0.5)
    deaf = make_stream_memory("hippomm")
    for t in times:
        deaf.write(np.ones((2, 4), np.float32), float(t))
    assert len(deaf.snapshot().stores["events"]) <= 1
    with pytest.raises(UsageError, match="picture and sound"):
        small = make_stream_memory("hippomm", audio=FEATURES)
        for t in range(2):
            small.write(np.ones((2, 4), np.float32), t)


def test_omnilive_clips_hear(tmp_path):
    """The picture never changes, the sound does: clips end there and not elsewhere."""
    still = np.full((1, 2), 0.3, np.float32)
    memory = make_stream_memory("omnilive", change=0.95, max_len=50)
    for t in range(30):
        sound = features(np.asarray(tone(0.5, 300 if (t // 10) % 2 else 6000), np.float32))
        memory.write(joined(still, sound), float(t))
    assert [clip.t0 for clip in memory.snapshot().stores["clips"]] == [0, 10]


def test_joined_keeps_picture_and_sound_apart():
    tokens, sound = np.ones((3, 5), np.float32), np.full(FEATURES, 2, np.float32)
    found = joined(tokens, sound)
    assert found.shape == (4, 13) and found[:3, :5].min() == 1 and found[3, 5:].min() == 2
    assert not found[:3, 5:].any() and not found[3, :5].any()


def test_a_benchmark_run_hears_the_video(tmp_path):
    from embodied_mem.stream.answerers import make_answerer
    from embodied_mem.stream.qa.benchmark import make_benchmark
    from embodied_mem.stream.qa.judges import make_judge
    from embodied_mem.stream.qa.run import Asker, RunConfig, run_memory
    from embodied_mem.stream.qa.sample import Sample

    film = tmp_path / "film.mkv"
    sound = (np.concatenate([tone(6), np.zeros(6 * RATE)]) * 32767).astype(np.int16)
    with av.open(str(film), "w") as container:
        picture = container.add_stream("mpeg4", rate=4, width=32, height=32, pix_fmt="yuv420p")
        voice = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number in range(48):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 4)
            container.mux(picture.encode(frame))
        for first in range(0, len(sound), 1024):
            part = av.AudioFrame.from_ndarray(sound[None, first : first + 1024], format="s16", layout="mono")
            part.sample_rate, part.pts, part.time_base = RATE, first, Fraction(1, RATE)
            container.mux(voice.encode(part))
        container.mux(picture.encode(None))
        container.mux(voice.encode(None))
    memory = make_stream_memory("hippomm", audio=FEATURES, min_s=3.0)
    config = RunConfig(fps=2, audio=True, budget=None)
    asker = Asker(make_benchmark("egomem"), make_answerer("rule"), make_judge(), config)
    sample = Sample("film", "q", "what?", "choice", 0, ("red", "green"))
    (row,) = run_memory([(film, [sample])], asker, memory=memory)
    assert row["frames_seen"] == 24 and row["frames_dropped"] == 0
    events = memory.snapshot().stores["events"]
    assert [event.t1 for event in events] == pytest.approx([5.5], abs=0.5), "cut where the sound ended"
