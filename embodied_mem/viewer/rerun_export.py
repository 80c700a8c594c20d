"""A recording for the rerun viewer (https://rerun.io): map, camera, pose and memory reads of every traced episode."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_file
from embodied_mem.viewer.load import Trace, find_runs
from embodied_mem.viewer.pictures import as_frames
from embodied_mem.viewer.reads import heats, main_heat, strongest
from embodied_mem.viewer.spatial import ARRAYS, CELL, to_house
from embodied_mem.viewer.topdown import positions

EYE = 1.5
HFOV = math.radians(90.0)


def write_recording(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the traced episodes below a folder as one ``.rrd`` file and return its path.

    Args:
        folder: an evaluation, or a folder with some below it.
        out: the file; default ``report.rrd`` inside the folder.

    Raises:
        UsageError: no episode was traced, or rerun-sdk is not installed.
        OSError: the file cannot be written; an older one is then untouched.
    """
    found = find_runs(folder)
    traces = [trace for run in found.evaluations for trace in run.traces if "reward" in trace.arrays]
    if not traces:
        raise UsageError(f"{folder} holds no traced episode; evaluate with --traces 2 and --out")
    target = Path(folder) / "report.rrd" if out is None else Path(out)
    rr = _rerun()
    with atomic_file(target) as temporary:
        recording = rr.RecordingStream("embodied_mem", recording_id=found.folder.resolve().name)
        recording.save(str(temporary))
        for trace in traces:
            _log_episode(rr, recording, trace)
        recording.flush()
        # Only this closes the file.
        recording.disconnect()
    return target


def _rerun() -> ModuleType:
    try:
        import rerun
    except ModuleNotFoundError as error:
        raise UsageError("--rerun needs rerun-sdk: pip install 'embodied-mem[viewer]'") from error
    return rerun


def _log_episode(rr: ModuleType, recording: Any, trace: Trace) -> None:
    facts, arrays = trace.facts, trace.arrays
    record = facts["record"]
    root = f"{_slug(record['task'])}/{_slug(record['condition'])}/episode_{record['episode']}"
    # World: y up, left-handed; rerun draws right-handed, so x is mirrored.
    recording.log(root, rr.ViewCoordinates.RIGHT_HAND_Y_UP, static=True)
    _log_map(rr, recording, f"{root}/map", facts.get("map_end") or facts.get("map") or {})
    total = len(arrays["reward"])
    steps = list(facts.get("steps") or [])[:total]
    way = positions(steps) + [None] * (total - len(steps))
    frames = next((as_frames(arrays[name]) for name in ("rgb", "depth") if name in arrays), None)
    if frames is not None:
        height, width = frames.shape[1:3]
        lens = rr.Pinhole(resolution=[width, height], focal_length=0.5 * width / math.tan(HFOV / 2))
        recording.log(f"{root}/agent/camera", lens, static=True)
    kept = {int(step): index for index, step in enumerate(arrays.get("frame_steps", np.arange(total)))}
    seen = heats(arrays)
    main = main_heat(seen)
    reads = strongest(np.zeros((total, total)) if main is None else main)
    names = facts.get("action_names")
    walked: list[list[float]] = []
    for step in range(total):
        recording.set_time("step", sequence=step)
        if way[step] is not None:
            place = _world(way[step])
            walked.append(place)
            recording.log(f"{root}/way", rr.LineStrips3D([walked], radii=0.02))
            _log_pose(rr, recording, f"{root}/agent", place, float(steps[step].get("yaw") or 0.0))
            _log_reads(rr, recording, f"{root}/memory", place, reads[step], way)
            _log_spatial(rr, recording, f"{root}/memory", arrays, step, steps[0])
        if frames is not None and step in kept:
            recording.log(f"{root}/agent/camera", rr.Image(frames[kept[step]]))
        recording.log(f"{root}/reward", rr.Scalars(float(arrays["reward"][step])))
        recording.log(f"{root}/action", rr.TextLog(_action(arrays["action"][step], names)))
    for name, heat in seen.items():
        recording.log(
            f"{root}/{_slug(name)}", rr.Tensor(heat.astype(np.float32), dim_names=["step", "past_step"]), static=True
        )


def _log_map(rr: ModuleType, recording: Any, path: str, scene: Mapping[str, Any]) -> None:
    boxes = [box for box in scene.get("boxes") or () if not box.get("tray") and box.get("shown", True)]
    if boxes:
        size = np.array([box["size"] for box in boxes], float)
        center = np.array([box["position"] for box in boxes], float)
        center[:, 1] += size[:, 1] / 2
        center[:, 0] *= -1
        turns = [rr.RotationAxisAngle(axis=[0, 1, 0], degrees=-float(box.get("yaw", 0.0))) for box in boxes]
        colors = [box["rgb"] for box in boxes]
        labels = [str(box.get("class", "")) for box in boxes]
        shape = rr.Boxes3D(
            centers=center, sizes=size, rotation_axis_angles=turns, colors=colors, labels=labels, show_labels=False
        )
        recording.log(f"{path}/boxes", shape, static=True)
    height = float(scene.get("height") or 2.7)
    strips = []
    for wall in scene.get("walls") or ():
        (x0, z0), (x1, z1) = wall
        strips.append([[-x0, 0, z0], [-x1, 0, z1], [-x1, height, z1], [-x0, height, z0], [-x0, 0, z0]])
    if strips:
        recording.log(f"{path}/walls", rr.LineStrips3D(strips, radii=0.015, colors=[120, 124, 132]), static=True)


def _log_pose(rr: ModuleType, recording: Any, path: str, place: list[float], yaw: float) -> None:
    angle = math.radians(yaw)
    ahead = [-0.5 * math.sin(angle), 0.0, 0.5 * math.cos(angle)]
    recording.log(f"{path}/heading", rr.Arrows3D(origins=[place], vectors=[ahead], colors=[255, 176, 32]))
    # The camera looks along its own z (x right, y down): mirrored x turns clockwise yaw into a right-handed rotation.
    right, down, forward = [-math.cos(angle), 0, -math.sin(angle)], [0, -1, 0], [-math.sin(angle), 0, math.cos(angle)]
    matrix = np.array([right, down, forward], float).T
    recording.log(f"{path}/camera", rr.Transform3D(translation=[place[0], EYE, place[2]], mat3x3=matrix))


def _log_reads(
    rr: ModuleType, recording: Any, path: str, place: list[float], reads: list[list[float]], way: list[Any]
) -> None:
    known = [(way[int(step)], share) for step, share in reads if way[int(step)] is not None]
    if not known:
        recording.log(path, rr.Clear(recursive=True))
        return
    ends = [_world(point) for point, _ in known]
    sizes = [0.03 + 0.12 * math.sqrt(share) for _, share in known]
    recording.log(f"{path}/places", rr.Points3D(ends, radii=sizes, colors=[255, 176, 32]))
    recording.log(f"{path}/links", rr.LineStrips3D([[place, end] for end in ends], radii=0.008, colors=[255, 176, 32]))


def _log_spatial(
    rr: ModuleType, recording: Any, path: str, arrays: Mapping[str, np.ndarray], step: int, first: Mapping[str, Any]
) -> None:
    """Log octree leaves, graph and recalled place of a spatial memory where the trace has them (`viewer.spatial`)."""
    if any(name not in arrays for name in ARRAYS):
        return
    leaf = arrays["read_leaf"][step].astype(float)
    leaf = leaf[np.isfinite(leaf[:, 0])]
    place, height = to_house(leaf[:, :2], first), np.maximum(leaf[:, 2], 0.0)
    centers = np.stack([-place[:, 0], height, place[:, 1]], 1)
    colors = np.where(leaf[:, 2:] < 0, [[79, 143, 208]], [[93, 100, 112]]).astype(np.uint8)
    recording.log(f"{path}/leaves", rr.Points3D(centers, radii=CELL / 2, colors=colors))
    nodes = to_house(arrays["read_node"][step].astype(float), first)
    held = np.isfinite(nodes[:, 0])
    lines = [
        [_world(nodes[a]), _world(nodes[b])] for a, b in np.argwhere(np.triu(arrays["read_edge"][step], 1)).tolist()
    ]
    recording.log(
        f"{path}/graph/places", rr.Points3D([_world(node) for node in nodes[held]], radii=0.1, colors=[15, 143, 117])
    )
    recording.log(f"{path}/graph/ways", rr.LineStrips3D(lines, radii=0.02, colors=[15, 143, 117]))
    recalled = to_house(arrays["read_recalled"][step].astype(float), first)
    spots = [_world(recalled)] if np.isfinite(recalled).all() else []
    recording.log(f"{path}/recalled", rr.Points3D(spots, radii=0.18, colors=[217, 130, 43]))


def _world(point: Any) -> list[float]:
    return [-float(point[0]), 0.05, float(point[1])]


def _action(action: np.ndarray, names: list[str] | None) -> str:
    if action.ndim == 0 and names and int(action) < len(names):
        return names[int(action)]
    return str(action.tolist())


def _slug(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text.removeprefix("embodied_mem/"))
