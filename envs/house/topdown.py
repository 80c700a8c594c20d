"""Top-down pictures of a house in numpy and OpenCV, for play and videos: north (+z) is up, +x is right.

The drawing needs `HouseWorld.describe(row)` alone (plain JSON), so it works from files too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

WALL_RGB = (60, 62, 70)
PAPER_RGB = (250, 250, 248)
DOOR_RGB = (196, 150, 96)
WINDOW_RGB = (120, 175, 215)
PATH_RGB = ((36, 99, 235), (220, 60, 50))
TARGET_RGB = (220, 38, 120)
LOWEST_FURNITURE = 0.02
"""Boxes flatter than this (rugs) are drawn as outlines."""


class TopDown:
    """One picture of a map, built up by calls; every method draws and returns the picture object itself.

    Args:
        house: what `HouseWorld.describe` returns (extra keys are ignored).
        pixels_per_metre: scale.
        margin: metres of paper around the house.

    Attributes:
        image: (H, W, 3) uint8 RGB.
    """

    def __init__(self, house: dict[str, Any], pixels_per_metre: float = 40.0, margin: float = 0.3) -> None:
        self.house = house
        self.scale = float(pixels_per_metre)
        x0, z0, x1, z1 = house["bounds"]
        self._left, self._top = x0 - margin, z1 + margin
        shape = (round((z1 - z0 + 2 * margin) * self.scale), round((x1 - x0 + 2 * margin) * self.scale), 3)
        self.image = np.empty(shape, np.uint8)
        self.image[:] = PAPER_RGB
        self._rooms()
        self._objects()

    def to_pixels(self, xz: np.ndarray | Sequence[float]) -> np.ndarray:
        """Return (..., 2) float pixel coordinates (column, row) of world points (..., 2)."""
        points = np.asarray(xz, dtype=np.float64)
        return np.stack([points[..., 0] - self._left, self._top - points[..., 1]], axis=-1) * self.scale

    def path(self, poses: np.ndarray, rgb: Sequence[int] | None = None) -> TopDown:
        """Draw a trajectory (T, >=2) of x, z; without ``rgb`` it fades from blue (start) to red (end)."""
        import cv2

        points = self._fixed(np.asarray(poses, dtype=np.float64)[:, :2])
        steps = max(len(points) - 1, 1)
        for index in range(len(points) - 1):
            share = index / steps
            colour = rgb if rgb is not None else [(1 - share) * a + share * b for a, b in zip(*PATH_RGB)]
            cv2.line(self.image, points[index], points[index + 1], _rgb(colour), self._width(0.05), cv2.LINE_AA, 4)
        return self

    def agent(self, x: float, z: float, yaw: float, rgb: Sequence[int] = (20, 24, 32)) -> TopDown:
        """Draw an arrow head at (x, z) metres looking along ``yaw`` radians."""
        import cv2

        angles = yaw + np.radians([0.0, 140.0, 180.0, 220.0])
        reach = np.array([0.28, 0.24, 0.08, 0.24])
        corners = np.stack([x + reach * np.sin(angles), z + reach * np.cos(angles)], axis=-1)
        cv2.fillPoly(self.image, [self._fixed(corners)], _rgb(rgb), cv2.LINE_AA, 4)
        return self

    def ring(self, x: float, z: float, radius: float = 0.3, rgb: Sequence[int] = TARGET_RGB) -> TopDown:
        """Draw a circle around a place, metres."""
        import cv2

        centre = self._fixed(np.array([[x, z]]))[0]
        cv2.circle(self.image, centre, round(radius * self.scale * 16), _rgb(rgb), self._width(0.05), cv2.LINE_AA, 4)
        return self

    def label(self, x: float, z: float, text: str, rgb: Sequence[int] = (40, 42, 50)) -> TopDown:
        """Write a short text centred at (x, z) metres."""
        import cv2

        size = max(self.scale / 40.0 * 0.35, 0.3)
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
        column, row = self.to_pixels([x, z])
        place = (round(column - width / 2), round(row + height / 2))
        cv2.putText(self.image, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, _rgb(rgb), 1, cv2.LINE_AA)
        return self

    def _rooms(self) -> None:
        import cv2

        for room in self.house["rooms"]:
            polygon = self._fixed(np.array(room["polygon"]))
            pale = [0.45 * value + 0.55 * 255 for value in room["floor_rgb"]]
            cv2.fillPoly(self.image, [polygon], _rgb(pale), cv2.LINE_AA, 4)
        for room in self.house["rooms"]:
            polygon = self._fixed(np.array(room["polygon"]))
            cv2.polylines(self.image, [polygon], True, _rgb(WALL_RGB), self._width(0.1), cv2.LINE_AA, 4)
        for kind, rgb in (("windows", WINDOW_RGB), ("doors", DOOR_RGB)):
            for opening in self.house[kind]:
                start, end = self._fixed(np.array(opening["ends"]))
                cv2.line(self.image, start, end, _rgb(rgb), self._width(0.12), cv2.LINE_AA, 4)

    def _objects(self) -> None:
        import cv2

        shown = [box for box in self.house["boxes"] if box["shown"]]
        for box in sorted(shown, key=lambda item: item["position"][1] + item["size"][1]):
            (x, _, z), (width, height, depth) = box["position"], box["size"]
            outline = self._fixed(footprint(x, z, np.radians(box["yaw"]), width, depth))
            if height > LOWEST_FURNITURE:
                cv2.fillPoly(self.image, [outline], _rgb(box["rgb"]), cv2.LINE_AA, 4)
            cv2.polylines(self.image, [outline], True, _rgb([0.6 * value for value in box["rgb"]]), 1, cv2.LINE_AA, 4)

    def _fixed(self, xz: np.ndarray) -> np.ndarray:
        # OpenCV's sub-pixel coordinates: 4 fractional bits.
        return np.round(self.to_pixels(xz) * 16).astype(np.int32)

    def _width(self, metres: float) -> int:
        return max(1, round(metres * self.scale))


def footprint(x: float, z: float, yaw: float, width: float, depth: float) -> np.ndarray:
    """Return the (4, 2) corners x, z of an upright box with local axes turned clockwise by ``yaw`` radians."""
    local = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, 0.5), (0.5, -0.5)]) * (width, depth)
    sin, cos = np.sin(yaw), np.cos(yaw)
    return np.stack([x + local[:, 0] * cos + local[:, 1] * sin, z - local[:, 0] * sin + local[:, 1] * cos], axis=-1)


def _rgb(values: Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (round(float(value)) for value in values)
    return red, green, blue
