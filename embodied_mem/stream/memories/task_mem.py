"""Writing as a policy: a small adapter decides which frames are written, and learns from how questions were answered.

    features    f = [x / |x|, the greatest cosine to what is held, 1],  x the mean token          (D + 2 numbers)
    policy      p = sigmoid(w . f),  written where p >= 1/2; while learning where a draw says so
    eviction    of more than ``slots`` the frame of the least w . f leaves, of equal ones the oldest
    learning    trace e = sum (a - p) f over the decisions a of an episode;  w <- w + rate (R - b) e,
                R the share of questions answered, b the mean of the rewards so far (fading with ``forget``)

TaskMem (2026, arXiv 2605.31075) tunes an adapter of 2048 numbers on a frozen language model by the reward of recent
tasks; it writes text. Here the adapter stands on the frames' features, with the reward of questions alone (its second
phase), and what is written are frames. The gradient is that of REINFORCE; its trace has the size of the adapter, so
that learning keeps the memory's bytes bounded. An untrained adapter (zeros) writes everything and is ``last_k``.

One episode: ``reset``, ``load_adapter(learned)``, ``explore(seed)``, the stream, the questions, ``learn(reward)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes
from embodied_mem.stream.memory import StreamMemory, check_at_least, stack_keys

_EPS = 1e-8
Learned = dict[str, np.ndarray]


@dataclass(frozen=True)
class TaskMemConfig:
    """Size and learning of the memory."""

    slots: int = 64
    """Frames kept."""
    rate: float = 0.2
    """Step of the adapter for a reward of one above the mean."""
    forget: float = 0.05
    """Weight of the newest reward in the mean, from the twentieth on."""

    def __post_init__(self) -> None:
        check_at_least(self, slots=1, rate=0.0)
        if not 0 < self.forget <= 1:
            raise UsageError(f"expected 0 < forget <= 1, got {self.forget}")


@register(
    "stream_memory",
    "taskmem",
    family="learned",
    source="TaskMem: ByteDance Seed 2026, arXiv 2605.31075 (reconstruction)",
    small={"slots": 12},
)
class TaskMem(StreamMemory):
    """Frames chosen by a policy that learns from the reward of questions."""

    Config = TaskMemConfig

    def start(self) -> None:
        """Begin with an untrained adapter and no frames."""
        self.stores = {"frames": []}
        # draw: seed of the exploration, -1 for none; baseline: mean reward, rewards so far
        self.arrays = {
            "adapter": np.zeros(0),
            "trace": np.zeros(0),
            "value": np.zeros(0),
            "baseline": np.zeros(2),
            "draw": np.array([-1]),
        }

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the frames with their values, of adapter, trace, baseline and draw."""
        return self.config.slots * (entry_bytes(tokens, width, extra) + 8) + 8 * (2 * (width + 2) + 3)

    def absorb(self, entry: Entry) -> None:
        """Write the frame or not; make room."""
        a, frames = self.arrays, self.stores["frames"]
        f = self._features(entry, frames)
        if not len(a["adapter"]):
            a["adapter"] = np.zeros(len(f))
        if len(a["adapter"]) != len(f):
            raise UsageError(f"expected tokens of width {len(a['adapter']) - 2} for the adapter, got {len(f) - 2}")
        if not len(a["trace"]):
            a["trace"] = np.zeros(len(f))
        value = float(a["adapter"] @ f)
        chance = 1 / (1 + np.exp(-np.clip(value, -30, 30)))
        seed = int(a["draw"][0])
        if seed < 0:
            written = value >= 0
        else:
            written = bool(np.random.Generator(np.random.Philox(key=seed, counter=entry.number)).random() < chance)
            a["trace"] = a["trace"] + (written - chance) * f
        if not written:
            return
        frames.append(entry)
        values = np.append(a["value"], value)
        if len(frames) > self.config.slots:
            least = int(values.argmin())
            del frames[least]
            values = np.delete(values, least)
        a["value"] = values

    def explore(self, seed: int) -> None:
        """Draw the decisions of the stream to come, for `learn`.

        Raises:
            UsageError: the seed is negative, or frames were written already.
        """
        with self._lock:
            if seed < 0 or self.version:
                raise UsageError(f"expected a seed >= 0 before the first frame, got {seed} at frame {self.version}")
            self.arrays["draw"] = np.array([seed])

    def learn(self, reward: float) -> Learned:
        """Return what is learned from one explored stream, for `load_adapter` of the next.

        Args:
            reward: share of the questions that were answered, any finite number.

        Raises:
            UsageError: the stream was not explored, or the reward is not finite.
        """
        with self._lock:
            a = self.arrays
            if a["draw"][0] < 0 or not len(a["trace"]):
                raise UsageError("expected explore(seed) before the stream that is learned from")
            if not np.isfinite(reward):
                raise UsageError(f"expected a finite reward, got {reward}")
            mean, count = a["baseline"]
            if count:
                a["adapter"] = a["adapter"] + self.config.rate * (reward - mean) * a["trace"]
            a["baseline"] = np.array([mean + (reward - mean) * max(self.config.forget, 1 / (count + 1)), count + 1])
            a["trace"] = np.zeros_like(a["trace"])
            return {"adapter": a["adapter"].copy(), "baseline": a["baseline"].copy()}

    def load_adapter(self, learned: Learned) -> None:
        """Write by what `learn` returned, from the first frame on.

        Raises:
            UsageError: frames were written already, or it is something else.
        """
        with self._lock:
            shapes = {name: np.shape(array) for name, array in learned.items()}
            if self.version or set(shapes) != {"adapter", "baseline"} or len(shapes["adapter"]) != 1:
                raise UsageError(f"expected adapter and baseline before the first frame, got {shapes}")
            self.arrays |= {name: np.asarray(array, np.float64).copy() for name, array in learned.items()}

    def _features(self, entry: Entry, held: list[Entry]) -> np.ndarray:
        key = entry.key.astype(np.float64)
        unit = key / (np.linalg.norm(key) + _EPS)
        alike = 0.0
        if held:
            keys = stack_keys(held, len(key))
            alike = float((keys @ unit / (np.linalg.norm(keys, axis=1) + _EPS)).max())
        return np.array([*unit, alike, 1.0])
