"""Memories on disk: safetensors and JSON in one folder; a kill at any moment leaves one complete checkpoint."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from embodied_mem.config import to_dict
from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_bytes, atomic_write_json, read_json
from embodied_mem.stream.memory import StreamMemory, make_stream_memory

FORMAT = 1
INFO, STATE = "stream.json", "memory-{}.safetensors"


def save_memory(folder: str | Path, name: str, memory: StreamMemory, facts: Mapping[str, Any] | None = None) -> None:
    """Write a memory and JSON-able ``facts`` about its stream.

    The state goes to a file of a new name, then ``stream.json``, which names it, is replaced in one step: whenever the
    process dies, the folder holds one complete checkpoint.

    Raises:
        OSError: the folder cannot be written; the checkpoint before stays.
    """
    folder = Path(folder)
    number = _latest(folder) + 1
    state = STATE.format(number)
    atomic_write_bytes(folder / state, save({key: value.contiguous() for key, value in memory.state_dict().items()}))
    info = {
        "format": FORMAT,
        "memory": name,
        "config": to_dict(memory.config),
        "state": state,
        "facts": dict(facts or {}),
    }
    atomic_write_json(folder / INFO, info)
    for old in folder.glob(STATE.format("*")):
        if old.name != state:
            old.unlink(missing_ok=True)


def load_memory(folder: str | Path) -> tuple[str, StreamMemory, dict[str, Any]]:
    """Return name, memory and facts of the checkpoint in ``folder``.

    Raises:
        UsageError: there is none, it is of another format, or a file is damaged.
    """
    folder = Path(folder)
    info = read_json(folder / INFO)
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise UsageError(f"expected a stream checkpoint of format {FORMAT} in {folder}")
    path = folder / str(info["state"])
    if not path.is_file():
        raise UsageError(f"expected the state {path}, found nothing there")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UsageError(f"{path} is damaged: {error}") from error
    memory = make_stream_memory(info["memory"], **info["config"])
    memory.load_state_dict(state)
    return info["memory"], memory, dict(info["facts"])


def has_checkpoint(folder: str | Path) -> bool:
    """Return whether `load_memory` finds something there."""
    return (Path(folder) / INFO).is_file()


def _latest(folder: Path) -> int:
    numbers = [0]
    if folder.is_dir():
        for name in os.listdir(folder):
            found = re.fullmatch(STATE.format(r"(\d+)").replace(".", r"\."), name)
            if found:
                numbers.append(int(found[1]))
    try:
        named = json.loads((folder / INFO).read_text()).get("state", "")
    except (OSError, ValueError, AttributeError):
        named = ""
    found = re.search(r"(\d+)", str(named))
    return max([*numbers, int(found[1]) if found else 0])
