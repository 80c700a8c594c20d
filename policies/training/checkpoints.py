"""Checkpoints of one seed: the learner's own state plus the loop's counters and generators, complete or absent.

``checkpoints/iter_000123/`` holds ``rllib/`` (`Algorithm.save_to_path`) or the folder of another learner,
``loop.json`` and ``manifest.json`` (size and SHA-256 of every file). A checkpoint is checked against its manifest
before anything in it is read.
"""

from __future__ import annotations

import base64
import hashlib
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_dir, atomic_write_json, read_json

FOLDER = "checkpoints"
LOOP_FILE, MANIFEST_FILE, RLLIB_FOLDER = "loop.json", "manifest.json", "rllib"


def save_checkpoint(
    directory: Path,
    iteration: int,
    loop: Mapping[str, Any],
    save_learner: Callable[[Path], Any],
    keep: int,
    part: str = RLLIB_FOLDER,
) -> Path:
    """Write the checkpoint of an iteration and drop older ones beyond ``keep``.

    Args:
        directory: folder of the seed.
        iteration: number of finished iterations.
        loop: JSON-able counters of the loop.
        save_learner: writes the learner's state into the folder it is given.
        keep: newest checkpoints to keep.
        part: name of that folder.

    Raises:
        OSError: it could not be written; older checkpoints are untouched and no partial one is left.
    """
    path = directory / FOLDER / f"iter_{iteration:06d}"
    with atomic_dir(path) as folder:
        # RLlib takes a relative path for a URI
        save_learner(folder.resolve() / part)
        atomic_write_json(folder / LOOP_FILE, {**loop, "generators": generator_states()})
        files = sorted(item for item in folder.rglob("*") if item.is_file())
        manifest = {str(item.relative_to(folder)): _digest(item) for item in files}
        atomic_write_json(folder / MANIFEST_FILE, manifest)
    for old in list_checkpoints(directory)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def list_checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a seed, oldest first."""
    return sorted((directory / FOLDER).glob("iter_*"))


def open_checkpoint(path: Path, part: str = RLLIB_FOLDER) -> tuple[dict[str, Any], Path]:
    """Return the loop's counters and the folder of the learner's state, after checking every file.

    Raises:
        UsageError: a file is missing or altered.
    """
    advice = "remove this folder to resume from the one before"
    for needed in (MANIFEST_FILE, LOOP_FILE):
        if not (path / needed).is_file():
            raise UsageError(f"checkpoint {path} is corrupted: {needed} is missing; {advice}")
    for name, digest in read_json(path / MANIFEST_FILE).items():
        if not (path / name).is_file():
            raise UsageError(f"checkpoint {path} is corrupted: {name} is missing; {advice}")
        if _digest(path / name) != digest:
            raise UsageError(f"checkpoint {path} is corrupted: {name} is not what was written; {advice}")
    return read_json(path / LOOP_FILE), path / part


def generator_states() -> dict[str, Any]:
    """Return the state of the process's global generators as JSON: Python, NumPy, torch, CUDA."""
    version, numbers, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # type: ignore[misc]
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [name, _text(np.asarray(keys)), int(position), int(has_gauss), float(cached)],
        "torch": _text(torch.get_rng_state().numpy()),
        "cuda": [_text(state.numpy()) for state in devices],
    }


def set_generator_states(states: Mapping[str, Any]) -> None:
    """Restore what `generator_states` returned; CUDA states of absent devices are left out."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.frombuffer(_raw(keys), np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_bytes(states["torch"]))
    for index, state in enumerate(states["cuda"][: torch.cuda.device_count() if torch.cuda.is_available() else 0]):
        torch.cuda.set_rng_state(_bytes(state), index)


def _digest(path: Path) -> str:
    return f"{path.stat().st_size}:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def _text(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _raw(text: str) -> bytes:
    return base64.b64decode(text)


def _bytes(text: str) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(_raw(text), np.uint8).copy())
