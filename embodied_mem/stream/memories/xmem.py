"""Three stores: a sensory average of every frame, recent frames in full, and long-term prototypes by usage.

Every frame reads the bank (`embodied_mem.stream.bank`) with its tokens, which counts usage; every ``every``-th frame
is written to the working store. A full working store is consolidated into prototypes, each an entry of one token with
the exact time of the frame it comes from.

XMem (Cheng & Schwing 2022, arXiv 2207.07115). Weaker than the source: keys and values are the tokens themselves,
shrinkage and selection are 1 (the published ones are learned), and the sensory store is an average that fades at
``rate`` instead of a learned recurrence. A question does not count as usage, since reading leaves no trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.bank import AtkinsonShiffrinBank, BankConfig
from embodied_mem.stream.entry import Entry, entry_bytes, frozen
from embodied_mem.stream.memory import StreamMemory, check_at_least


@dataclass(frozen=True)
class XMemConfig:
    """The bank and how it is fed."""

    every: int = 5
    """Frames between two that are written to the working store."""
    rate: float = 0.1
    """Share of the newest frame in the sensory store."""
    bank: BankConfig = field(default_factory=BankConfig)
    """Sizes of the bank."""

    def __post_init__(self) -> None:
        check_at_least(self, every=1)
        if not 0 < self.rate <= 1:
            raise UsageError(f"expected 0 < rate <= 1, got {self.rate}")


@register(
    "stream_memory",
    "xmem",
    family="three stores",
    source="XMem: Cheng & Schwing 2022, arXiv 2207.07115",
    small={"every": 2, "bank": {"work_max": 5, "work_min": 3, "protos": 4, "lt_max": 20, "top_k": 8}},
)
class XMem(StreamMemory):
    """Sensory, working and long-term stores; what is used most stays."""

    Config = XMemConfig

    def start(self) -> None:
        """Begin with empty stores."""
        self.stores = {"sensory": [], "working": [], "long": []}
        self._bank = AtkinsonShiffrinBank(self.config.bank)

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of entries and of the bank's arrays."""
        b = self.config.bank
        entries = b.work_max * entry_bytes(tokens, width, extra) + b.lt_max * entry_bytes(1, width, extra)
        work, long = b.work_max * tokens * (12 * width + 64), b.lt_max * (8 * width + 64)
        return entries + work + long + entry_bytes(tokens, width, 0)

    def absorb(self, entry: Entry) -> None:
        """Count what the frame uses; every so often keep it."""
        self._sense(entry)
        if self._bank.work:
            self._bank.read(entry.tokens)
        if entry.number % self.config.every == 0:
            self.stores["working"].append(entry)
            if self._bank.write(entry.tokens, entry.tokens[:, None], entry.number):
                self._consolidated()
        self.arrays = {
            f"{where}/{name}": array
            for where, part in (("work", self._bank.work), ("long", self._bank.long))
            for name, array in part.items()
        }

    def _sense(self, entry: Entry) -> None:
        held = self.stores["sensory"]
        tokens, t0 = entry.tokens, entry.t0
        if held:
            tokens = held[0].tokens + np.float32(self.config.rate) * (tokens - held[0].tokens)
            t0 = held[0].t0
        self.stores["sensory"] = [Entry(frozen(tokens.copy()), t0, entry.t1, entry.t, float(entry.number + 1))]

    def _consolidated(self) -> None:
        """Make entries of new prototypes; drop those of elements that left."""
        frames = {frame.number: frame for frame in self.stores["working"]}
        held = {(e.number, e.tokens.tobytes()): e for e in self.stores["long"]}
        part, entries = self._bank.long, []
        for number, value in zip(part["frame"].tolist(), part["value"][:, 0]):
            old = held.get((number, value.tobytes()))
            if old is None:
                frame = frames[number]
                old = Entry(
                    frozen(value[None].copy()),
                    frame.t0,
                    frame.t1,
                    frame.t,
                    1.0,
                    frame.rgb,
                    frame.rgb_t,
                    frame.text,
                    number,
                )
            entries.append(old)
        self.stores["long"] = entries
        stay = set(self._bank.work["frame"].tolist())
        self.stores["working"] = [frame for frame in self.stores["working"] if frame.number in stay]

    def restored(self) -> None:
        """Hand the bank its arrays."""
        self._bank = AtkinsonShiffrinBank(self.config.bank)
        for key, array in self.arrays.items():
            where, _, name = key.partition("/")
            (self._bank.work if where == "work" else self._bank.long)[name] = array
