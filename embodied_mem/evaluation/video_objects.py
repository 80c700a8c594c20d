"""Video object segmentation: masks given in the first frame, carried through by a memory, scored by J and F.

    python -m embodied_mem.evaluation.video_objects FOLDER [--stride 4] [--every 5]

``FOLDER`` has the layout of DAVIS: ``JPEGImages/[480p/]NAME/00000.jpg`` and ``Annotations/[480p/]NAME/00000.png``
(labels as palette or grey numbers). The first frame that shows an object gives its mask; all later ones are scored
against the annotation. Beside the memory stand two controls of the same code: ``first`` (the bank holds given frames
alone) and ``previous`` (no bank: the latest masks as they are).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from embodied_mem.errors import UsageError
from embodied_mem.evaluation.statistics import summarise
from embodied_mem.metrics.masks import boundary_accuracy, region_overlap
from embodied_mem.results import make_result, metric
from embodied_mem.stream.mask_propagation import MaskPropagator, PropagationConfig

CONDITIONS = ("memory", "first", "previous")
_NEVER = 10**9
Follow = Callable[[np.ndarray, np.ndarray | None], np.ndarray]


def score_video(
    frames: Sequence[np.ndarray], labels: Sequence[np.ndarray], condition: str, config: PropagationConfig
) -> dict[str, np.ndarray]:
    """Return ``j`` and ``f`` (objects,) float64, means over frames, and ``bytes`` (frames,) of the memory.

    The frame in which an object is given and those before it are not scored.

    Args:
        frames: images (H, W, 3) uint8.
        labels: the true ones, (H, W) int, 0 for no object.
        condition: one of `CONDITIONS`.
        config: of the propagation.

    Raises:
        UsageError: there are fewer than two frames, counts differ, or the first frame shows no object.
    """
    if len(frames) != len(labels) or len(frames) < 2:
        raise UsageError(f"expected two frames or more and as many labels, got {len(frames)} and {len(labels)}")
    propagator = MaskPropagator(replace(config, every=_NEVER) if condition == "first" else config)
    known: dict[int, int] = {}
    scores: dict[int, list[tuple[float, float]]] = {}
    nbytes, latest = [], np.zeros(frames[0].shape[:2], np.int32)
    for number, (rgb, true) in enumerate(zip(frames, labels)):
        new = sorted(set(np.unique(true).tolist()) - {0} - set(known))
        known |= {label: len(known) + 1 + place for place, label in enumerate(new)}
        given = _given(true, new, known, number)
        if condition == "previous":
            found = latest if given is None else np.where(given >= 0, given, latest)
        else:
            found = propagator.step(rgb, given)
            nbytes.append(propagator.nbytes())
        latest = found
        for label, own in known.items():
            if label not in new:
                pair = found == own, true == label
                scores.setdefault(label, []).append((region_overlap(*pair), boundary_accuracy(*pair)))
    means = np.array([np.mean(rows, 0) for rows in scores.values()]).reshape(-1, 2)
    return {"j": means[:, 0], "f": means[:, 1], "bytes": np.array(nbytes or [0])}


def _given(true: np.ndarray, new: list[int], known: dict[int, int], number: int) -> np.ndarray | None:
    """Return what is told of a frame: everything of the first one, the new objects of a later one, else None."""
    if not new:
        return None
    # of a later frame only the new objects are told; -1 is unknown
    out = np.full(true.shape, 0 if number == 0 else -1, np.int32)
    for label in new:
        out[true == label] = known[label]
    return out


def evaluate_folder(folder: str | Path, config: PropagationConfig | None = None) -> dict[str, Any]:
    """Return the result of a folder of videos; the memory's column under ``metrics``, the others as controls.

    Raises:
        UsageError: the folder is not of this layout.
    """
    config = config or PropagationConfig(stride=8)
    found: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in CONDITIONS}
    names = []
    for name, frames, labels in read_folder(Path(folder)):
        names.append(name)
        for condition in CONDITIONS:
            found[condition].append(score_video(frames, labels, condition, config))
    columns = {name: _column(rows) for name, rows in found.items()}
    facts = {"videos": names, "stride": config.stride, "every": config.every, "sensory": config.sensory}
    return make_result(
        "eval", "video-objects", facts, columns.pop("memory"), episodes=len(names), controls=columns,
        notes=["masks of the first frame that shows an object are given; intervals resample videos, then objects"],
    )  # fmt: skip


def _column(rows: Sequence[dict[str, np.ndarray]]) -> dict[str, Any]:
    both = {key: [[row[key]] for row in rows] for key in ("j", "f")}
    found = {f"{key}_mean": summarise(values, "mean") for key, values in both.items()}
    found["j_and_f"] = summarise([[(row["j"] + row["f"]) / 2] for row in rows], "mean")
    found["bytes"] = metric(float(max(row["bytes"].max() for row in rows)), n=len(rows))
    return found


def read_folder(folder: Path) -> Iterator[tuple[str, list[np.ndarray], list[np.ndarray]]]:
    """Yield name, images and labels of every video of a folder in the layout of DAVIS.

    Raises:
        UsageError: a part of the layout is missing, or a file cannot be read.
    """
    images, annotations = (_below(folder / part) for part in ("JPEGImages", "Annotations"))
    videos = sorted(item for item in images.iterdir() if (annotations / item.name).is_dir())
    if not videos:
        raise UsageError(f"expected folders of one name in {images} and {annotations}, found none")
    for video in videos:
        files = sorted((annotations / video.name).glob("*.png"))
        pictures = [next(iter(video.glob(f"{file.stem}.*")), None) for file in files]
        if not files or None in pictures:
            raise UsageError(f"expected an image in {video} for every annotation of {annotations / video.name}")
        yield video.name, [_image(file) for file in pictures if file is not None], [_labels(file) for file in files]


def _below(folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(f"expected the folder {folder}, found nothing there")
    return folder / "480p" if (folder / "480p").is_dir() else folder


def _image(file: Path) -> np.ndarray:
    image = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image is None:
        raise UsageError(f"{file} cannot be read as an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _labels(file: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(file) as image:
        # a palette image holds labels as they are; others are grey levels
        return np.array(image if image.mode in ("P", "L", "I") else image.convert("L"), np.int32)


def main(words: Sequence[str] | None = None) -> None:
    """Print the result of a folder as JSON."""
    import json

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--every", type=int, default=5)
    chosen = parser.parse_args(words)
    config = PropagationConfig(stride=chosen.stride, every=chosen.every)
    print(json.dumps(evaluate_folder(chosen.folder, config), indent=1))


if __name__ == "__main__":
    main()
