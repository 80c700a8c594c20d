"""The journal of a recording: which episodes were played, which files hold them, and their checksums.

``recording.json`` says what is recorded; ``recording.jsonl`` has one line per group of episodes, appended after the
group's files lie on disk, so the line is what makes them part of the data set. Everything else that a format wants
(indices, statistics) is derived from these lines and written anew as they are added, then ``checksums.json``. One that
was killed goes on from the last line: files that no line names are removed, and its group is played again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embodied_mem.errors import UsageError
from embodied_mem.files import append_jsonl, atomic_write_json, read_json, read_jsonl, remove_empty

CONFIG, GROUPS, CHECKSUMS = "recording.json", "recording.jsonl", "checksums.json"
STAGED = "staged"
"""Folder of groups that become part of one file in the end."""
INFO = "meta/info.json"
"""Index of a LeRobotDataset v3."""

Group = dict[str, Any]


@dataclass
class Journal:
    """The journal of one data set."""

    folder: Path
    """Where the data set lies."""
    config: dict[str, Any]
    """What is recorded, JSON."""
    groups: list[Group] = field(default_factory=list)
    """Lines: ``files`` (path -> sha256), ``played`` (one entry per episode) and what the format keeps."""

    @classmethod
    def open(cls, folder: Path, config: Mapping[str, Any], resume: bool) -> Journal:
        """Begin a recording, or take up one that was interrupted.

        Raises:
            UsageError: the folder holds a data set and ``resume`` is False, or the data set is another one.
        """
        if (folder / CONFIG).is_file():
            if not resume:
                raise UsageError(f"{folder} holds a recording already; pass --resume to continue it, or another --out")
            old = read_json(folder / CONFIG)
            for key in sorted({*old, *config}):
                if old.get(key) != config.get(key):
                    was, now = json.dumps(old.get(key)), json.dumps(config.get(key))
                    raise UsageError(f"cannot resume {folder}: it was started with {key} = {was}, now {now}")
            return cls.read(folder)
        if folder.is_dir() and any(not item.name.startswith(f".{CONFIG}.") for item in folder.iterdir()):
            raise UsageError(f"expected an empty or a new folder to record into, {folder} holds other files")
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"expected a folder to record into, {folder} is a file")
        atomic_write_json(folder / CONFIG, dict(config))
        return cls(folder, dict(config))

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """Return the journal in a folder.

        Raises:
            UsageError: it is missing or broken.
        """
        path = folder / GROUPS
        groups = read_jsonl(path) if path.is_file() else []
        for number, group in enumerate(groups, start=1):
            if not isinstance(group.get("files"), dict) or not isinstance(group.get("played"), list):
                raise UsageError(f"{path}, line {number}: expected an entry with files and played")
        return cls(folder, read_json(folder / CONFIG), groups)

    @property
    def played(self) -> list[dict[str, Any]]:
        """Every episode that was played, in the order of the groups."""
        return [item for group in self.groups for item in group["played"]]

    @property
    def kept(self) -> list[dict[str, Any]]:
        """The episodes of the data set, in its order."""
        return [item for item in self.played if item["kept"]]

    def add(self, group: Group) -> None:
        """Append a group whose files lie on disk; their checksums are taken here."""
        files = {name: sha256(self.folder / name) for name in group["files"]}
        group = {**group, "files": files}
        append_jsonl(self.folder / GROUPS, group)
        self.groups.append(group)

    def sweep(self, places: Sequence[str]) -> None:
        """Remove the files under ``places`` that no group names: what a killed writer left."""
        known = {name for group in self.groups for name in group["files"]}
        for place in places:
            for path in sorted((self.folder / place).rglob("*")):
                if path.is_file() and path.relative_to(self.folder).as_posix() not in known:
                    path.unlink()

    def seal(self, derived: Sequence[str], complete: bool = False) -> None:
        """Write the checksums of the files that were derived from the groups; ``complete``: nothing is to come."""
        sums = {name: sha256(self.folder / name) for name in derived}
        atomic_write_json(self.folder / CHECKSUMS, {"complete": complete, "files": sums})

    @property
    def complete(self) -> bool:
        """True where everything was recorded and sealed."""
        path = self.folder / CHECKSUMS
        return path.is_file() and bool(read_json(path)["complete"])

    def discard(self) -> None:
        """Remove what a fresh start has written if no group was, so that it can be tried again."""
        if not self.groups:
            (self.folder / CONFIG).unlink(missing_ok=True)
            remove_empty([*sorted(self.folder.rglob("*"), reverse=True), self.folder])


def damaged(folder: Path) -> list[str]:
    """Return one line per file of a data set written here that is missing or changed; foreign ones carry no checksums.

    Raises:
        UsageError: the journal itself is broken.
    """
    if not (folder / CONFIG).is_file():
        return []
    journal = Journal.read(folder)
    sealed = read_json(folder / CHECKSUMS) if (folder / CHECKSUMS).is_file() else {"files": {}}
    sums: dict[str, str] = {name: value for group in journal.groups for name, value in group["files"].items()}
    if journal.complete:
        # What was only staged is part of a sealed file by now.
        sums = {name: value for name, value in sums.items() if not name.startswith(f"{STAGED}/")}
    sums.update(sealed["files"])
    found = []
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif sha256(path) != expected:
            found.append(f"{path} is not what was written (sha256 {sha256(path)[:12]}, expected {expected[:12]})")
    return found


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
