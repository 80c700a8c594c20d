"""A walk through painted houses as a stream: what HouseTourQA asks about, one frame per second."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from embodied_mem.stream.frames import FrameSource

if TYPE_CHECKING:
    from embodied_mem.stream.house_tour.tours import TourStream

_NAME = re.compile(r"house-tour:(?P<length>[a-z_]+|\d+)(:(?P<seed>\d+))?")


class TourSource(FrameSource):
    """Frames (48, 64, 3) of a `house_tour.tours.TourStream`; it is drawn while it is read."""

    def __init__(
        self, length: str | int = "short", seed: int = 0, *, split: str = "test", fps: float | None = None
    ) -> None:
        """Choose the walk; see `TourStream`.

        Raises:
            UsageError: unknown length or split.
        """
        super().__init__(f"house-tour:{length}:{seed}", fps)
        from embodied_mem.stream.house_tour.tours import TourStream

        self._images = self._drawn(TourStream(length, seed, split))
        self._image: np.ndarray | None = None

    @staticmethod
    def _drawn(stream: TourStream) -> Iterator[np.ndarray]:
        for chunk in stream.chunks():
            yield from chunk.rgb

    def _grab(self) -> float | None:
        self._image = next(self._images, None)
        return None if self._image is None else float(self._index)

    def _retrieve(self) -> np.ndarray:
        assert self._image is not None
        return self._image


def tour_named(name: str, fps: float | None = None) -> TourSource | None:
    """Return the walk called ``house-tour:LENGTH[:SEED]``, None where the name is of another form.

    Raises:
        UsageError: unknown length.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    length = found["length"]
    return TourSource(int(length) if length.isdigit() else length, int(found["seed"] or 0), fps=fps)
