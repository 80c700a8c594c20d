"""Things on the table as MJCF text, and how they are judged: blocks, patches, buttons, markers."""

from __future__ import annotations

import numpy as np

PALETTE: tuple[tuple[str, str], ...] = (
    ("red", "0.9 0.1 0.1 1"),
    ("green", "0.1 0.7 0.15 1"),
    ("blue", "0.1 0.25 0.9 1"),
    ("yellow", "0.95 0.85 0.1 1"),
    ("purple", "0.55 0.1 0.7 1"),
    ("orange", "1 0.5 0.05 1"),
    ("cyan", "0.1 0.8 0.9 1"),
    ("white", "0.97 0.97 0.97 1"),
    ("black", "0.08 0.08 0.08 1"),
)
"""Nine colours by name, rgba."""
HALF = 0.02
"""Half an edge of a block, metres."""
TOP = 0.03
"""Height of a button's top, metres."""
PRESSED, RELEASED = 0.006, 0.002
"""Metres of travel at which a button counts as pressed, and as released again."""
NEAR, LOW = 0.035, 0.075
"""A thing is touched when the tool is within NEAR metres of its axis and lower than LOW metres."""
OPENED = 0.06
"""Gripper opening in metres beyond which it holds nothing."""
AWAY = 0.07
"""Metres between tool and block beyond which the gripper does not hold it."""


def marker(name: str, geoms: str, place: str = "0 0 -3") -> str:
    """Return a body that the task places, made of ``geoms`` (MJCF)."""
    return f'<body name="{name}" mocap="true" pos="{place}">{geoms}</body>'


def solid(shape: str, size: str, rgba: str, more: str = "") -> str:
    """Return a geom that the hand can touch."""
    return f'<geom type="{shape}" size="{size}" rgba="{rgba}" contype="0" conaffinity="1" {more}/>'


def ghost(shape: str, size: str, rgba: str, more: str = "") -> str:
    """Return a geom that is only seen."""
    return f'<geom type="{shape}" size="{size}" rgba="{rgba}" contype="0" conaffinity="0" {more}/>'


def patch(place: tuple[float, float], rgba: str, radius: float = 0.045) -> str:
    """Return a coloured disc painted on the table."""
    return ghost("cylinder", f"{radius} 0.001", rgba, f'pos="{place[0]} {place[1]} 0.001"')


def block(name: str, rgba: str) -> str:
    """Return a cube of 4 cm and 50 g that physics moves."""
    return (
        f'<body name="{name}" pos="0.52 0 {HALF}"><freejoint/><geom type="box" size="{HALF} {HALF} {HALF}" mass="0.05" '
        f'rgba="{rgba}" friction="1 0.01 0.001" condim="4" contype="1" conaffinity="1"/></body>'
    )


def button(name: str, place: tuple[float, float], rgba: str) -> str:
    """Return a button on a spring; the joint has the name of the body."""
    return (
        f'<body name="{name}" pos="{place[0]} {place[1]} 0"><joint name="{name}" type="slide" axis="0 0 1" '
        f'range="-0.012 0" limited="true" stiffness="400" damping="8" armature="0.05"/>'
        f'<geom type="cylinder" size="0.032 {TOP / 2}" pos="0 0 {TOP / 2}" mass="0.05" rgba="{rgba}" contype="0" '
        'conaffinity="1"/></body>'
    )


def touched(tool: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return (N,) which of ``places`` (N, C, 3) the ``tool`` (N, 3) touches, -1 for none."""
    away = places[:, :, :2] - tool[:, None, :2]
    distance = (away * away).sum(axis=2)
    nearest = distance.argmin(axis=1)
    close = distance[np.arange(len(tool)), nearest] < NEAR * NEAR
    return np.where(close & (tool[:, 2] < LOW), nearest, -1)


def lies(places: np.ndarray, speeds: np.ndarray, tool: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return (N,) True where a block at ``places`` (N, 3) with ``speeds`` (N, 6) lies on the table and is not held:
    the ``tool`` (N, 3) is away from it, or the gripper's ``width`` (N,) is that of an open one.
    """
    still = (speeds[:, :3] ** 2).sum(axis=1) < 0.01**2
    away = ((places - tool) ** 2).sum(axis=1) > AWAY**2
    return still & (places[:, 2] < 1.5 * HALF) & ((width > OPENED) | away)


def within(places: np.ndarray, spots: np.ndarray, radius: float) -> np.ndarray:
    """Return True where points (..., 3) are within ``radius`` metres of ``spots`` (..., >= 2) on the table."""
    away = places[..., :2] - spots[..., :2]
    return (away * away).sum(axis=-1) < radius * radius
