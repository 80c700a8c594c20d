"""Per-episode records on disk: one JSON line per finished episode, safe to kill, resumable, mergeable from shards.

A folder holds ``config.json`` (everything that decides the outcome), ``episodes.jsonl``, ``traces/`` and, when done,
``result.json``. Shards are folders of the same form inside it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.evaluation.plan import Block
from embodied_mem.files import (
    absent_folders,
    append_jsonl,
    atomic_dir,
    atomic_write_json,
    atomic_write_text,
    read_json,
    read_jsonl,
    remove_empty,
)

CONFIG, EPISODES, RESULT, TRACES = "config.json", "episodes.jsonl", "result.json", "traces"
# What may differ between the runs that make up one evaluation.
_FREE_KEYS = frozenset({"device", "checkpoint", "label"})

Record = dict[str, Any]
Key = tuple[str, str, int, int, int]


class Records:
    """The records of one evaluation, in memory and (with a folder) on disk."""

    def __init__(self, folder: Path | None, rows: Sequence[Record] = (), made: Sequence[Path] | None = None) -> None:
        """Start from the records that are there; ``made`` are the folders that were made for a fresh start, if any."""
        self.folder = folder
        self._made = made
        self.rows: list[Record] = []
        self._known: set[Key] = set()
        for row in rows:
            self._remember(row)

    def add(self, row: Record) -> bool:
        """Keep a record and append it to the file, unless it is there already; return True if it was new."""
        if record_key(row) in self._known:
            return False
        if self.folder is not None:
            append_jsonl(self.folder / EPISODES, row)
        self._remember(row)
        return True

    def has_all(self, block: Block) -> bool:
        """Return True if every episode of a block is there."""
        return all((*block.key, episode) in self._known for episode in block.episodes)

    def discard(self) -> None:
        """Remove what a fresh start has written if no episode was kept, so that it can be tried again."""
        if self.folder is None or self._made is None or self.rows:
            return
        for name in (EPISODES, CONFIG):
            (self.folder / name).unlink(missing_ok=True)
        remove_empty(self._made)

    def _remember(self, row: Record) -> None:
        self.rows.append(row)
        self._known.add(record_key(row))


def record_key(row: Mapping[str, Any]) -> Key:
    """Return the identity of a record: task, condition, checkpoint, seed, episode."""
    return row["task"], row["condition"], row["checkpoint"], row["seed"], row["episode"]


def open_folder(folder: Path, config: Mapping[str, Any], resume: bool) -> Records:
    """Return the records of a new or resumed evaluation folder.

    Args:
        folder: where it is written.
        config: JSON-able description of the evaluation; a resumed folder must have been written with the same.
        resume: continue what is there, or start afresh where the folder is empty or does not exist; False refuses a
            folder that holds records.

    Raises:
        UsageError: there are records and ``resume`` is False, they belong to another evaluation, or the folder to
            resume holds other files only.
    """
    if not resume and ((folder / EPISODES).exists() or (folder / CONFIG).exists()):
        raise UsageError(f"{folder} holds an evaluation already; pass --resume to continue it, or another --out")
    if not (folder / CONFIG).is_file():
        # A kill before the first write leaves a temporary file at most.
        others = sorted(item.name for item in folder.glob("*") if not item.name.startswith(f".{CONFIG}."))
        if resume and others:
            raise UsageError(
                f"cannot resume {folder}: it holds no {CONFIG} of an evaluation but {others[0]!r}; use another --out"
            )
        made = absent_folders(folder)
        atomic_write_json(folder / CONFIG, dict(config))
        return Records(folder, made=made)
    difference = first_difference(_fixed(read_json(folder / CONFIG)), _fixed(config))
    if difference:
        raise UsageError(f"cannot resume {folder}: it was started with {difference}; use another --out")
    if not (folder / EPISODES).exists():
        return Records(folder)
    try:
        return Records(folder, read_jsonl(folder / EPISODES))
    except (KeyError, TypeError) as error:
        what = f"a line lacks {error}" if isinstance(error, KeyError) else f"a key is no text or number ({error})"
        raise UsageError(f"{folder / EPISODES} is no record of an evaluation: {what}") from error


def first_difference(old: Any, new: Any, path: str = "") -> str | None:
    """Return the first difference of two JSON values as ``key = old, now new``, or None."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            found = first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
            if found:
                return found
        return None
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return next((text for i, (a, b) in pairs if (text := first_difference(a, b, f"{path}[{i}]"))), None)
    return None if old == new else f"{path} = {json.dumps(old)}, now {json.dumps(new)}"


def check_shards(folder: Path, count: int, config: Mapping[str, Any], resume: bool = True) -> None:
    """Refuse a folder in which the shards of one evaluation would meet the records of another.

    Args:
        folder: the evaluation's folder; its shards are inside, as far as they have begun.
        count: number of shards.
        config: description of the evaluation, see `open_folder`.
        resume: False refuses merged records of the same evaluation too.

    Raises:
        UsageError: the folder or a shard belongs to another evaluation; the first difference is named.
    """
    has_config, has_episodes = (folder / CONFIG).is_file(), (folder / EPISODES).exists()
    if has_episodes and not resume:
        raise UsageError(f"{folder} holds an evaluation already; pass --resume to continue it, or another --out")
    if has_episodes and not has_config:
        raise UsageError(f"{folder} holds {EPISODES} of an unknown evaluation (no {CONFIG}); use another --out")
    for place in (folder, *_shards(folder, count)):
        if (place / CONFIG).is_file():
            difference = first_difference(_fixed(read_json(place / CONFIG)), _fixed(config))
            if difference:
                raise UsageError(f"{place} holds another evaluation: {difference}; use another --out")


def merge_shards(folder: Path, count: int, work: Sequence[Block], config: Mapping[str, Any]) -> list[Record] | None:
    """Join the records of all shards into ``folder``, in the order of an unsharded run; None while some are missing.

    Args:
        folder: the evaluation's folder, with its shards inside.
        count: number of shards.
        work: every block of the evaluation in playing order.
        config: description of the evaluation, written beside the joined records.

    Raises:
        UsageError: a shard or the folder belongs to another evaluation, or episodes are missing.
    """
    shards = _shards(folder, count)
    if not all((shard / RESULT).is_file() for shard in shards):
        return None
    check_shards(folder, count, config)
    place = {(*block.key, episode): i for i, block in enumerate(work) for episode in block.episodes}
    rows = [row for shard in shards if (shard / EPISODES).exists() for row in read_jsonl(shard / EPISODES)]
    unique = {record_key(row): row for row in rows}
    missing = len(place) - sum(key in place for key in unique)
    if missing:
        raise UsageError(
            f"the shards in {folder} lack {missing} of {len(place)} episodes; run them again with --resume"
        )
    atomic_write_json(folder / CONFIG, dict(config))
    ordered = sorted((row for key, row in unique.items() if key in place), key=lambda row: place[record_key(row)])
    atomic_write_text(folder / EPISODES, "".join(json.dumps(row, allow_nan=False) + "\n" for row in ordered))
    with atomic_dir(folder / TRACES) as traces:
        for shard in shards:
            if (shard / TRACES).is_dir():
                shutil.copytree(shard / TRACES, traces, dirs_exist_ok=True)
    return ordered


def _shards(folder: Path, count: int) -> list[Path]:
    return [folder / f"shard-{index}-of-{count}" for index in range(count)]


def _fixed(config: Any) -> Any:
    if isinstance(config, Mapping):
        return {key: _fixed(value) for key, value in config.items() if key not in _FREE_KEYS}
    return [_fixed(value) for value in config] if isinstance(config, list | tuple) else config
