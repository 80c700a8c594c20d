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
`embodied_mem.policies.stream` trains adapters with RLlib, many streams at a time.

One episode: ``reset``, ``load_adapter(learned)``, ``explore(seed)``, the stream, the questions, ``learn(reward)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_bytes
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
    adapter: str | None = None
    """File of a learned adapter (`save_adapter`); None begins with an untrained one."""

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
    _told: float | None = None

    def start(self) -> None:
        """Begin without frames, with the adapter of the config's file or an untrained one."""
        self.stores = {"frames": []}
        # draw: seed of the exploration, -1 for none; baseline: mean reward, rewards so far
        self.arrays = {
            "adapter": np.zeros(0),
            "trace": np.zeros(0),
            "value": np.zeros(0),
            "baseline": np.zeros(2),
            "draw": np.array([-1]),
        }
        if self.config.adapter is not None:
            self.arrays |= read_adapter(self.config.adapter)

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of the frames with their values, of adapter, trace, baseline and draw."""
        return self.config.slots * (entry_bytes(tokens, width, extra) + 8) + 8 * (2 * (width + 2) + 3)

    def absorb(self, entry: Entry) -> None:
        """Write the frame or not; make room."""
        a, frames = self.arrays, self.stores["frames"]
        f = self._features(entry.key, frames)
        if not len(a["adapter"]):
            a["adapter"] = np.zeros(len(f))
        if len(a["adapter"]) != len(f):
            raise UsageError(f"expected tokens of width {len(a['adapter']) - 2} for the adapter, got {len(f) - 2}")
        if not len(a["trace"]):
            a["trace"] = np.zeros(len(f))
        value = float(a["adapter"] @ f) if self._told is None else self._told
        chance = 1 / (1 + np.exp(-np.clip(value, -30, 30)))
        seed = int(a["draw"][0])
        if seed < 0 or self._told is not None:
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

    def features(self, tokens: np.ndarray) -> np.ndarray:
        """Return what a decision about a frame is made from: its direction, its likeness to what is held, 1.

        Args:
            tokens: (P, D) float of the frame.

        Returns:
            (D + 2,) float64.
        """
        with self._lock:
            return self._features(np.asarray(tokens, np.float32).mean(0), self.stores["frames"])

    def write_valued(
        self, value: float, tokens: np.ndarray, t_s: float, key_frame: np.ndarray | None = None, text: str = ""
    ) -> None:
        """Write a frame of which another policy says what it is worth: below 0 it is left out, the least leaves first.

        Args:
            value: in place of the adapter's w . f.
            tokens: (P, D) float.
            t_s: seconds.
            key_frame: see `write`.
            text: see `write`.

        Raises:
            UsageError: see `write`, or the value is not finite.
        """
        if not np.isfinite(value):
            raise UsageError(f"expected a finite value, got {value}")
        with self._lock:
            self._told = float(value)
            try:
                self.write(tokens, t_s, key_frame, text)
            finally:
                self._told = None

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

    @staticmethod
    def _features(mean: np.ndarray, held: list[Entry]) -> np.ndarray:
        key = mean.astype(np.float64)
        unit = key / (np.linalg.norm(key) + _EPS)
        alike = 0.0
        if held:
            keys = stack_keys(held, len(key))
            alike = float((keys @ unit / (np.linalg.norm(keys, axis=1) + _EPS)).max())
        return np.array([*unit, alike, 1.0])


def save_adapter(path: str | Path, learned: Learned) -> None:
    """Write what was learned to a safetensors file, for `TaskMemConfig.adapter`."""
    from safetensors.numpy import save

    atomic_write_bytes(Path(path), save({name: np.ascontiguousarray(array) for name, array in learned.items()}))


def read_adapter(path: str | Path) -> Learned:
    """Return what `save_adapter` wrote.

    Raises:
        UsageError: there is no such file, or it holds something else.
    """
    from safetensors.numpy import load

    file = Path(path)
    if not file.is_file():
        raise UsageError(f"expected a learned adapter at {file}, found nothing there")
    try:
        learned = load(file.read_bytes())
    except Exception as error:
        raise UsageError(f"{file} holds no safetensors: {' '.join(str(error).split())[:200]}") from error
    shapes = {name: array.shape for name, array in learned.items()}
    if set(shapes) != {"adapter", "baseline"} or len(shapes["adapter"]) != 1 or shapes["baseline"] != (2,):
        raise UsageError(f"expected adapter (D + 2,) and baseline (2,) in {file}, got {shapes}")
    return {name: array.astype(np.float64) for name, array in learned.items()}
