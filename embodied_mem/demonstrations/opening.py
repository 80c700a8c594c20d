"""`open_dataset`: a reader of whatever format a folder holds."""

from __future__ import annotations

from pathlib import Path

from embodied_mem.demonstrations.episode import Reader
from embodied_mem.demonstrations.journal import INFO
from embodied_mem.errors import UsageError


def open_dataset(folder: str | Path, *, verify: bool = True) -> Reader:
    """Return a reader of a data set in the LeRobotDataset v3 layout or of a Minari data set.

    Args:
        folder: where it lies; data sets of other programs are read too.
        verify: compare checksums first, where the data set was written here (others carry none).

    Raises:
        UsageError: no data set is there, a package is missing, or a file is damaged; it is named.
    """
    folder = Path(folder)
    if (folder / INFO).is_file():
        from embodied_mem.demonstrations.lerobot_reader import LeRobotReader

        reader: Reader = LeRobotReader(folder)
    elif (folder / "data" / "metadata.json").is_file():
        from embodied_mem.demonstrations.minari_reader import MinariReader

        reader = MinariReader(folder)
    else:
        raise UsageError(
            f"expected a data set in {folder} ({INFO} of LeRobotDataset v3, or data/metadata.json of Minari), "
            "found none"
        )
    if verify:
        damaged = reader.verify()
        if damaged:
            raise UsageError(f"the data set in {folder} is damaged: {'; '.join(damaged)}")
    return reader
