"""Atomic files: a reader sees the old content or the new one, never a half."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from embodied_mem.errors import UsageError


def atomic_write_bytes(path: str | Path, value: bytes) -> None:
    """Write ``value`` to ``path`` through a synced temporary sibling and one rename.

    Raises:
        OSError: the disk is full or the folder is not writable; the old content is then untouched.
    """
    with atomic_file(path) as temporary, _naming(path):
        temporary.write_bytes(value)


def atomic_write_text(path: str | Path, value: str) -> None:
    """Write text as UTF-8, see `atomic_write_bytes`."""
    atomic_write_bytes(path, value.encode("utf-8"))


def atomic_write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON. NaN and infinity are refused: JSON has none."""
    atomic_write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling file that becomes ``path``, synced, when the block ends without an error.

    On an error the temporary file is removed and ``path`` stays as it was.
    """
    path = Path(path)
    with _naming(path):
        _make_folder_of(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with _naming(path):
            _sync(temporary)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Yield a temporary sibling folder that becomes ``path`` when the block ends without an error.

    An existing ``path`` is replaced; on an error the temporary folder is removed and ``path`` stays as it was.
    """
    path = Path(path)
    with _naming(path):
        _make_folder_of(path)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        with _naming(path):
            for item in temporary.rglob("*"):
                if item.is_file():
                    _sync(item)
            os.chmod(temporary, 0o755)
            if path.exists():
                old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
                os.replace(path, old / "content")
                os.replace(temporary, path)
                shutil.rmtree(old, ignore_errors=True)
            else:
                os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Let an OSError name the file that was asked for, not a temporary one or none."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _make_folder_of(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error


def _sync(path: Path) -> None:
    with open(path, "rb") as stream:
        os.fsync(stream.fileno())


def check_target(path: str | Path) -> None:
    """Refuse a file that could not be written later; nothing stays on disk.

    Raises:
        UsageError: it is a folder, or no file can be made beside it.
    """
    path = Path(path)
    made: list[Path] = []
    try:
        if path.is_dir():
            raise UsageError(f"expected a file to write, got the folder {path}")
        made = absent_folders(path.parent)
        _make_folder_of(path)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        os.unlink(name)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        remove_empty(made)


def absent_folders(path: str | Path) -> list[Path]:
    """Return ``path`` and those of its parents that do not exist, deepest first."""
    path = Path(path)
    return [folder for folder in (path, *path.parents) if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders, deepest first, that are there and empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def read_json(path: str | Path) -> Any:
    """Read one JSON file.

    Raises:
        UsageError: the file is missing or is not JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"expected a JSON file at {path}, found nothing there")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}") from error


def append_jsonl(path: str | Path, row: Mapping[str, Any]) -> None:
    """Append one row as a single write, so that a killed writer can tear at most the last line."""
    path = Path(path)
    line = (json.dumps(dict(row), allow_nan=False) + "\n").encode("utf-8")
    with _naming(path):
        _make_folder_of(path)
        with open(path, "ab+") as stream:
            _cut_torn_line(stream)
            stream.write(line)


def _cut_torn_line(stream: BinaryIO) -> None:
    """Drop what a killed writer left after the last newline, so that the next row starts on a line of its own."""
    end = stream.seek(0, os.SEEK_END)
    if end == 0:
        return
    stream.seek(end - 1)
    if stream.read(1) == b"\n":
        return
    stream.seek(0)
    stream.truncate(stream.read().rfind(b"\n") + 1)


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Read all rows; a torn last line (killed writer) is left out.

    Raises:
        UsageError: the file is missing, or a line that is not the last one is broken, or is no JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"expected a JSON-lines file at {path}, found nothing there")
    lines = path.read_bytes().split(b"\n")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            if number == len(lines):
                continue
            reason = error.msg if isinstance(error, json.JSONDecodeError) else error.reason
            raise UsageError(f"{path}, line {number}: not valid JSON ({reason})") from error
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: expected a JSON object, got {type(row).__name__}")
        rows.append(row)
    return rows
