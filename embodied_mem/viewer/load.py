"""What a report is made of: training runs and evaluations, found below a folder and read from files alone."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.files import read_json, read_jsonl

DEPTH = 4
SKIPPED = frozenset({"checkpoints", "tb", "traces", "agent"})


@dataclass(frozen=True)
class TrainRun:
    """One training run: a preset with one or several seeds."""

    name: str
    """Folder name, for legends."""
    folder: Path
    seeds: dict[str, list[dict[str, Any]]]
    """Seed folder -> rows of its metrics.jsonl."""
    config: dict[str, Any]
    """Configuration of the first seed; empty if there is none."""
    result: dict[str, Any] | None = None
    """The run's result object, None while it trains."""

    @property
    def memory(self) -> str | None:
        """Name of the memory that is trained."""
        return _dig(self.config, "agent", "memory")

    @property
    def env(self) -> str | None:
        """Environment id that is trained in."""
        return _dig(self.config, "env")


@dataclass(frozen=True)
class Trace:
    """One recorded episode, see `evaluation.traces`."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True)
class EvalRun:
    """One evaluation."""

    name: str
    folder: Path
    config: dict[str, Any]
    result: dict[str, Any] | None
    """None while it is not finished."""
    traces: list[Trace] = field(default_factory=list)
    episodes: int = 0
    """Records written so far."""


@dataclass(frozen=True)
class Found:
    """Everything found below a folder."""

    folder: Path
    training: list[TrainRun]
    evaluations: list[EvalRun]
    warnings: list[str]
    """Files that could not be read, one line each."""


def find_runs(folder: str | Path) -> Found:
    """Return the training runs and evaluations in and below a folder.

    Raises:
        UsageError: the folder does not exist or holds none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError(f"expected the folder of a run, found none at {folder}")
    warnings: list[str] = []
    training: list[TrainRun] = []
    evaluations: list[EvalRun] = []
    for place in _places(folder, DEPTH):
        if _seed_folders(place):
            training.append(_train_run(place, warnings))
        if (place / "episodes.jsonl").is_file():
            evaluations.append(_eval_run(place, warnings))
    if not training and (folder / "metrics.jsonl").is_file():
        training.append(_train_run(folder, warnings, {folder.name: folder}))
    if not training and not evaluations:
        wanted = "seed*/metrics.jsonl (of embodied-mem train) or episodes.jsonl (of embodied-mem eval)"
        raise UsageError(f"{folder} holds no run: expected {wanted}")
    return Found(folder, training, evaluations, warnings)


def _places(folder: Path, depth: int) -> list[Path]:
    found = [folder]
    if depth == 0:
        return found
    for item in sorted(folder.iterdir()):
        hidden = item.name.startswith((".", "shard-", "seed"))
        if item.is_dir() and not item.is_symlink() and not hidden and item.name not in SKIPPED:
            found += _places(item, depth - 1)
    return found


def _seed_folders(folder: Path) -> dict[str, Path]:
    return {item.parent.name: item.parent for item in sorted(folder.glob("seed*/metrics.jsonl"))}


def _train_run(folder: Path, warnings: list[str], seeds: dict[str, Path] | None = None) -> TrainRun:
    rows: dict[str, list[dict[str, Any]]] = {}
    config: dict[str, Any] = {}
    for name, place in (seeds or _seed_folders(folder)).items():
        rows[name] = _try(lambda place=place: read_jsonl(place / "metrics.jsonl"), [], warnings)
        if not config and (place / "config.json").is_file():
            stored = _try(lambda place=place: read_json(place / "config.json"), {}, warnings)
            config = _dig(stored, "config", "train") or _dig(stored, "config") or stored
    result = _result(folder, warnings)
    return TrainRun(folder.name or "run", folder, rows, config, result)


def _eval_run(folder: Path, warnings: list[str]) -> EvalRun:
    config = _try(lambda: read_json(folder / "config.json"), {}, warnings)
    episodes = _try(lambda: read_jsonl(folder / "episodes.jsonl"), [], warnings)
    traces = []
    for path in sorted((folder / "traces").glob("*.json")):
        trace = _try(lambda path=path: _trace(path), None, warnings)
        if trace is not None:
            traces.append(trace)
    return EvalRun(folder.name or "evaluation", folder, config, _result(folder, warnings), traces, len(episodes))


def _trace(path: Path) -> Trace:
    facts = read_json(path)
    arrays = {}
    if path.with_suffix(".npz").is_file():
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored}
    return Trace(facts, arrays)


def _result(folder: Path, warnings: list[str]) -> dict[str, Any] | None:
    path = folder / "result.json"
    return _try(lambda: read_json(path), None, warnings) if path.is_file() else None


def _try(read: Any, otherwise: Any, warnings: list[str]) -> Any:
    """Return what ``read()`` gives; a broken file becomes a warning, so that the rest of the report can be shown."""
    try:
        return read()
    except (UsageError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        warnings.append(" ".join(str(error).split()))
        return otherwise


def _dig(tree: Any, *keys: str) -> Any:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree
