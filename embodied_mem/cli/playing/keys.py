"""Which key plays which action."""

from __future__ import annotations

from collections.abc import Sequence

KEYS: dict[str, tuple[str, ...]] = {
    "MoveAhead": ("up", "w"),
    "RotateLeft": ("left", "a"),
    "RotateRight": ("right", "d"),
    "LookUp": ("r", "pageup"),
    "LookDown": ("f", "pagedown"),
    "PickupObject": ("p",),
    "PutObject": ("u",),
    "OpenObject": ("o",),
    "CloseObject": ("c",),
    "Done": ("enter", "space"),
}
"""Keys of House's actions; other environments use digits and letters in order."""
QUIT, NEXT = ("q", "escape"), ("n",)
OTHERS = "0123456789abcdefghijklmoprstuvwxyz"


def bindings(actions: Sequence[str]) -> dict[str, int]:
    """Return key name -> index of the action.

    >>> bindings(["MoveAhead", "Done"])["enter"], bindings(["0", "1"])["1"]
    (1, 1)
    """
    if all(name in KEYS for name in actions):
        return {key: index for index, name in enumerate(actions) for key in KEYS[name]}
    return {key: index for index, key in enumerate(OTHERS[: len(actions)])}


def key_help(actions: Sequence[str]) -> str:
    """Return one line that says what the keys do.

    >>> key_help(["MoveAhead"])
    'up/w MoveAhead  |  n next episode  |  q quit'
    """
    keys = bindings(actions)
    parts = [
        "/".join(key for key, at in keys.items() if at == index) + " " + name for index, name in enumerate(actions)
    ]
    return "  |  ".join([*parts, "n next episode", "q quit"])
