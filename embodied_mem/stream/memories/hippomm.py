"""Events cut at changes of the picture or of the tokens, thinned to what is new in them, the redundant ones let go.

    boundary   1 - SSIM of grey key frames ("ssim"), or 1 - cos of mean tokens ("embed"), above ``change``, once an
               event has ``min_s`` seconds; an event of ``max_s`` seconds is cut at its strongest change after ``min_s``
    silence    with ``audio``, also where the sound falls silent: any of the two ends an event
    event      its frames whose cosine to all frames kept before is below ``novelty`` (the first is always kept), at
               most ``kept`` of them: pattern separation
    eviction   of more than ``events``, the one most like another leaves, of two the older

HippoMM (Lin et al. 2025, arXiv 2504.10739). Different: segmentation is online, and the strongest change decides where
the published code takes the last one; more than ``kept`` novel frames are thinned evenly; the store has a capacity; a
read touches the memory alone, never the source. Captions, transcripts and the summaries of a language model are not
made here: texts given with the frames are joined into the event. The two ways of answering are in
`embodied_mem.stream.dual_path`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import TEXT_BYTES, Entry, entry_bytes, frozen, within
from embodied_mem.stream.evidence import Snapshot, by_similarity, spread
from embodied_mem.stream.memory import StreamMemory, check_at_least, stack_keys

_EPS = 1e-8
# More than any change of a picture (at most 2), so that a silence is the strongest one of an event.
_SILENCE = 3.0
# Stabilisers of the structural similarity for 8-bit images: (0.01 L)^2 and (0.03 L)^2 with L = 255.
_C1, _C2 = 6.5025, 58.5225
_SSIM_WIDTH = 160


@dataclass(frozen=True)
class HippoMMConfig:
    """Events and what is kept of them."""

    visual: Literal["embed", "ssim"] = "embed"
    """What a change is measured on; "ssim" needs key frames."""
    change: float = 0.3
    """Change above which an event ends."""
    min_s: float = 5.0
    """Shortest event, seconds."""
    max_s: float = 30.0
    """Longest event, seconds."""
    novelty: float = 0.9
    """Cosine to a kept frame from which on a frame is nothing new."""
    kept: int = 8
    """Frames kept of an event."""
    events: int = 100
    """Finished events that are held."""
    pending: int = 64
    """Frames of the open event that are held before it is thinned; longer events keep every n-th."""
    audio: int = 0
    """Numbers of sound at the end of the last token, loudness first (see `stream.audio.joined`); 0 for none."""

    def __post_init__(self) -> None:
        check_at_least(self, change=0.0, min_s=0.0, kept=1, events=2, pending=2, novelty=-1.0, audio=0)
        if self.max_s < self.min_s:
            raise UsageError(f"expected max_s >= min_s = {self.min_s}, got {self.max_s}")


@register(
    "stream_memory",
    "hippomm",
    family="events",
    source="HippoMM: Lin et al. 2025, arXiv 2504.10739",
    long_term=True,
    small={"min_s": 1.0, "max_s": 4.0, "events": 8, "kept": 4, "pending": 12},
)
class HippoMM(StreamMemory):
    """Events at changes, thinned to what is new in them."""

    Config = HippoMMConfig

    def start(self) -> None:
        """Begin without events."""
        self.stores = {"events": [], "open": [], "latest": []}
        # change of every open frame to the frame before it; frames of the open event; every n-th is held
        self.arrays = {"changes": np.zeros(0), "count": np.array([0, 1])}
        # of every event: the greatest cosine to another one, and which; two numbers of an entry's fixed bytes
        room = self.config.events + 1
        self._alike, self._nearest = np.full(room, -np.inf), np.zeros(room, np.int64)

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the events and of the open one."""
        c = self.config
        frames = (c.pending + 1) * (entry_bytes(tokens, width, extra) + 8) + 16
        return c.events * (entry_bytes(c.kept, width, extra) + (TEXT_BYTES if extra else 0)) + frames

    def absorb(self, entry: Entry) -> None:
        """Add the frame to the open event, or end that first."""
        c, current = self.config, self.stores["open"]
        if c.visual == "ssim" and entry.rgb is None:
            raise UsageError("expected a key frame with every frame for visual=ssim; visual=embed needs none")
        latest = self.stores["latest"]
        change = self._change(latest[0], entry) if latest else 0.0
        self.stores["latest"] = [entry]
        if current:
            length = entry.t0 - current[0].t0
            if change > c.change and length >= c.min_s:
                self._end(len(current))
            elif length >= c.max_s:
                self._end(self._strongest())
        count, stride = self.arrays["count"].tolist()
        current = self.stores["open"]
        if not current:
            count, stride, change = 0, 1, 0.0
        changes = self.arrays["changes"] if current else np.zeros(0)
        if count % stride == 0:
            current.append(entry)
            changes = np.append(changes, change)
        if len(current) > c.pending:
            current[:], changes, stride = current[::2], changes[::2], 2 * stride
        self.arrays = {"changes": changes, "count": np.array([count + 1, stride])}

    def _change(self, before: Entry, after: Entry) -> float:
        sound = self.config.audio
        if sound:
            if min(after.tokens.shape) < 2 or sound >= after.tokens.shape[1]:
                raise UsageError(f"expected tokens of picture and sound for audio={sound}, got {after.tokens.shape}")
            if after.tokens[-1, -sound] <= 0 < before.tokens[-1, -sound]:
                return _SILENCE
        if self.config.visual == "ssim":
            assert before.rgb is not None and after.rgb is not None
            return 1 - ssim(before.rgb, after.rgb)
        a, b = (entry.tokens[:-1, :-sound].mean(0) if sound else entry.key for entry in (before, after))
        return 1 - float(a @ b) / (float(np.linalg.norm(a) * np.linalg.norm(b)) + _EPS)

    def _strongest(self) -> int:
        """Return where to cut an event that is too long: before its strongest change after ``min_s``, or at its end."""
        current, changes = self.stores["open"], self.arrays["changes"]
        late = np.array([frame.t0 - current[0].t0 >= self.config.min_s for frame in current])
        late[0] = False
        strength = np.where(late, changes, 0.0)
        place = int(strength.argmax())
        return place if strength[place] > 1e-3 else len(current)

    def _end(self, cut: int) -> None:
        frames, rest = self.stores["open"][:cut], self.stores["open"][cut:]
        self.stores["events"].append(self._event(frames))
        self.stores["open"] = rest
        self.arrays = {"changes": self.arrays["changes"][cut:], "count": np.array([len(rest), 1])}
        events, units = self.stores["events"], self._units()
        self._compared(units, len(events) - 1)
        if len(events) > self.config.events:
            # of the most alike two the older stands first
            self._leaves(int(self._alike[: len(events)].argmax()), units)

    def _units(self) -> np.ndarray:
        """Return the mean tokens of the events, of length 1, (N, D) float32."""
        units = stack_keys(self.stores["events"], 0)
        units /= np.linalg.norm(units, axis=1, keepdims=True) + _EPS
        return units

    def _compared(self, units: np.ndarray, place: int) -> None:
        """Take up the event ``place``, beside those before it; its unit and theirs are the first rows of (N, D)."""
        if place == 0:
            return
        alike, held, nearest = np.einsum("nd,d->n", units[:place], units[place]), self._alike, self._nearest
        nearest[:place][alike > held[:place]] = place
        np.maximum(held[:place], alike, out=held[:place])
        nearest[place] = alike.argmax()
        held[place] = alike[nearest[place]]

    def _leaves(self, place: int, units: np.ndarray) -> None:
        """Let an event go; what had it as the nearest looks for another."""
        events, held, nearest = self.stores["events"], self._alike, self._nearest
        for row in np.flatnonzero(nearest[: len(events)] == place).tolist():
            others = np.einsum("nd,d->n", units, units[row])
            others[[row, place]] = -np.inf
            nearest[row] = others.argmax()
            held[row] = others[nearest[row]]
        del events[place]
        held[place:-1], nearest[place:-1] = held[place + 1 :], nearest[place + 1 :]
        held[-1] = -np.inf
        nearest -= nearest > place

    def restored(self) -> None:
        """Compare the events with one another again."""
        self._alike.fill(-np.inf)
        units = self._units()
        for place in range(len(units)):
            self._compared(units, place)

    def _event(self, frames: list[Entry]) -> Entry:
        keys = stack_keys(frames, 0)
        chosen = novel(keys, self.config.novelty)
        if len(chosen) > self.config.kept:
            chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, self.config.kept).round().astype(int)]
        shown = frames[chosen[len(chosen) // 2]]
        return Entry(
            tokens=frozen(keys[chosen]),
            t0=frames[0].t0,
            t1=frames[-1].t1,
            t=float(np.mean([frame.t for frame in frames])),
            weight=float(len(frames)),
            rgb=shown.rgb,
            rgb_t=shown.rgb_t,
            text=within(" ".join(dict.fromkeys(frame.text for frame in frames if frame.text))),
            number=frames[0].number,
        )

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return events, the most similar first; the open one is among them."""
        current = list(snapshot.stores["open"])
        events = [*snapshot.stores["events"], *([self._event(current)] if current else [])]
        return spread(events, budget) if query is None else by_similarity(events, query)


def novel(keys: np.ndarray, least: float) -> list[int]:
    """Return the rows of keys (N, D) whose cosine to all rows returned before is below ``least``; the first always."""
    unit = keys / (np.linalg.norm(keys, axis=1, keepdims=True) + _EPS)
    found = [0]
    for row in range(1, len(unit)):
        if (unit[found] @ unit[row]).max() < least:
            found.append(row)
    return found


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Return the structural similarity of two images (H, W, 3) uint8 of one size, grey and at most 160 pixels wide."""
    grey = []
    for image in (a, b):
        plane = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if plane.shape[1] > _SSIM_WIDTH:
            height = max(1, round(plane.shape[0] * _SSIM_WIDTH / plane.shape[1]))
            plane = cv2.resize(plane, (_SSIM_WIDTH, height), interpolation=cv2.INTER_AREA)
        grey.append(plane.astype(np.float64))

    def blur(plane: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(plane, (11, 11), 1.5)

    mean_a, mean_b = blur(grey[0]), blur(grey[1])
    spread_a, spread_b = blur(grey[0] ** 2) - mean_a**2, blur(grey[1] ** 2) - mean_b**2
    both = blur(grey[0] * grey[1]) - mean_a * mean_b
    top = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    return float((top / ((mean_a**2 + mean_b**2 + _C1) * (spread_a + spread_b + _C2))).mean())
