"""What the client sets for a player: picture, steps, sight. Apart from the scene, so that a process starts quickly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Settings:
    """What `Initialize` and `ChangeResolution` set."""

    width: int = 300
    height: int = 300
    grid: float = 0.25
    turn: float = 90.0
    visibility: float = 1.5
    fov: float = 90.0
    depth: bool = False
    instances: bool = False
