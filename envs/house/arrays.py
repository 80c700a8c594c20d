"""The two bundles of arrays that compiled code works on: packed plans (static) and the state of N rows (changes)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np


class Action(IntEnum):
    """What an agent can do; names and meaning follow AI2-THOR."""

    MoveAhead = 0
    RotateLeft = 1
    RotateRight = 2
    LookUp = 3
    LookDown = 4
    PickupObject = 5
    PutObject = 6
    OpenObject = 7
    CloseObject = 8
    Done = 9


class PlanArrays(NamedTuple):
    """Every plan of a library; the columns are documented at `library.PlanLibrary`."""

    plan_int: np.ndarray
    plan_float: np.ndarray
    room_int: np.ndarray
    room_rgb: np.ndarray
    edge_float: np.ndarray
    edge_int: np.ndarray
    opening_float: np.ndarray
    opening_int: np.ndarray
    door_float: np.ndarray
    door_int: np.ndarray
    box_size: np.ndarray
    box_pose: np.ndarray
    box_rgb: np.ndarray
    box_int: np.ndarray
    solid: np.ndarray


class WorldArrays(NamedTuple):
    """State of N rows with room for B boxes and D doors each; box and door columns are local to the row's plan."""

    plan: np.ndarray
    """(N,) int32 plan id."""
    position: np.ndarray
    """(N, 2) float64 agent x, z in metres."""
    yaw: np.ndarray
    """(N,) float64 degrees, clockwise, in [0, 360)."""
    horizon: np.ndarray
    """(N,) float64 degrees, positive = looking down."""
    room: np.ndarray
    """(N,) int32 library-wide index of the room the agent is in."""
    held: np.ndarray
    """(N,) int32 box in the agent's hand, -1 = none."""
    start: np.ndarray
    """(N, 3) float64 x, z, yaw (degrees) where the episode began: the origin of the `pose` sensor."""
    box_pose: np.ndarray
    """(N, B, 4) float32 x, base y, z, yaw (radians)."""
    box_parent: np.ndarray
    """(N, B) int32."""
    box_inside: np.ndarray
    """(N, B) uint8."""
    box_room: np.ndarray
    """(N, B) int32, library-wide room index."""
    box_open: np.ndarray
    """(N, B) uint8."""
    box_shown: np.ndarray
    """(N, B) uint8: 0 while held, hidden, or in a closed container."""
    door_openness: np.ndarray
    """(N, D) float32."""
    success: np.ndarray
    """(N,) uint8: the last action of the row had its effect."""
    target: np.ndarray
    """(N,) int32: instance the last interaction acted on, 0 = none."""


class Rules(NamedTuple):
    """Numbers of the motion and interaction rules, for compiled code."""

    step: float
    """MoveAhead, metres."""
    turn: float
    """RotateLeft / Right, degrees."""
    look: float
    """LookUp / Down, degrees."""
    look_up_limit: float
    """Smallest horizon, degrees."""
    look_down_limit: float
    """Largest horizon, degrees."""
    radius: float
    """Agent, metres."""
    eye: float
    """Camera height, metres."""
    reach: float
    """Largest floor distance from the agent to the nearest point of what it touches, metres."""
    tan_x: float
    """tan(hfov / 2)."""
    tan_y: float
    """tan_x times image height over width."""
    sliding: bool
    """True: a blocked move slides along the obstacle; False: the agent stays where it is."""
