"""A session: frames in, memory kept, questions answered, none waiting for another.

    source --(reader thread)--> bounded queue --(worker thread)--> encoder --> memory
    ask(): a snapshot of the memory --> answerer, in the thread of the caller

The worker never waits for an answer: a question holds the memory's lock only while references are copied. A live
source reads with ``latest`` (frames that come faster than they are encoded are dropped and counted), a recording with
``block`` (nothing is dropped). With ``checkpoint`` the memory is written every so many frames, and a session that is
made on the same folder goes on after the last frame written: a seekable source is read from there, a live one goes on
by the wall clock, any other skips what was written (frames of the very same time stamp included).

Sessions share nothing; any number of them live in one process.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.config import to_dict
from embodied_mem.devices import resolve_device
from embodied_mem.errors import UsageError
from embodied_mem.stream.asker import Asker, Reply
from embodied_mem.stream.audio import AudioTrack, joined
from embodied_mem.stream.checkpoint import has_checkpoint, load_memory, save_memory
from embodied_mem.stream.encode import FrameEncoder, embed_question, make_frame_encoder
from embodied_mem.stream.evidence import Evidence, Snapshot
from embodied_mem.stream.frames import Frame, FrameSource, Sampler, shrink
from embodied_mem.stream.memory import StreamMemory, check_at_least, make_stream_memory
from embodied_mem.stream.queue import POLICIES, BoundedQueue, Policy
from embodied_mem.stream.speech import SpeechTrack
from embodied_mem.stream.standing import OnAlert, StandingQueries

_TIMINGS_KEPT = 512
STAGES = ("decode", "encode", "write", "snapshot", "retrieve", "answer", "checkpoint")
"""What `Session.timings_ms` tells the time of; decoding a live source is mostly waiting for it."""


@dataclass(frozen=True)
class SessionConfig:
    """What a session is made of."""

    memory: str = "flash_vstream"
    """Stream memory, by name."""
    memory_config: dict[str, Any] = field(default_factory=dict)
    """Its options."""
    encoder: str = "grid"
    """``grid``, or a registered image encoder."""
    encoder_options: dict[str, Any] = field(default_factory=dict)
    """Its options."""
    device: str = "cpu"
    """Where a registered encoder computes: auto, cpu, cuda or cuda:i."""
    fps: float | None = None
    """Frames per second that are remembered at most; the others are for showing. None for all."""
    frame_side: int = 224
    """Longer side of the key frames that are kept, pixels; 0 keeps none."""
    queue: int = 8
    """Frames that may wait for the encoder."""
    policy: Policy | None = None
    """What happens when the queue is full; None for ``latest`` on live sources and ``block`` on others."""
    checkpoint: str | None = None
    """Folder of the checkpoint; None for none."""
    every: int = 500
    """Frames between two checkpoints."""

    def __post_init__(self) -> None:
        check_at_least(self, frame_side=0, queue=1, every=1)
        if self.policy not in (None, *POLICIES):
            raise UsageError(f"expected policy {', '.join(POLICIES)} or none, got {self.policy!r}")


@dataclass(frozen=True)
class SessionCounters:
    """What happened to the frames of a session; produced == written + refused + dropped + waiting."""

    produced: int
    """Frames that the source gave."""
    written: int
    """Frames that reached the memory, in this process."""
    refused: int
    """Frames that encoder or memory refused."""
    dropped: int
    """Frames dropped by the queue."""
    waiting: int
    """Frames on their way."""
    broken: int
    """Frames that could not be decoded."""
    checkpoints: int
    """Checkpoints written."""


class Session:
    """One stream with its memory."""

    def __init__(
        self,
        source: FrameSource,
        config: SessionConfig | None = None,
        *,
        encoder: FrameEncoder | None = None,
        audio: AudioTrack | None = None,
        speech: SpeechTrack | None = None,
    ) -> None:
        """Build memory and encoder, or continue from the checkpoint.

        Args:
            source: where the frames come from; the session closes it.
            config: see `SessionConfig`.
            encoder: (H, W, 3) uint8 -> (P, D) float32, in place of the one the config names.
            audio: sound of the recording; its features go in as one more token (`audio.joined`).
            speech: what is said in the recording; it goes in as the text of the frames.

        Raises:
            UsageError: a name or value is wrong, or the checkpoint is of another memory.
        """
        self.config = config or SessionConfig()
        c = self.config
        self.source = source
        self.audio, self.speech = audio, speech
        self.encoder = encoder or make_frame_encoder(c.encoder, c.encoder_options, resolve_device(c.device))
        self.memory: StreamMemory = make_stream_memory(c.memory, **c.memory_config)
        self.resumed_s, self._shift_s = -math.inf, 0.0
        if c.checkpoint is not None and has_checkpoint(c.checkpoint):
            self._resume(c.checkpoint)
        self._queue: BoundedQueue[Frame] = BoundedQueue(c.queue, c.policy or ("latest" if source.live else "block"))
        self._threads: list[threading.Thread] = []
        self._sampler = Sampler(c.fps)
        self._held: Frame | None = None
        self._standing: list[StandingQueries] = []
        if speech is not None and math.isfinite(self.resumed_s):
            speech.skip(self.resumed_s)
        self.latest: Frame | None = None
        """The newest frame read, for showing."""
        self._count = threading.Lock()
        self._written = self._refused = self._checkpoints = self._busy = 0
        self._error: BaseException | None = None
        self._reports: deque[str] = deque(maxlen=64)
        self._spans: dict[str, deque[float]] = {name: deque(maxlen=_TIMINGS_KEPT) for name in STAGES}

    def _resume(self, folder: str) -> None:
        name, memory, facts = load_memory(folder)
        ours = (self.config.memory, to_dict(self.memory.config))
        if type(memory) is not type(self.memory) or to_dict(memory.config) != ours[1]:
            raise UsageError(
                f"the checkpoint in {folder} holds memory {name!r} with another config than {ours[0]!r} here; "
                "give the same memory, or another folder"
            )
        self.memory = memory
        if self.source.live:
            # a live source starts its own time anew: it goes on where the wall clock says it is
            self._shift_s = memory.until_s + max(0.0, time.time() - float(facts["wall_s"]))
            return
        self.resumed_s = memory.until_s
        if self.source.seekable:
            self.source.seek(self.resumed_s)

    def start(self) -> Session:
        """Read and write in threads of their own; returns at once."""
        if self._threads:
            raise UsageError("this session runs already; make another one for another run")
        for target in (self._read_frames, self._write_frames):
            thread = threading.Thread(target=target, name=f"{self.source.source_id}:{target.__name__}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def run(self, frames: int | None = None, until_s: float | None = None) -> int:
        """Read, encode and write in this thread, without a queue.

        Args:
            frames: stop after so many frames of the source; None for all.
            until_s: stop before the first frame later than that, in seconds of the memory; the next run begins there.

        Returns:
            frames written.

        Raises:
            UsageError: the session runs in threads.
        """
        if self._threads:
            raise UsageError("this session runs in threads; wait for it with join()")
        before, left = self._written, math.inf if frames is None else frames
        end_s = math.inf if until_s is None else until_s
        if left <= 0:
            return 0
        held, self._held = self._held, None
        for frame in itertools.chain(() if held is None else (held,), self._decoded()):
            if frame.t_s + self._shift_s > end_s:
                self._held = frame
                break
            if self._wanted(frame):
                self._take(frame)
                left -= 1
            if left <= 0:
                break
        return self._written - before

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the end of the source; False after ``timeout_s`` seconds.

        Raises:
            BaseException: what ended a thread before its time.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
        if self._error is not None:
            raise self._error
        return not any(thread.is_alive() for thread in self._threads)

    def close(self, save: bool = True) -> None:
        """Stop reading, write what is waiting, and (with a checkpoint folder) save."""
        for standing in self._standing:
            standing.close()
        self.source.stop()
        self._queue.close()
        for thread in self._threads:
            thread.join()
        self.source.close()
        if save and self.config.checkpoint is not None and self.memory.version:
            self.save()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.close(save=kind is None)

    def snapshot(self) -> Snapshot:
        """Return the memory as it is now, for questions."""
        began = time.perf_counter()
        taken = self.memory.snapshot()
        self._spans["snapshot"].append(time.perf_counter() - began)
        return taken

    def recall(self, query: np.ndarray | None = None, budget: int | None = None) -> Evidence:
        """Return evidence from the memory as it is now, see `Snapshot.read`."""
        return self.snapshot().read(query, budget)

    @property
    def running(self) -> bool:
        """Whether frames are still read or on their way."""
        return any(thread.is_alive() for thread in self._threads)

    @property
    def ended(self) -> bool:
        """Whether the stream ran in threads and is over."""
        return bool(self._threads) and not self.running

    @property
    def error(self) -> BaseException | None:
        """What ended a thread before its time."""
        return self._error

    def query(self, question: str) -> np.ndarray | None:
        """Return the question (D,) float32 in the space of the tokens; None where the encoder reads no words."""
        return embed_question(self.encoder, question)

    def ask(self, question: str, asker: Asker, **options: Any) -> Reply:
        """Ask the memory as it is now, see `Asker.ask`."""
        reply = asker.ask(self.snapshot(), question, query=self.query(question), **options)
        self._spans["retrieve"].append(reply.retrieve_ms / 1000)
        self._spans["answer"].append(reply.answer.total_ms / 1000)
        return reply

    def tell_when(self, question: str, asker: Asker, on_alert: OnAlert, **options: Any) -> StandingQueries:
        """Call ``on_alert`` whenever the answer to ``question`` turns to yes, from now on.

        The question is put to the memory again and again, in a thread of its own.

        Args:
            question: a question of yes or no, "is the door open?", or what should be told, "the door is open".
            asker: who answers it.
            on_alert: takes an `Alert`, in that thread.
            options: of `StandingQueries`.

        Raises:
            UsageError: the question is empty, or the stream is over.
        """
        standing = StandingQueries(self, asker, on_alert, **options)
        standing.add(question)
        self._standing.append(standing)
        return standing

    def save(self, folder: str | Path | None = None) -> None:
        """Write a checkpoint to ``folder``, or to the one of the config.

        Raises:
            UsageError: there is neither, or no frame was written yet.
        """
        target = folder or self.config.checkpoint
        if target is None:
            raise UsageError("expected a folder for the checkpoint; give one here or in the config")
        began = time.perf_counter()
        if self.memory.version == 0:
            raise UsageError("expected at least one frame before a checkpoint")
        save_memory(target, self.config.memory, self.memory, {"wall_s": time.time(), "source": self.source.source_id})
        self._checkpoints += 1
        self._spans["checkpoint"].append(time.perf_counter() - began)

    def counters(self) -> SessionCounters:
        """Return what happened to the frames so far."""
        with self._count:
            queued = self._queue.counters()
            produced = queued.produced or self._written + self._refused
            waiting = queued.waiting + self._busy
            return SessionCounters(
                produced,
                self._written,
                self._refused,
                queued.dropped,
                waiting,
                self.source.broken,
                self._checkpoints,
            )

    def timings_ms(self) -> dict[str, float | None]:
        """Return the mean milliseconds of the latest times of every stage (`STAGES`); None before any."""
        spans = {name: list(values) for name, values in self._spans.items()}
        return {name: 1000 * sum(v) / len(v) if v else None for name, v in spans.items()}

    @property
    def reports(self) -> list[str]:
        """Why the latest frames were refused."""
        return list(self._reports)

    def _wanted(self, frame: Frame) -> bool:
        if frame.t_s <= self.resumed_s or not self._sampler.due(frame.t_s):
            return False
        self._sampler.taken(frame.t_s)
        return True

    def _decoded(self) -> Iterator[Frame]:
        began = time.perf_counter()
        for frame in self.source:
            self._spans["decode"].append(time.perf_counter() - began)
            yield frame
            began = time.perf_counter()

    def _read_frames(self) -> None:
        try:
            for frame in self._decoded():
                self.latest = frame
                if self._wanted(frame) and not self._queue.put(frame):
                    return
        except BaseException as error:
            self._error = error
        finally:
            self._queue.close()

    def _write_frames(self) -> None:
        try:
            while True:
                with self._count:
                    frame = self._queue.get(0)
                    self._busy = int(frame is not None)
                if frame is None:
                    if self._queue.closed and self._queue.counters().waiting == 0:
                        return
                    self._queue.wait(0.5)
                    continue
                self._take(frame)
        except BaseException as error:
            self._error = error
            self._queue.close()

    def _take(self, frame: Frame) -> None:
        """Encode and write one frame; one that is refused is counted and reported, and the stream goes on."""
        refused: str | None = None
        began = time.perf_counter()
        # a speech model that fails ends the stream, as an encoder does
        text = "" if self.speech is None else self.speech.heard(frame.t_s)
        try:
            tokens = self.encoder(frame.rgb)
            if self.audio is not None:
                tokens = joined(tokens, self.audio.at(frame.t_s))
            middle = time.perf_counter()
            side = self.config.frame_side
            key = shrink(frame.rgb, side) if side else None
            self.memory.write(tokens, frame.t_s + self._shift_s, key, text)
            self._spans["encode"].append(middle - began)
            self._spans["write"].append(time.perf_counter() - middle)
        except UsageError as error:
            refused = f"frame {frame.index} at {frame.t_s:.3f} s: {error}"
        with self._count:
            self._busy = 0
            if refused is None:
                self._written += 1
            else:
                self._refused += 1
                self._reports.append(refused)
        if refused is None and self.config.checkpoint and self._written % self.config.every == 0:
            self.save()
