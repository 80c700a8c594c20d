"""Where the street data lie, and how they are read.

The folder named by ``EMBODIED_MEM_DATA`` holds ``touchdown/`` (``nodes.txt``, ``links.txt`` and instructions) and
``map2seq/`` (instructions on the same graph), one JSON object per line; every file may be gzipped.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embodied_mem.data import VARIABLE, data_folder
from embodied_mem.errors import UsageError

DATASETS = ("touchdown", "map2seq")
SOURCES = {
    "graph": "nodes.txt and links.txt from the folder graph/ of github.com/lil-lab/touchdown (CC BY 4.0)",
    "touchdown": "datasets/touchdown_{seen,unseen}/data of github.com/raphael-sch/map2seq_vln, dev.json saved as "
    "dev_seen.jsonl and dev_unseen.jsonl",
    "map2seq": "datasets/map2seq_{seen,unseen}/data of github.com/raphael-sch/map2seq_vln, dev.json saved as "
    "dev_seen.jsonl and dev_unseen.jsonl",
}
SUFFIXES = (".jsonl.gz", ".jsonl", ".json.gz", ".json")


def data_root() -> Path:
    """Return the folder of `data_folder`.

    Raises:
        UsageError: there is none, or the variable names no folder; the message says how to get the data.
    """
    root = data_folder()
    if root is None:
        raise UsageError(
            f"street data are not part of the package: set {VARIABLE} to a folder with touchdown/ and map2seq/; "
            f"the graph: {SOURCES['graph']}; instructions: {SOURCES['touchdown']} (docs/envs/street.md)"
        )
    if not root.is_dir():
        raise UsageError(f"expected {VARIABLE} to name a folder, got {str(root)!r}")
    return root


def graph_file(name: str) -> Path:
    """Return the path of ``nodes.txt`` or ``links.txt`` (or gzipped) of the Touchdown graph.

    Raises:
        UsageError: it is not there.
    """
    folder = data_root() / "touchdown"
    for candidate in (folder / f"{name}.gz", folder / name):
        if candidate.is_file():
            return candidate
    raise UsageError(f"expected {name} or {name}.gz in {folder}, found neither; get {SOURCES['graph']}")


def split_file(dataset: str, split: str) -> Path:
    """Return the instruction file of a split, with any of the usual endings.

    Raises:
        UsageError: there is none; the splits that are there are named.
    """
    folder = data_root() / dataset
    for suffix in SUFFIXES:
        if (folder / f"{split}{suffix}").is_file():
            return folder / f"{split}{suffix}"
    found = sorted({item.name.split(".")[0] for item in folder.glob("*.json*")})
    raise UsageError(
        f"no split {split!r} of {dataset} in {folder} (there: {', '.join(found) or 'none'}); get {SOURCES[dataset]}, "
        "or name your own file with --data"
    )


def read_text(path: Path) -> str:
    """Return the text of a file, gzipped or not.

    Raises:
        UsageError: it is missing, torn, or not text.
    """
    if not path.is_file():
        raise UsageError(f"expected a file at {path}, found nothing there")
    raw = path.read_bytes()
    try:
        return (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSON-lines file; blank lines are left out.

    Raises:
        UsageError: a line is not a JSON object; it is named.
    """
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError(f"{path}, line {number}: not valid JSON ({error.msg})") from error
        if not isinstance(value, dict):
            raise UsageError(f"{path}, line {number}: expected a JSON object, got {type(value).__name__}")
        yield number, value
