"""Writes the LeRobotDataset v3 layout: parquet tables of steps, mp4 per camera, and an index in ``meta/``.

A group of episodes is one parquet file (a row group per episode) and one video per camera. ``meta/`` is derived from
the journal as groups are added, so a data set that is still being recorded can be opened.

Features: ``observation.state``, ``observation.images.<camera>``, ``observation.<other vector>``, ``action``,
``next.reward``, ``next.done``, ``next.success``, and LeRobot's ``timestamp, frame_index, episode_index, index,
task_index``. The instruction is the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embodied_mem.demonstrations.episode import Episode
from embodied_mem.demonstrations.journal import INFO, Group, Journal
from embodied_mem.demonstrations.statistics import merge_statistics, statistics
from embodied_mem.demonstrations.tables import episode_table, load_arrow, tasks_table
from embodied_mem.demonstrations.take import Kinds, Take
from embodied_mem.demonstrations.video import CODEC, PIXELS, write_video
from embodied_mem.files import atomic_file, atomic_write_json

VERSION, FILES_PER_CHUNK = "v3.0", 1000
PLACE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA, VIDEO = f"data/{PLACE}.parquet", f"videos/{{video_key}}/{PLACE}.mp4"
EPISODES, TASKS, STATS = "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet", "meta/stats.json"


class LeRobotWriter:
    """Writes groups of takes."""

    places: tuple[str, ...] = ("data", "videos")
    """Folders that hold groups' files only."""

    def __init__(self, folder: Path, kinds: Kinds, *, env: str, fps: int, crf: int) -> None:
        """Write into ``folder``; ``crf`` is the quality of the videos, see `video.write_video`.

        Raises:
            UsageError: a package of the extra ``datasets`` is missing.
        """
        load_arrow()
        self.folder, self.kinds, self.env, self.fps, self.crf = folder, kinds, env, fps, crf

    def write(self, takes: Sequence[Take], journal: Journal) -> Group:
        """Write the files of a group and return its entry for the journal, without ``played``."""
        if not takes:
            return {"files": [], "episodes": []}
        file = sum(bool(group["files"]) for group in journal.groups)
        chunk, file = divmod(file, FILES_PER_CHUNK)
        place = {"chunk_index": chunk, "file_index": file}
        known = [entry for group in journal.groups for entry in group["episodes"]]
        frames = sum(entry["length"] for entry in known)
        tasks = _tasks(known)
        episodes = [take.episode(self.kinds, self.env) for take in takes]
        names, entries, tables, since = [DATA.format(**place)], [], [], 0
        for number, (take, episode) in enumerate(zip(takes, episodes, strict=True), start=len(known)):
            task = tasks.setdefault(episode.instruction, len(tasks))
            columns = _columns(take, episode, number, frames, task, self.fps)
            tables.append(columns)
            shown = {_camera(name): pictures for name, pictures in episode.images.items()}
            entries.append(
                {
                    "episode_index": number,
                    "task": episode.instruction,
                    "length": len(episode),
                    "from": frames,
                    "seconds": since / self.fps,
                    **place,
                    "stats": statistics({**columns, **shown}),
                }
            )
            frames, since = frames + len(episode), since + len(episode)
        _write_tables(self.folder / names[0], tables)
        for name in self.kinds.images:
            names.append(VIDEO.format(video_key=_camera(name), **place))
            pictures = (frame for episode in episodes for frame in episode.images[name])
            with atomic_file(self.folder / names[-1]) as temporary:
                write_video(temporary, pictures, fps=self.fps, crf=self.crf)
        layout = {name: [str(values.dtype), list(values.shape[1:])] for name, values in tables[0].items()}
        layout |= {_camera(name): ["video", list(episodes[0].images[name].shape[1:])] for name in self.kinds.images}
        return {"files": names, "episodes": entries, "layout": layout}

    def publish(self, journal: Journal) -> list[str]:
        """Write ``meta/`` anew from the journal; return the names of its files, none before the first episode."""
        entries = [entry for group in journal.groups for entry in group["episodes"]]
        if not entries:
            return []
        arrow, parquet = load_arrow()
        layout = next(group["layout"] for group in journal.groups if group["files"])
        videos = [name for name, (dtype, _) in layout.items() if dtype == "video"]
        tasks = _tasks(entries)
        rows = [_index_row(entry, videos, self.fps) for entry in entries]
        with atomic_file(self.folder / EPISODES) as temporary:
            parquet.write_table(arrow.Table.from_pylist(rows), temporary)
        with atomic_file(self.folder / TASKS) as temporary:
            parquet.write_table(tasks_table(list(tasks)), temporary)
        atomic_write_json(self.folder / STATS, merge_statistics([entry["stats"] for entry in entries]))
        info = {
            "codebase_version": VERSION,
            "robot_type": self.env,
            "total_episodes": len(entries),
            "total_frames": sum(entry["length"] for entry in entries),
            "total_tasks": len(tasks),
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": self.fps,
            "splits": {"train": f"0:{len(entries)}"},
            "data_path": DATA,
            "video_path": VIDEO if videos else None,
            "features": {name: _feature(dtype, shape, self.fps) for name, (dtype, shape) in layout.items()},
        }
        atomic_write_json(self.folder / INFO, info)
        return [EPISODES, TASKS, STATS, INFO]

    def finish(self, journal: Journal) -> list[str]:
        """Write what is only there when all is recorded: nothing but `publish`."""
        return self.publish(journal)

    def tidy(self) -> None:
        """Remove what a complete data set does not need: nothing."""


def _columns(take: Take, episode: Episode, number: int, first: int, task: int, fps: int) -> dict[str, np.ndarray]:
    """Return the columns of an episode by feature name, (T, F) each."""
    length = len(episode)
    steps = np.arange(length)
    last = steps == length - 1
    columns: dict[str, np.ndarray] = {}
    if episode.state.shape[1]:
        columns["observation.state"] = episode.state
    columns |= {f"observation.{name}": values for name, values in episode.extras.items()}
    columns["action"] = episode.actions
    columns["next.reward"] = take.rewards.astype(np.float32)[:, None]
    columns["next.done"] = last[:, None]
    columns["next.success"] = (last & episode.success)[:, None]
    columns["timestamp"] = (steps / fps).astype(np.float32)[:, None]
    columns["frame_index"] = steps[:, None]
    columns["episode_index"] = np.full((length, 1), number)
    columns["index"] = (first + steps)[:, None]
    columns["task_index"] = np.full((length, 1), task)
    return columns


def _write_tables(path: Path, tables: Sequence[dict[str, np.ndarray]]) -> None:
    """Write one row group per episode."""
    _, parquet = load_arrow()
    first = episode_table(tables[0])
    with atomic_file(path) as temporary, parquet.ParquetWriter(temporary, first.schema, compression="snappy") as writer:
        for columns in tables:
            writer.write_table(episode_table(columns))


def _index_row(entry: dict[str, Any], videos: Sequence[str], fps: int) -> dict[str, Any]:
    """Return the row of ``meta/episodes`` of an episode."""
    place = {"chunk_index": entry["chunk_index"], "file_index": entry["file_index"]}
    row: dict[str, Any] = {
        "episode_index": entry["episode_index"],
        "tasks": [entry["task"]],
        "length": entry["length"],
        "dataset_from_index": entry["from"],
        "dataset_to_index": entry["from"] + entry["length"],
        **{f"data/{name}": value for name, value in place.items()},
    }
    for video in videos:
        row |= {f"videos/{video}/{name}": value for name, value in place.items()}
        row[f"videos/{video}/from_timestamp"] = entry["seconds"]
        row[f"videos/{video}/to_timestamp"] = entry["seconds"] + entry["length"] / fps
    for feature, numbers in entry["stats"].items():
        row |= {f"stats/{feature}/{name}": value for name, value in numbers.items()}
    return row | {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}


def _feature(dtype: str, shape: Sequence[int], fps: int) -> dict[str, Any]:
    if dtype != "video":
        return {"dtype": dtype, "shape": list(shape), "names": None}
    height, width, channels = shape
    about = {
        "video.height": height,
        "video.width": width,
        "video.channels": channels,
        "video.codec": "h264" if CODEC == "libx264" else CODEC,
        "video.pix_fmt": PIXELS,
        "video.fps": fps,
        "video.is_depth_map": False,
        "has_audio": False,
    }
    return {"dtype": "video", "shape": list(shape), "names": ["height", "width", "channels"], "info": about}


def _tasks(entries: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return instruction -> task index, in the order of first use."""
    return {text: index for index, text in enumerate(dict.fromkeys(entry["task"] for entry in entries))}


def _camera(name: str) -> str:
    return f"observation.images.{name}"
