"""Reads data sets in the LeRobotDataset v3 layout, written here or elsewhere.

``observation.state`` is the state, ``observation.images.*`` (videos, or encoded pictures in the table) are the cameras,
other ``observation.*`` vectors are extras. What LeRobot does not know (seed, number, environment) comes from the
journal of a data set written here; a foreign one has seed 0, the episode's index as number, and success where no
``next.success`` says otherwise, since demonstrations are kept for being right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.demonstrations.episode import Episode
from embodied_mem.demonstrations.journal import CONFIG, INFO, Journal, damaged
from embodied_mem.demonstrations.tables import column, load_arrow
from embodied_mem.demonstrations.video import read_video
from embodied_mem.errors import UsageError
from embodied_mem.files import read_json

STATE, CAMERAS, OTHER, ACTION = "observation.state", "observation.images.", "observation.", "action"


class LeRobotReader:
    """The episodes of one folder; nothing but the index is kept in memory."""

    def __init__(self, folder: str | Path) -> None:
        """Read the index.

        Raises:
            UsageError: the index is missing or broken, another version, or pyarrow is missing.
        """
        self.folder = Path(folder)
        info = read_json(self.folder / INFO)
        try:
            version, self.fps, self._features = info["codebase_version"], float(info["fps"]), dict(info["features"])
            self._data, self._video = info["data_path"], info.get("video_path")
        except (KeyError, TypeError) as error:
            raise UsageError(f"{self.folder / INFO} is no index of a LeRobotDataset: {error!r}") from error
        if not str(version).startswith("v3"):
            raise UsageError(f"expected LeRobotDataset v3 in {self.folder}, got {version}; convert it with lerobot")
        self._index = sorted(self._rows(), key=lambda row: row["episode_index"])
        kept = Journal.read(self.folder) if (self.folder / CONFIG).is_file() else None
        self._kept = kept.kept if kept is not None else []
        self._env = str(kept.config.get("env", "")) if kept is not None else ""

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self._index)

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64: steps of every episode."""
        return np.array([row["length"] for row in self._index], np.int64)

    def __iter__(self) -> Iterator[Episode]:
        """Iterate over all episodes in order."""
        return (self[index] for index in range(len(self)))

    def verify(self) -> list[str]:
        """Return one line per damaged or missing file."""
        return damaged(self.folder)

    def __getitem__(self, index: int) -> Episode:
        """Return one episode; a damaged file is named in the UsageError."""
        if not 0 <= index < len(self):
            raise IndexError(f"expected an episode index in [0, {len(self)}), got {index}")
        row = self._index[index]
        table = self._table(row)
        own = self._kept[index] if index < len(self._kept) else {}
        vectors = {
            name.removeprefix(OTHER): column(table, name).astype(np.float32, copy=False)
            for name, feature in self._features.items()
            if name.startswith(OTHER) and name != STATE and feature["dtype"] not in ("video", "image", "string")
        }
        success = column(table, "next.success").any() if "next.success" in table.column_names else True
        reward = column(table, "next.reward")[:, 0] if "next.reward" in table.column_names else np.zeros(0)
        actions = column(table, ACTION)
        length = table.num_rows
        return Episode(
            instruction=str(row["tasks"][0]) if row.get("tasks") else "",
            state=column(table, STATE).astype(np.float32, copy=False)
            if STATE in self._features
            else np.zeros((length, 0), np.float32),
            images=self._images(row, table),
            actions=actions if actions.dtype.kind in "iu" else actions.astype(np.float32, copy=False),
            seed=int(own.get("seed", 0)),
            success=bool(success),
            rewards=reward.astype(np.float32),
            number=int(own.get("number", index)),
            env=self._env,
            extras=vectors,
        )

    def _rows(self) -> list[dict[str, Any]]:
        _, parquet = load_arrow()
        rows = []
        for path in sorted((self.folder / "meta" / "episodes").glob("*/*.parquet")):
            names = [name for name in _read(parquet.read_schema, path).names if not name.startswith("stats/")]
            rows += _read(parquet.read_table, path, columns=names).to_pylist()
        if not rows:
            raise UsageError(f"expected episodes in {self.folder / 'meta' / 'episodes'}, found none")
        return rows

    def _table(self, row: dict[str, Any]) -> Any:
        _, parquet = load_arrow()
        place = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        path = self.folder / self._data.format(**place)
        table = _read(parquet.read_table, path, filters=[("episode_index", "=", row["episode_index"])])
        if table.num_rows != row["length"]:
            number = row["episode_index"]
            raise UsageError(f"{path} holds {table.num_rows} steps of episode {number}, expected {row['length']}")
        return table

    def _images(self, row: dict[str, Any], table: Any) -> dict[str, np.ndarray]:
        images = {}
        for name, feature in self._features.items():
            if feature["dtype"] == "video" and not (feature.get("info") or {}).get("video.is_depth_map"):
                place = {
                    "chunk_index": row[f"videos/{name}/chunk_index"],
                    "file_index": row[f"videos/{name}/file_index"],
                }
                path = self.folder / self._video.format(video_key=name, **place)
                start = row[f"videos/{name}/from_timestamp"]
                images[name.removeprefix(CAMERAS)] = read_video(path, start, row["length"], self.fps)
            elif feature["dtype"] == "image":
                images[name.removeprefix(CAMERAS)] = _decode(table.column(name).to_pylist(), name)
        return images


def _read(reader: Any, path: Path, **kwargs: Any) -> Any:
    arrow, _ = load_arrow()
    try:
        return reader(path, **kwargs)
    except (OSError, arrow.ArrowException) as error:
        raise UsageError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def _decode(cells: list[Any], name: str) -> np.ndarray:
    """Return pictures (T, H, W, 3) uint8 of encoded ones."""
    import cv2

    pictures = []
    for cell in cells:
        picture = cv2.imdecode(np.frombuffer(cell["bytes"], np.uint8), cv2.IMREAD_COLOR)
        if picture is None:
            raise UsageError(f"a picture of {name!r} cannot be decoded")
        pictures.append(picture[:, :, ::-1])
    return np.stack(pictures)
