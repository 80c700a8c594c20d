"""Short- and long-term memory of a film: full short-term buffers are merged between neighbours and moved on.

    similarity    s_i = mean over tokens of cos(x_i, x_{i+1})
    merge         the most similar neighbours become one, until ``merge_to`` are left; these join the long-term memory
    long is full  the same rule is applied to it, so that nothing is dropped from the front

MovieChat (Song et al. 2023, arXiv 2307.16449). The published code averages without counts, so that an entry of ten
frames weighs as one, and compares by unnormalised products of mean tokens: ``weighted=False`` and
``normalise=False`` give that. Similarities are kept; only the two beside a merge are computed again.

A question about an earlier moment (breakpoint mode) is ``snapshot.before(t)``: nothing that reaches beyond t is in it.
Weaker than the source: no learned queries compress what is read to 32 tokens; the budget of the read does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from embodied_mem.errors import UsageError
from embodied_mem.registry import register
from embodied_mem.stream.entry import Entry, entry_bytes, joined
from embodied_mem.stream.memory import StreamMemory, check_at_least
from embodied_mem.stream.neighbours import Neighbours, matching_cosines, products


@dataclass(frozen=True)
class MovieChatConfig:
    """Lengths of the buffers and how neighbours are merged."""

    short_len: int = 18
    """Frames of the short-term buffer."""
    merge_to: int = 2
    """Entries a full short-term buffer is merged to."""
    long_len: int = 256
    """Entries of the long-term memory."""
    normalise: bool = True
    """Compare by cosines of matching tokens; False by products of mean tokens."""
    weighted: bool = True
    """Average by the frames an entry stands for; False gives both sides half."""

    def __post_init__(self) -> None:
        check_at_least(self, short_len=2, merge_to=1, long_len=1)
        if self.merge_to >= self.short_len:
            raise UsageError(f"expected merge_to < short_len = {self.short_len}, got {self.merge_to}")


@register(
    "stream_memory",
    "movie_chat",
    family="compressed",
    source="MovieChat: Song et al. 2023, arXiv 2307.16449",
    long_term=True,
    small={"short_len": 6, "long_len": 10},
)
class MovieChat(StreamMemory):
    """A short-term buffer that is merged between neighbours into a long-term memory."""

    Config = MovieChatConfig

    def start(self) -> None:
        """Begin with empty buffers."""
        self.stores = {"long": [], "short": []}
        self._neighbours = _neighbours(self.config.normalise, self.config.weighted)

    def capacity(self, tokens: int, width: int, extra: int) -> int:
        """Bytes of both buffers."""
        return (self.config.long_len + self.config.short_len) * entry_bytes(tokens, width, extra)

    def absorb(self, entry: Entry) -> None:
        """Take the frame; a full buffer is consolidated."""
        c, long, short = self.config, self.stores["long"], self.stores["short"]
        short.append(entry)
        if len(short) < c.short_len:
            return
        long += merge_neighbours(short, c.merge_to, normalise=c.normalise, weighted=c.weighted)
        self.stores["short"] = []
        self._neighbours.known(long)
        self._neighbours.merge(long, c.long_len)

    def restored(self) -> None:
        """Compute the similarities in the long-term memory again."""
        self._neighbours = _neighbours(self.config.normalise, self.config.weighted)
        self._neighbours.known(self.stores["long"])


def merge_neighbours(
    entries: list[Entry], target: int, *, normalise: bool = True, weighted: bool = True
) -> list[Entry]:
    """Return at most ``target`` entries: the most similar neighbours are joined until no more are left."""
    entries = list(entries)
    if len(entries) > target:
        neighbours = _neighbours(normalise, weighted)
        neighbours.known(entries)
        neighbours.merge(entries, target)
    return entries


def _neighbours(normalise: bool, weighted: bool) -> Neighbours:
    return Neighbours(matching_cosines if normalise else products, partial(joined, weighted=weighted))
