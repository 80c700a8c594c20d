"""What is said in a recording, as text on the time axis of its frames: a local speech model over windows of sound.

    window     ``window_s`` seconds of sound, by the decoder's time stamps (`stream.audio.windows`)
    heard      the text of a window belongs to the first frame at or after the window's end, so that no frame knows of
               words that come later; windows below ``silence_db`` are not given to the model
    text       "said: ..." goes into a memory with that frame, `StreamMemory.write(text=...)`

`LocalSpeech` runs any speech model that transformers' pipeline ``automatic-speech-recognition`` knows (Whisper,
Wav2Vec2 and others) from a local folder; nothing is fetched and no code of the folder is run. HippoMM (Lin et al. 2025)
and InternLM-XComposer2.5-OmniLive (Zhang et al. 2024) transcribe as well; their windows end where somebody stops to
speak, here they have one length, so that a word can be cut in two.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.devices import resolve_device
from embodied_mem.errors import UsageError
from embodied_mem.stream.audio import RATE, Window, decibels, windows
from embodied_mem.stream.entry import within

Transcriber = Callable[[np.ndarray], str]
"""Samples (N,) float32 mono, -1..1, 16 kHz -> what is said in them."""


class LocalSpeech:
    """A speech model in a local folder, run by transformers; loaded at the first window."""

    def __init__(self, path: str | Path, *, device: str = "cpu", max_tokens: int = 128) -> None:
        """Check the folder.

        Args:
            path: folder with config, weights, tokenizer and feature extractor, as ``save_pretrained`` writes them.
            device: auto, cpu, cuda or cuda:i.
            max_tokens: longest text of one window, in the model's tokens; models that write no tokens ignore it.

        Raises:
            UsageError: the folder holds no model, or the device is not there.
        """
        self.path = Path(path)
        if max_tokens < 1:
            raise UsageError(f"expected max_tokens >= 1, got {max_tokens}")
        if not (self.path / "config.json").is_file():
            raise UsageError(
                f"expected the folder of a speech model at {path}, found no config.json there; "
                "put one there (as save_pretrained writes it), or run without speech"
            )
        self.device, self.max_tokens = resolve_device(device), max_tokens
        self._lock = threading.Lock()
        self._pipe: Any = None

    def __call__(self, samples: np.ndarray) -> str:
        """Return what is said in samples (N,) float32 mono, 16 kHz; several threads take turns.

        Raises:
            UsageError: the model cannot be loaded, or fails.
        """
        with self._lock:
            try:
                pipe = self._load()
                said = pipe({"raw": np.asarray(samples, np.float32), "sampling_rate": RATE}, **self._options(pipe))
            except (OSError, RuntimeError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                raise UsageError(f"the speech model in {self.path} failed: {reason}") from error
        return str(said["text"]).strip()

    def _load(self) -> Any:
        if self._pipe is None:
            from transformers import pipeline

            # a folder is never looked up elsewhere
            self._pipe = pipeline(
                "automatic-speech-recognition", model=str(self.path), device=self.device, trust_remote_code=False
            )
        return self._pipe

    def _options(self, pipe: Any) -> dict[str, Any]:
        return {"generate_kwargs": {"max_new_tokens": self.max_tokens}} if pipe.model.can_generate() else {}


class SpeechTrack:
    """What is said in a file, at times that run forward."""

    def __init__(
        self, path: str | Path, transcriber: Transcriber, *, window_s: float = 5.0, silence_db: float = -40.0
    ) -> None:
        """Open the file; see the module's text.

        Args:
            path: media file with sound.
            transcriber: samples to text.
            window_s: seconds that are transcribed at a time.
            silence_db: RMS at and below which a window is silent.

        Raises:
            UsageError: PyAV is missing, the file has no sound, or a value is out of range.
        """
        if not silence_db < 0:
            raise UsageError(f"expected silence_db < 0, got {silence_db}")
        self.transcriber, self.silence_db = transcriber, silence_db
        self.calls = 0
        """Windows that were given to the model."""
        self._windows: Iterator[Window] = windows(path, window_s)
        self._next: Window | None = next(self._windows, None)
        self._asked = -np.inf

    def heard(self, t_s: float) -> str:
        """Return what was said in the windows that ended since the call before and not after ``t_s`` seconds.

        Raises:
            UsageError: the time is before the one of the call before, or the model fails.
        """
        words = " ".join(said for said in self._until(t_s, transcribe=True) if said).split()
        return within("said: " + " ".join(words)) if words else ""

    def skip(self, t_s: float) -> None:
        """Leave out what was said up to ``t_s`` seconds, without asking the model."""
        for _ in self._until(t_s, transcribe=False):
            pass

    def _until(self, t_s: float, transcribe: bool) -> Iterator[str]:
        if t_s < self._asked:
            raise UsageError(f"expected a time >= {self._asked} s, got {t_s}; the track is read forward")
        self._asked = t_s
        while self._next is not None and self._next.t1 <= t_s:
            window, self._next = self._next, next(self._windows, None)
            loud = transcribe and decibels(window.samples) > self.silence_db
            self.calls += loud
            yield self.transcriber(window.samples) if loud else ""
