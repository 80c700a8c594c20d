"""Panorama features that users bring: the pictures themselves cannot be given away.

Two forms are read. A folder with one ``PANOID.npy`` per panorama, (H, W) or (H, W, C), whose middle column looks along
the panorama's yaw: columns are rotated so that the agent's heading is in the middle. Or one pickle
``{panoid: {heading: array}}``, of which the array of the nearest heading is taken. Nothing but numpy arrays and plain
containers is unpickled.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from embodied_mem.envs.street.graph import StreetGraph
from embodied_mem.errors import UsageError

_SAFE = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("collections", "OrderedDict"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("_codecs", "encode"),
}


class Panoramas:
    """Features by panorama and heading.

    Attributes:
        shape: of one observation.
    """

    def __init__(self, path: str | Path, graph: StreetGraph) -> None:
        """Open a folder or a pickle.

        Raises:
            UsageError: there is nothing of the form that is read.
        """
        self.path, self.graph = Path(path), graph
        self._by_heading: dict[str, dict[int, np.ndarray]] | None = None
        if self.path.is_dir():
            first = next(iter(sorted(self.path.glob("*.npy"))), None)
            if first is None:
                raise UsageError(f"expected PANOID.npy files in {self.path}, found none")
            self.shape = self._load(first).shape
        elif self.path.is_file():
            self._by_heading = _read_pickle(self.path)
            self.shape = next(iter(next(iter(self._by_heading.values())).values())).shape
        else:
            raise UsageError(f"expected a folder of PANOID.npy files or a pickle at {self.path}, found nothing there")

    def look(self, pano: int, heading: int) -> np.ndarray:
        """Return the features (``shape``) float32 of a panorama seen along a heading.

        Raises:
            UsageError: the panorama has none, or of another shape.
        """
        name = self.graph.names[pano]
        if self._by_heading is None:
            path = self.path / f"{name}.npy"
            if not path.is_file():
                raise UsageError(f"no features of panorama {name!r} in {self.path}")
            found = self._load(path)
            shift = round((heading - int(self.graph.yaw[pano])) / 360.0 * found.shape[1])
            found = np.roll(found, -shift, axis=1)
        else:
            views = self._by_heading.get(name)
            if not views:
                raise UsageError(f"no features of panorama {name!r} in {self.path}")
            found = views[min(views, key=lambda item: abs((item - heading + 180) % 360 - 180))]
        if found.shape != self.shape:
            raise UsageError(f"expected features of shape {self.shape} for panorama {name!r}, got {found.shape}")
        return np.asarray(found, dtype=np.float32)

    def _load(self, path: Path) -> np.ndarray:
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot read features from {path}: {error}") from error
        if found.ndim not in (2, 3):
            raise UsageError(f"expected features (H, W) or (H, W, C) in {path}, got shape {found.shape}")
        return found


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Refuse everything but numpy arrays."""
        if (module, name) not in _SAFE:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not read")
        return super().find_class(module, name)


def _read_pickle(path: Path) -> dict[str, dict[int, np.ndarray]]:
    def load(stream: BinaryIO) -> Any:
        return _Unpickler(stream).load()

    try:
        with open(path, "rb") as stream:
            value = load(stream)
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, ValueError, ImportError) as error:
        raise UsageError(f"cannot read features from {path}: {error}") from error
    try:
        found = {
            str(name): {int(heading): np.asarray(array) for heading, array in views.items()}
            for name, views in value.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"expected {{panoid: {{heading: array}}}} in {path}, got another form") from error
    if not found or not all(found.values()):
        raise UsageError(f"expected at least one panorama with a heading in {path}")
    return found
