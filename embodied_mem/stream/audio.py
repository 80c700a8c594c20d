"""The sound of a recording as features on the time axis of its frames, decoded by PyAV.

    window     ``window_s`` seconds of mono sound at 16 kHz
    features   loudness, and where it is above silence: zero crossings, centroid, spread and flatness of the spectrum,
               shares of energy below 300 Hz, 300 to 3400 Hz (speech) and above; all 0..1, loudness 0 = silence

Silence is an RMS below ``silence_db`` (HippoMM: -40 dB in windows of 0.5 s); loudness is 1 at full scale. Frames and
sound meet in `joined`: the picture's tokens and one token of sound, each in its own part of the width, so that no
memory mixes them up. Windows are decoded as the frames come; nothing of the track is kept but the latest window.

Time stamps are the decoder's. There are no learned features here; what is said is transcribed by `stream.speech`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError

RATE = 16000
FEATURES = 8
_EDGES_HZ = (300.0, 3400.0)
_EPS = 1e-12


@dataclass(frozen=True)
class Window:
    """A stretch of sound."""

    t0: float
    """Seconds, its start."""
    t1: float
    """Seconds, its end."""
    samples: np.ndarray
    """(N,) float32 mono, -1..1, 16 kHz."""


def windows(path: str | Path, window_s: float = 0.5) -> Iterator[Window]:
    """Yield the sound of a media file in windows of ``window_s`` seconds; the last one may be shorter.

    A gap between the time stamps of two packets is silence.

    Raises:
        UsageError: PyAV is not installed, the file is no media file or has no sound, or the window is not positive.
    """
    if not window_s > 0:
        raise UsageError(f"expected window_s > 0, got {window_s}")
    size = max(1, round(window_s * RATE))
    with _open(Path(path)) as container:
        held, start = np.zeros(0, np.float32), None
        for t_s, samples in _samples(container):
            if start is None:
                start = t_s
            gap = round((t_s - start) * RATE) - len(held)
            if gap > 1:
                held = np.concatenate([held, np.zeros(gap, np.float32)])
            held = np.concatenate([held, samples])
            while len(held) >= size:
                yield Window(start, start + size / RATE, held[:size])
                held, start = held[size:], start + size / RATE
        if start is not None and len(held):
            yield Window(start, start + len(held) / RATE, held)


def features(samples: np.ndarray, silence_db: float = -40.0) -> np.ndarray:
    """Return (8,) float32 of one window, 0..1, see the module's text.

    Args:
        samples: (N,) float32, -1..1, 16 kHz.
        silence_db: RMS at and below which the window is silent; all features are 0 then.

    Raises:
        UsageError: there is no sample, or one is not finite.
    """
    if samples.ndim != 1 or not len(samples) or not np.isfinite(samples).all():
        raise UsageError(f"expected finite samples (N,) with N >= 1, got {samples.shape}")
    out = np.zeros(FEATURES, np.float32)
    level = decibels(samples)
    if level <= silence_db:
        return out
    power = np.abs(np.fft.rfft(samples.astype(np.float64) * np.hanning(len(samples)))) ** 2 + _EPS
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    share = power / power.sum()
    centre = float(share @ hertz)
    edges = np.searchsorted(hertz, _EDGES_HZ)
    out[0] = min(max(1 - level / silence_db, 0.0), 1.0)
    out[1] = np.mean(np.signbit(samples[1:]) != np.signbit(samples[:-1])) if len(samples) > 1 else 0.0
    out[2] = centre / (RATE / 2)
    out[3] = np.sqrt(share @ (hertz - centre) ** 2) / (RATE / 2)
    out[4] = np.exp(np.mean(np.log(power))) / power.mean()
    out[5:] = [part.sum() for part in np.split(share, edges)]
    return out


def decibels(samples: np.ndarray) -> float:
    """Return the RMS level, 0 dB at full scale."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + _EPS))


class AudioTrack:
    """Features of a file's sound at times that run forward."""

    def __init__(self, path: str | Path, *, window_s: float = 0.5, silence_db: float = -40.0) -> None:
        """Open the file.

        Raises:
            UsageError: see `windows`.
        """
        if not silence_db < 0:
            raise UsageError(f"expected silence_db < 0, got {silence_db}")
        self.silence_db = silence_db
        self._windows = windows(path, window_s)
        self._window: Window | None = next(self._windows, None)
        self._features = np.zeros(FEATURES, np.float32)
        self._known = -1.0
        self._asked = -np.inf

    def at(self, t_s: float) -> np.ndarray:
        """Return the features (8,) of the window that holds ``t_s`` seconds; zeros before and after the sound.

        Raises:
            UsageError: the time is before the one of the call before.
        """
        if t_s < self._asked:
            raise UsageError(f"expected a time >= {self._asked} s, got {t_s}; the track is read forward")
        self._asked = t_s
        while self._window is not None and t_s >= self._window.t1:
            self._window = next(self._windows, None)
        if self._window is None or t_s < self._window.t0:
            return np.zeros(FEATURES, np.float32)
        if self._known != self._window.t0:
            self._features, self._known = features(self._window.samples, self.silence_db), self._window.t0
        return self._features.copy()


def joined(tokens: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Return tokens (P + 1, D + 8) float32: the picture's in the first D numbers, then one of sound in the last 8.

    Args:
        tokens: (P, D) float32.
        sound: (8,) float32.
    """
    out = np.zeros((len(tokens) + 1, tokens.shape[1] + len(sound)), np.float32)
    out[:-1, : tokens.shape[1]] = tokens
    out[-1, tokens.shape[1] :] = sound
    return out


def _open(path: Path) -> Any:
    try:
        import av
    except ImportError as error:
        raise UsageError("sound needs PyAV: pip install embodied-mem[video]") from error
    if not path.is_file():
        raise UsageError(f"expected a media file at {path}, found nothing there")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, ValueError) as error:
        raise UsageError(f"expected a media file in {path}, no decoder reads it: {error}") from error
    if not container.streams.audio:
        container.close()
        raise UsageError(f"expected sound in {path}, it has no audio stream")
    return container


def _samples(container: Any) -> Iterator[tuple[float, np.ndarray]]:
    """Yield (seconds, (N,) float32) of the first audio stream at 16 kHz; damaged packets are left out."""
    import av

    stream = container.streams.audio[0]
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:
            continue
        for frame in frames:
            for part in resampler.resample(frame):
                yield float(part.time or 0.0), part.to_ndarray().reshape(-1).astype(np.float32)
    for part in resampler.resample(None):
        yield float(part.time or 0.0), part.to_ndarray().reshape(-1).astype(np.float32)
