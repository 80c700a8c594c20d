"""The picture of a game: first-person view, map from above, and what there is to say, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from embodied_mem.cli.playing.game import Game
from embodied_mem.envs.house.topdown import TopDown

HEIGHT = 480
PANEL = 400
GAP = 12
INK, FAINT, PAPER = (28, 32, 40), (110, 116, 128), (250, 250, 248)
GOOD, BAD = (22, 128, 72), (190, 40, 40)
TRAIL = (36, 99, 235)
JUMP = 0.6
"""Metres between two steps beyond which the agent was set down elsewhere."""
VIEW_SMOOTH = 200
"""Pictures with fewer rows show their pixels."""
LINE = 24
"""Pixels between two lines of text."""


def compose(game: Game, *, targets: bool = False) -> np.ndarray:
    """Return the (480, W, 3) uint8 RGB picture of the present step; W is even and stays the same during a game.

    Args:
        game: what is played.
        targets: mark on the map what is looked for.
    """
    view = _scaled(game.frame(), HEIGHT)
    panel = np.empty((HEIGHT, PANEL, 3), np.uint8)
    panel[:] = PAPER
    lines = _lines(game)
    text_height = LINE * len(lines) + 2 * GAP
    house = game.house()
    if house is not None:
        drawn = _map(game, house, PANEL - 2 * GAP, HEIGHT - text_height - GAP, targets)
        top = GAP + (HEIGHT - text_height - GAP - drawn.shape[0]) // 2
        left = (PANEL - drawn.shape[1]) // 2
        panel[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    _write(panel, lines, HEIGHT - text_height + GAP if house is not None else 3 * GAP)
    image = np.concatenate([view, panel], axis=1)
    return image[:, : image.shape[1] // 2 * 2]


def _lines(game: Game) -> list[tuple[str, tuple[int, int, int]]]:
    """Return the lines of text with their colours, always the same number of them."""
    episode, trace = game.episode, game.trace()
    name = game.env_id.removeprefix("embodied_mem/")
    state = f"step {episode.steps}   return {episode.score:+.2f}"
    distance = trace.get("distance")
    where = f"distance {distance:.1f} m" if isinstance(distance, float) else ""
    phase = str(trace.get("phase", ""))
    last = f"last action {episode.action}" if episode.action else "ready"
    closing: tuple[str, tuple[int, int, int]] = ("", FAINT)
    if episode.ended:
        success = episode.facts.get("success")
        closing = ("episode over", INK) if success is None else (("success", GOOD) if success else ("failed", BAD))
    return [
        (game.task or name, INK),
        (f"{name}   episode {episode.number}" if game.task else f"episode {episode.number}", FAINT),
        (state, INK),
        ("   ".join(part for part in (last, phase, where) if part), FAINT),
        closing,
    ]


def _map(game: Game, house: dict[str, Any], width: int, height: int, targets: bool) -> np.ndarray:
    """Return the map, as large as fits into the given pixels."""
    x0, z0, x1, z1 = house["bounds"]
    margin = 0.3
    scale = min((width - 1) / (x1 - x0 + 2 * margin), (height - 1) / (z1 - z0 + 2 * margin))
    picture = TopDown(house, scale, margin)
    path = np.array(game.episode.path)
    for part in np.split(path, 1 + np.flatnonzero(np.hypot(*np.diff(path, axis=0).T) > JUMP)):
        if len(part) > 1:
            picture.path(part, TRAIL)
    if targets:
        for x, z in _places(house, game.trace()):
            picture.ring(x, z, radius=max(0.3, 8.0 / scale))
    agent = house["agent"]
    x, z = agent["position"]
    picture.agent(x, z, float(np.radians(agent["yaw"])))
    return picture.image[:height, :width]


def _places(house: dict[str, Any], trace: dict[str, Any]) -> list[tuple[float, float]]:
    """Return x, z of the boxes that are looked for now."""
    marked = [house["answer"]] if isinstance(house.get("answer"), int) else house.get("targets") or []
    if "found" in trace and marked:
        # One list per goal of a sequence.
        marked = marked[min(trace["found"], len(marked) - 1)]
    return [(house["boxes"][box]["position"][0], house["boxes"][box]["position"][2]) for box in marked]


def _write(panel: np.ndarray, lines: Sequence[tuple[str, tuple[int, int, int]]], top: int) -> None:
    import cv2

    for index, (text, rgb) in enumerate(lines):
        size, weight = (0.7, 2) if index == 0 else (0.5, 1)
        while cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, weight)[0][0] > PANEL - 2 * GAP and size > 0.3:
            size -= 0.05
        place = (GAP, top + LINE * index + 14)
        cv2.putText(panel, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, rgb, weight, cv2.LINE_AA)


def _scaled(picture: np.ndarray, height: int) -> np.ndarray:
    """Return a picture scaled to ``height`` rows, small ones with hard pixel edges."""
    import cv2

    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    way = cv2.INTER_AREA if picture.shape[0] > height else cv2.INTER_NEAREST
    if VIEW_SMOOTH <= picture.shape[0] < height:
        way = cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(picture, np.uint8), (width, height), interpolation=way)
