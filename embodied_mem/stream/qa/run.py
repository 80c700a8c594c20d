"""A benchmark run: frames in, questions at their times, answers from the memory alone.

    memory_only   the answerer gets what a snapshot of the memory recalls, nothing else (the default)
    stream        also the latest ``frames`` raw frames before the question
    full          the memory has seen the whole video, whenever the question is asked (offline protocols)

The source is read by the run alone, never beyond the time of a question, and is shut while one is answered
(`GuardedSource`): whatever tries to read it then ends the run. With several videos per stream they follow one another
without a reset, as in the streaming re-cuts of TaskMem, and each question is asked at the end of its evidence, or of
its video.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.stream.answerers.base import Answer, Answerer, request_for
from embodied_mem.stream.audio import AudioTrack, joined
from embodied_mem.stream.encode import FrameEncoder, make_frame_encoder
from embodied_mem.stream.evidence import Evidence, KeyFrame, Span
from embodied_mem.stream.frames import Frame, shrink
from embodied_mem.stream.memory import StreamMemory, check_at_least, make_stream_memory
from embodied_mem.stream.qa.agenda import Agenda, Due, in_time
from embodied_mem.stream.qa.baselines import collect
from embodied_mem.stream.qa.benchmark import Benchmark, Mark
from embodied_mem.stream.qa.guard import GuardedSource
from embodied_mem.stream.qa.judges import Judge
from embodied_mem.stream.qa.sample import Sample
from embodied_mem.stream.qa.texts import yes_or_no
from embodied_mem.stream.sources import open_source
from embodied_mem.stream.speech import LocalSpeech, SpeechTrack

Mode = Literal["memory_only", "stream", "full"]
MODES: tuple[Mode, ...] = ("memory_only", "stream", "full")
MEMORY = "memory"
STAGES = ("decode", "encode", "write")
"""What is timed of every frame, beside recall and answer of every question."""
Query = Callable[[str], np.ndarray]
"""Question -> (D,) float32 in the space of the tokens."""
Row = dict[str, Any]
Video = tuple[Path, Sequence[Sample]]


@dataclass(frozen=True)
class RunConfig:
    """How a stream is remembered and asked."""

    memory: str = "flash_vstream"
    """Stream memory, by name."""
    memory_config: Mapping[str, Any] = field(default_factory=dict)
    """Its options."""
    encoder: str = "grid"
    """``grid``, or a registered image encoder."""
    encoder_options: Mapping[str, Any] = field(default_factory=dict)
    """Its options."""
    mode: Mode = "memory_only"
    """What the answerer gets."""
    fps: float = 1.0
    """Frames per second that are looked at."""
    frame_side: int = 224
    """Longer side of the frames that are kept or shown, pixels; 0 keeps none."""
    budget: int | None = 256
    """Tokens recalled for one question; None for no limit."""
    audio: bool = False
    """Give the memory the sound too, as one more token per frame (`stream.audio.joined`)."""
    speech: str | None = None
    """Folder of a speech model: what is said in a video goes into the memory as text (`stream.speech`)."""
    frames: int = 8
    """Raw frames of the baselines and of ``stream``."""
    max_tokens: int = 64
    """Longest reply."""
    official: bool = False
    """Score as the published scorer does."""

    def __post_init__(self) -> None:
        check_at_least(self, frame_side=0, frames=1, max_tokens=1)
        if self.mode not in MODES:
            raise UsageError(f"expected a mode of {', '.join(MODES)}, got {self.mode!r}")
        if not self.fps > 0 or (self.budget is not None and self.budget < 1):
            raise UsageError(f"expected fps > 0 and a budget >= 1, got {self.fps} and {self.budget}")


@dataclass(frozen=True)
class _Shown:
    """What an answerer is given for one question."""

    evidence: Evidence
    retrieve_ms: float
    mem_bytes: int
    offset_s: float = 0.0
    """Seconds of the stream at which the present video began."""


class Asker:
    """Asks an answerer about samples and marks what it says."""

    def __init__(self, benchmark: Benchmark, answerer: Answerer, judge: Judge, config: RunConfig) -> None:
        self.benchmark, self.answerer, self.judge, self.config = benchmark, answerer, judge, config

    def take(self, due: Due, agenda: Agenda, shown: _Shown) -> Row | None:
        """Return the row of a question, or None for a poll whose answer was not yes."""
        sample = due.sample
        if not self.answerer.capabilities.images:
            shown = replace(shown, evidence=replace(shown.evidence, frames=()))
        if not due.poll:
            answer = self._ask(self.benchmark.prompt(sample), sample.options, shown.evidence)
            return self._row(due, answer, self._mark(sample, answer), shown)
        reply = self._ask(self.benchmark.poll_prompt(sample, self.config.official), None, shown.evidence)
        if yes_or_no(reply.text) == "yes":
            answer = self._ask(self.benchmark.final_prompt(sample), None, shown.evidence)
            timely, mark = in_time(sample, due.t_s), self._mark(sample, answer)
            found = replace(mark, score=(mark.score or 0.0) * timely)
            return self._row(due, answer, found, shown) | {"said_s": due.t_s, "in_time": timely}
        if agenda.again(due):
            return None
        return self._row(due, Answer(""), Mark(0.0, ""), shown) | {"said_s": None, "in_time": False}

    def _ask(self, prompt: str, options: Sequence[str] | None, evidence: Evidence) -> Answer:
        embeds = self.answerer.capabilities.embeds
        request = request_for(prompt, evidence, options=options, embeds=embeds, max_tokens=self.config.max_tokens)
        return self.answerer.answer(request)

    def _mark(self, sample: Sample, answer: Answer) -> Mark:
        if self.config.official:
            return self.benchmark.official(sample, answer.text or None, self.judge)
        return self.benchmark.mark(sample, answer, self.judge)

    def _row(self, due: Due, answer: Answer, mark: Mark, shown: _Shown) -> Row:
        sample, evidence = due.sample, shown.evidence
        row: Row = {
            "qid": sample.qid,
            "video_id": sample.video_id,
            "task": sample.task,
            "labels": list(sample.labels),
            "kind": sample.kind,
            "text": answer.text,
            "pred": mark.pred,
            "score": mark.score,
            "parsed_by": mark.parsed_by,
            "unparsed": not mark.parsed_by,
            "t_ask": due.t_s if math.isfinite(due.t_s) else None,
            "latency_ms": {"retrieve": shown.retrieve_ms, "answer": answer.total_ms},
            "mem_bytes": shown.mem_bytes,
            "mem_tokens": len(evidence.tokens),
            "images": len(evidence.frames),
            "calls": int(answer.usage.get("calls", 1)),
        }
        if sample.evidence:
            row |= recall_scores(evidence, [(t0 + shown.offset_s, t1 + shown.offset_s) for t0, t1 in sample.evidence])
        return row


def run_memory(
    videos: Sequence[Video],
    asker: Asker,
    *,
    query: Query | None = None,
    encoder: FrameEncoder | None = None,
    memory: StreamMemory | None = None,
) -> Iterator[Row]:
    """Write one stream to a memory and yield a row per question, in the order of time.

    Args:
        videos: path and questions of the videos of the stream, one after the other.
        asker: who is asked.
        query: question to a vector in the space of the tokens; None recalls an overview.
        encoder: in place of the one the config names.
        memory: in place of the one the config names, empty.

    Raises:
        RawVideoRead: the video was read while a question was open.
        AnswererError: the answerer cannot answer.
    """
    writer = _Writer(asker.config, encoder, memory)
    for number, (path, samples) in enumerate(videos):
        if len(videos) > 1:
            samples = [recut(sample) for sample in samples]
        with GuardedSource(open_source(path), asker.config.fps) as guard:
            writer.begin(guard, start_s(samples), path)
            agenda = Agenda(samples)
            if asker.config.mode == "full":
                writer.advance(math.inf)
            while agenda:
                due = agenda.pop()
                writer.advance(due.t_s)
                with guard.question():
                    row = asker.take(due, agenda, writer.shown(due.sample, query))
                if row is not None:
                    row["latency_ms"] |= writer.stages_ms()
                    yield row | writer.counts()
            if number < len(videos) - 1:
                writer.advance(math.inf)
            writer.end()


def run_baseline(video: Video, baseline: str, asker: Asker) -> Iterator[Row]:
    """Yield a row per question about one video, answered from the baseline's frames.

    Args:
        video: path and questions.
        baseline: one of `baselines.BASELINES`; "oracle" leaves out questions without evidence.
        asker: who is asked.
    """
    path, samples = video
    c = asker.config
    side = c.frame_side or 224
    frames = collect(path, samples, baseline, frames=c.frames, fps=c.fps, side=side, start_s=start_s(samples))
    agenda = Agenda([sample for sample in samples if baseline != "oracle" or sample.evidence])
    while agenda:
        due = agenda.pop()
        row = asker.take(due, agenda, _from_frames(frames[due.sample.qid, due.t_s]))
        if row is not None:
            yield row | {"frames_seen": row["images"], "frames_dropped": 0}


class _Writer:
    """One memory with its encoder, fed from one guarded source after another on one time axis."""

    def __init__(self, config: RunConfig, encoder: FrameEncoder | None, memory: StreamMemory | None) -> None:
        self.config = config
        self.encoder = encoder or make_frame_encoder(config.encoder, config.encoder_options)
        self.memory = memory or make_stream_memory(config.memory, **config.memory_config)
        self.recent: deque[KeyFrame] = deque(maxlen=config.frames if config.mode == "stream" else 0)
        self._model = None if config.speech is None else LocalSpeech(config.speech)
        self.offset_s = 0.0
        self.seen = self.refused = 0
        self._spent = dict.fromkeys(STAGES, 0.0)
        self._frame: tuple[int, int] | None = None
        self._broken = 0

    def begin(self, guard: GuardedSource, start_s: float, path: Path) -> None:
        self.guard, self._start_s = guard, start_s
        self._audio = AudioTrack(path) if self.config.audio else None
        self._speech = None if self._model is None else SpeechTrack(path, self._model)
        if self._speech is not None:
            self._speech.skip(start_s)

    def end(self) -> None:
        self.offset_s += self.guard.last_s + 1 / self.config.fps
        self._broken += self.guard.broken + self.guard.inner.broken

    def advance(self, t_s: float) -> None:
        """Write the frames up to ``t_s`` seconds of the present video."""
        began = time.perf_counter()
        for frame in self.guard.until(t_s):
            self._spent["decode"] += time.perf_counter() - began
            if frame.t_s >= self._start_s:
                self._write(frame)
            began = time.perf_counter()

    def _write(self, frame: Frame) -> None:
        c = self.config
        key = self._key_frame(frame.rgb) if c.frame_side else None
        said = "" if self._speech is None else self._speech.heard(frame.t_s)
        began = middle = time.perf_counter()
        try:
            tokens = self.encoder(frame.rgb)
            if self._audio is not None:
                tokens = joined(tokens, self._audio.at(frame.t_s))
            middle = time.perf_counter()
            self.memory.write(tokens, self.offset_s + frame.t_s, key, said)
            self.seen += 1
        except UsageError:
            self.refused += 1
            if self.seen == 0:
                raise
        self._spent["encode"] += middle - began
        self._spent["write"] += time.perf_counter() - middle
        if c.mode == "stream":
            self.recent.append(KeyFrame(shrink(frame.rgb, c.frame_side or 224), self.offset_s + frame.t_s))

    def _key_frame(self, rgb: np.ndarray) -> np.ndarray:
        small = shrink(rgb, self.config.frame_side)
        if self._frame is None:
            self._frame = small.shape[:2]
        # the videos of one stream may differ in shape, the key frames of one memory may not
        height, width = self._frame
        return small if small.shape[:2] == self._frame else cv2.resize(small, (width, height))

    def shown(self, sample: Sample, query: Query | None) -> _Shown:
        began = time.perf_counter()
        vector = None if query is None else query(sample.question)
        evidence = self.memory.snapshot().read(vector, self.config.budget)
        if self.recent:
            held = {frame.t_s: frame for frame in (*evidence.frames, *self.recent)}
            evidence = replace(evidence, frames=tuple(held[t] for t in sorted(held)))
        took = 1000 * (time.perf_counter() - began)
        return _Shown(evidence, took, self.memory.nbytes(), self.offset_s)

    def stages_ms(self) -> dict[str, float]:
        """Return the mean milliseconds of a frame so far at every stage before the question."""
        frames = max(1, self.seen + self.refused)
        return {name: 1000 * spent / frames for name, spent in self._spent.items()}

    def counts(self) -> Row:
        broken = self._broken + self.guard.broken + self.guard.inner.broken
        return {"frames_seen": self.seen, "frames_dropped": self.refused + broken}


def start_s(samples: Sequence[Sample]) -> float:
    """Return the seconds at which the clip that samples are about begins."""
    return max((float(sample.meta.get("start_s", 0.0)) for sample in samples), default=0.0)


def recut(sample: Sample) -> Sample:
    """Return the sample asked at the end of its evidence, or at its own time, or at the end of its video."""
    if sample.evidence and sample.kind != "proactive":
        return replace(sample, ask_time_s=max(t1 for _, t1 in sample.evidence))
    return sample


def recall_scores(evidence: Evidence, wanted: Sequence[tuple[float, float]]) -> Row:
    """Return how well what was recalled covers the stretches ``wanted``, which hold the answer.

    Returns:
        ``hit``: 1 where a recalled span touches it; ``overlap``: seconds in both / seconds in either (temporal IoU).
    """
    recalled = [*map(tuple, evidence.times.tolist()), *((frame.t_s, frame.t_s) for frame in evidence.frames)]
    hit = any(t0 <= e1 and t1 >= e0 for t0, t1 in recalled for e0, e1 in wanted)
    a, b = _merged(recalled), _merged(wanted)
    both = sum(max(0.0, min(a1, b1) - max(a0, b0)) for a0, a1 in a for b0, b1 in b)
    either = sum(t1 - t0 for t0, t1 in (*a, *b)) - both
    return {"hit": float(hit), "overlap": both / either if either > 0 else None}


def _merged(spans: Sequence[tuple[float, ...]]) -> list[tuple[float, float]]:
    out: list[tuple[float, float]] = []
    for t0, t1 in sorted((span[0], span[1]) for span in spans):
        if out and t0 <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], t1))
        else:
            out.append((t0, t1))
    return out


def _from_frames(frames: Sequence[KeyFrame]) -> _Shown:
    import torch

    lines = tuple(Span(f"frame at {frame.t_s:.2f} s", frame.t_s, frame.t_s) for frame in frames)
    until = frames[-1].t_s if frames else -math.inf
    nothing = torch.zeros(0, 0), torch.zeros(0, 2).double()
    evidence = Evidence(*nothing, tuple(frames), lines, len(frames), until)
    return _Shown(evidence, 0.0, sum(frame.rgb.nbytes for frame in frames))
