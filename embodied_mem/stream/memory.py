"""The contract of stream memories: what every one offers, and what it may rely on.

    memory.write(tokens (P, D), t_s, key_frame)         one frame, in time order
    memory.read(query (D,) | None, budget)              Evidence: tokens, times, key frames, text
    memory.snapshot()                                   immutable, versioned; costs one reference per entry
    memory.nbytes(), memory.bound_bytes(...)            what is held, and the most that can ever be held
    memory.state_dict() / load_state_dict(), reset()    flat dict of tensors

A memory is one file: a frozen config and a class with `start`, `absorb` and `capacity`, and `rank` where it recalls in
its own way. It holds immutable entries in named stores and small arrays in ``self.arrays``; both are saved, restored
and counted by this class. What can be rebuilt from them (`restored`) lies in ``self.cache``, which is only counted.
`absorb` sees clean input: one shape for the whole stream, float32 on the CPU, finite, times that never run backwards.
Reading happens on snapshots, outside the lock, and changes nothing.

Every method may be called from any thread; a write is one step to every reader.
"""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from embodied_mem import registry
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.stream.entry import TEXT_BYTES, Entry, frozen, held_bytes, keys_of, pack, unpack, wanted
from embodied_mem.stream.evidence import Evidence, Snapshot, assemble, by_similarity, spread


class StreamMemory(ABC):
    """Base of every stream memory; see the module docstring for what a subclass writes."""

    Config: ClassVar[type]
    bounded: ClassVar[bool] = True
    """False only for controls that keep everything."""

    def __init__(self, config: Any) -> None:
        self.config = config
        self.stores: dict[str, list[Entry]] = {}
        self.arrays: dict[str, np.ndarray] = {}
        self.cache: dict[str, np.ndarray] = {}
        self._lock = threading.RLock()
        self._seen, self._last_s = 0, -math.inf
        self._shape: tuple[int, ...] = (0, 0)
        self._frame: tuple[int, ...] | None = None
        self._clear()

    @abstractmethod
    def start(self) -> None:
        """Make ``self.stores`` (every store, empty) and whatever else a fresh memory has."""

    @abstractmethod
    def absorb(self, entry: Entry) -> None:
        """Take one frame: an entry of weight 1 whose ``number`` counts frames from 0."""

    @abstractmethod
    def capacity(self, tokens: int, width: int, extra: int) -> int | None:
        """Return the most bytes the memory can take; None where it grows without bound.

        Args:
            tokens: P of a frame.
            width: D.
            extra: bytes that an entry can take besides its tokens: key frame and text.
        """

    def rank(self, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> list[Entry]:
        """Return what is recalled, best first; by default the most similar, or an even spread without a query.

        It may read ``self.config`` and ``snapshot`` only: the memory has moved on.
        """
        entries = snapshot.entries
        return spread(entries, budget) if query is None else by_similarity(entries, query)

    def restored(self) -> None:  # noqa: B027
        """Rebuild what is derived from stores and arrays, after they were loaded."""

    def write(
        self, tokens: Tensor | np.ndarray, t_s: float, key_frame: np.ndarray | None = None, text: str = ""
    ) -> None:
        """Take one frame.

        Args:
            tokens: (P, D) float, the same shape for the whole stream; kept as float32 on the CPU.
            t_s: seconds, not smaller than that of the frame before.
            key_frame: (H, W, 3) uint8, the same shape whenever it is given; None for none.
            text: what is known of the frame (speech, a caption), at most 1024 bytes.

        Raises:
            UsageError: shape, dtype, time or length is wrong, or a token is not finite; the memory is unchanged.
        """
        values = tokens.detach().float().cpu().numpy() if isinstance(tokens, Tensor) else np.asarray(tokens, np.float32)
        self._check(values, t_s, key_frame, text)
        with self._lock:
            self._fits(values.shape, t_s, key_frame)
            rgb = None if key_frame is None else frozen(key_frame.copy())
            rows = frozen(np.array(values, np.float32, order="C"))
            self._shape = values.shape
            self._frame = self._frame if rgb is None else rgb.shape
            self._last_s = float(t_s)
            self.absorb(Entry(rows, t_s, t_s, t_s, 1.0, rgb, t_s, text, self._seen))
            self._seen += 1

    def read(self, query: Tensor | np.ndarray | None = None, budget: int | None = None) -> Evidence:
        """Return what is recalled now, see `Snapshot.read`."""
        return self.snapshot().read(query, budget)

    def snapshot(self) -> Snapshot:
        """Return the memory as it is now; writing goes on without changing it."""
        with self._lock:
            stores = {name: tuple(entries) for name, entries in self.stores.items()}
            return Snapshot(self._seen, self._last_s, self._shape[1], stores, self._recall())

    def _recall(self) -> Any:
        return partial(_recall_entries, self)

    @property
    def version(self) -> int:
        """Frames written since the last reset."""
        return self._seen

    @property
    def until_s(self) -> float:
        """Seconds, the latest frame; -inf before the first."""
        return self._last_s

    def nbytes(self) -> int:
        """Return the bytes held: tokens, key frames, texts, arrays, and the fixed cost of an entry."""
        with self._lock:
            arrays = sum(array.nbytes for part in (self.arrays, self.cache) for array in part.values())
            return arrays + held_bytes(entry for part in self.stores.values() for entry in part)

    def bound_bytes(self, tokens: int, width: int, frame: int = 0, texts: bool = False) -> int | None:
        """Return the most bytes `nbytes` can ever give for this input; None for a control that keeps everything.

        Args:
            tokens: P.
            width: D.
            frame: bytes of a key frame.
            texts: whether frames come with text.
        """
        return self.capacity(tokens, width, frame + (TEXT_BYTES if texts else 0))

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything held as a flat dict of CPU tensors."""
        with self._lock:
            state = pack(self.stores)
            state |= {f"array/{name}": torch.from_numpy(array.copy()) for name, array in self.arrays.items()}
            state["clock"] = torch.tensor([self._last_s], dtype=torch.float64)
            frame = self._frame or (0, 0, 0)
            state["counts"] = torch.tensor([self._seen, *self._shape, *frame], dtype=torch.int64)
            return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue where `state_dict` of a memory of the same name and config was taken.

        Raises:
            UsageError: a tensor is missing; the memory is then unchanged.
        """
        with self._lock:
            stores = unpack(state, self.stores)
            seen, tokens, width, *frame = wanted(state, "counts").tolist()
            clock = float(wanted(state, "clock")[0])
            arrays = {
                key.removeprefix("array/"): value.numpy().copy()
                for key, value in state.items()
                if key.startswith("array/")
            }
            before = self.stores, self.arrays, self._seen, self._last_s, self._shape, self._frame
            self._clear()
            missing = sorted(set(self.arrays) - set(arrays))
            if missing:
                self.stores, self.arrays, self._seen, self._last_s, self._shape, self._frame = before
                self.restored()
                raise UsageError(f"expected the array {missing[0]!r} in the state of {type(self).__name__}")
            self._seen, self._shape, self._last_s = seen, (tokens, width), clock
            self._frame = tuple(frame) if any(frame) else None
            self.stores = {name: list(stores[name]) for name in self.stores}
            self.arrays = arrays
            self.restored()

    def reset(self) -> None:
        """Forget everything; the next frame may have any shape and time."""
        with self._lock:
            self._clear()

    def _clear(self) -> None:
        self._seen, self._last_s = 0, -math.inf
        self._shape, self._frame = (0, 0), None
        self.stores, self.arrays, self.cache = {}, {}, {}
        self.start()

    @staticmethod
    def _check(values: np.ndarray, t_s: float, key_frame: np.ndarray | None, text: str) -> None:
        if values.ndim != 2 or 0 in values.shape:
            raise UsageError(f"expected tokens (P, D) with P, D >= 1, got {values.shape}")
        if not np.isfinite(values).all():
            raise UsageError("expected finite tokens, got NaN or infinity")
        if not math.isfinite(t_s):
            raise UsageError(f"expected a finite time in seconds, got {t_s}")
        if key_frame is not None and (
            key_frame.dtype != np.uint8 or key_frame.ndim != 3 or key_frame.shape[2] != 3 or 0 in key_frame.shape
        ):
            raise UsageError(f"expected a key frame (H, W, 3) uint8, got {key_frame.shape} {key_frame.dtype}")
        if len(text.encode("utf-8")) > TEXT_BYTES:
            raise UsageError(f"expected a text of at most {TEXT_BYTES} bytes, got {len(text.encode('utf-8'))}")

    def _fits(self, shape: tuple[int, ...], t_s: float, key_frame: np.ndarray | None) -> None:
        if self._seen and shape != self._shape:
            raise UsageError(f"expected tokens {self._shape} as before, got {shape}; reset() starts another stream")
        if key_frame is not None and self._frame is not None and key_frame.shape != self._frame:
            raise UsageError(f"expected key frames {self._frame} as before, got {key_frame.shape}")
        if t_s < self._last_s:
            raise UsageError(f"expected a time >= {self._last_s} s, got {t_s}; time runs forward in a stream")


def _recall_entries(memory: StreamMemory, snapshot: Snapshot, query: np.ndarray | None, budget: int | None) -> Evidence:
    return assemble(memory.rank(snapshot, query, budget), snapshot, budget)


def make_stream_memory(name: str, **config: Any) -> StreamMemory:
    """Build the registered stream memory ``name``; ``memory:NAME`` wraps the memory NAME (see `from_memory`).

    Raises:
        UsageError: the name, a key or a value is wrong; the message names the nearest valid one.

    >>> memory = make_stream_memory("last_k", slots=2)
    >>> for t in range(5): memory.write(np.full((1, 4), t), t)
    >>> memory.read().tokens[:, 0].tolist()
    [3.0, 4.0]
    """
    if name.startswith("memory:"):
        config, name = {"memory": name.removeprefix("memory:"), **config}, "from_memory"
    cls = registry.get("stream_memory", name)
    return cls(from_dict(cls.Config, config))


def check_at_least(config: object, **least: float) -> None:
    """Refuse fields of a config below the value given.

    Raises:
        UsageError: one is.
    """
    for name, low in least.items():
        value = getattr(config, name)
        if not value >= low:
            raise UsageError(f"expected {name} >= {low}, got {value}")


def stack_keys(entries: Sequence[Entry], width: int) -> np.ndarray:
    """Return the mean tokens of entries, (N, D) float32."""
    return keys_of(entries) if entries else np.zeros((0, width), np.float32)
