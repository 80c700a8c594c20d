"""From the options of an environment to a graph and its episodes; both are kept, so that a second one costs nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from embodied_mem.envs.street.data import DATASETS, split_file
from embodied_mem.envs.street.episodes import Episodes, read_episodes
from embodied_mem.envs.street.graph import StreetGraph, touchdown_graph
from embodied_mem.envs.street.indoor import read_indoor
from embodied_mem.envs.street.town import town_graph
from embodied_mem.envs.street.writer import LANGUAGES, STYLES, write_episodes
from embodied_mem.errors import UsageError, nearest

GRAPHS = ("town", "touchdown")
SYNTHETIC_SPLITS = ("train", "test")

__all__ = ["STYLES", "Source", "find_source"]


@dataclass(frozen=True)
class Source:
    """A graph, episodes on it, and the style that they follow."""

    graph: StreetGraph
    episodes: Episodes
    style: str


def find_source(
    data: str,
    *,
    split: str | None,
    graph: str | None,
    style: str | None,
    items: int,
    seed: int,
    connectivity: str | Path | None = None,
    language: str = "plain",
) -> Source:
    """Return what the options name; see `env.BatchedStreet` for each.

    Raises:
        UsageError: an option is unknown, or data are missing or malformed.
    """
    if graph is not None and graph not in GRAPHS:
        raise UsageError(f"unknown graph {graph!r}{nearest(str(graph), GRAPHS)}; known: {', '.join(GRAPHS)}")
    if language not in LANGUAGES:
        raise UsageError(f"expected language to be one of {LANGUAGES}, got {language!r}")
    if connectivity is not None:
        if data == "synthetic" or data in DATASETS:
            raise UsageError(f"expected data to name a file of R2R or RxR episodes beside connectivity, got {data!r}")
        return Source(*_indoor(Path(data), Path(connectivity)), "touchdown")
    if data == "synthetic":
        split = SYNTHETIC_SPLITS[0] if split is None else split
        if split not in SYNTHETIC_SPLITS:
            raise UsageError(f"expected split to be one of {SYNTHETIC_SPLITS} of synthetic data, got {split!r}")
        streets = touchdown_graph() if graph == "touchdown" else town_graph(seed)
        style = "map2seq" if style is None else style
        return Source(streets, _written(streets, split, style, items, seed, language), style)
    streets = town_graph(seed) if graph == "town" else touchdown_graph()
    path = split_file(data, split or "dev_unseen") if data in DATASETS else Path(data)
    if data not in DATASETS and not path.is_file():
        raise UsageError(
            f"expected data to be 'synthetic', {', '.join(map(repr, DATASETS))} or a file, got {data!r}, which is none"
        )
    stamp = path.stat()
    episodes = _read(path, stamp.st_mtime_ns, stamp.st_size, streets)
    return Source(streets, episodes, style or (data if data in STYLES else "touchdown"))


@lru_cache(maxsize=4)
def _indoor(path: Path, connectivity: Path) -> tuple[StreetGraph, Episodes]:
    return read_indoor(path, connectivity)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, size: int, graph: StreetGraph) -> Episodes:
    return read_episodes(path, graph)


@lru_cache(maxsize=8)
def _written(graph: StreetGraph, split: str, style: str, items: int, seed: int, language: str) -> Episodes:
    return write_episodes(graph, split, style, items, seed, language)
