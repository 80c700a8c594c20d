"""The words of the built-in house encoder: what its tokens tell, one number per concept.

A token has D = 128 numbers in 0..1: one for every piece of furniture in every colour (``pair``), then one for every
wall colour. A text becomes the concepts that it names, so text and image meet in the same space.
"""

from __future__ import annotations

import re

import numpy as np

CLASSES: tuple[tuple[str, str], ...] = (
    ("Bed", "bed"),
    ("Sofa", "sofa"),
    ("Chair", "chair"),
    ("DiningTable", "table"),
    ("Fridge", "fridge"),
    ("Cabinet", "cabinet"),
    ("Wardrobe", "wardrobe"),
    ("Dresser", "dresser"),
    ("ShelvingUnit", "shelf"),
    ("WashingMachine", "washer"),
    ("Toilet", "toilet"),
    ("Bathtub", "bathtub"),
    ("FloorLamp", "lamp"),
    ("HousePlant", "plant"),
    ("Chest", "chest"),
)
"""Class names of House and the words for them."""
THINGS: tuple[str, ...] = tuple(word for _, word in CLASSES)
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (205, 45, 45),
    "orange": (240, 130, 40),
    "yellow": (240, 215, 70),
    "green": (60, 150, 65),
    "blue": (65, 100, 200),
    "purple": (125, 75, 160),
    "black": (35, 35, 40),
    "white": (235, 235, 235),
}
"""Paints of furniture."""
WALLS: dict[str, tuple[int, int, int]] = {
    "red": (190, 70, 66),
    "orange": (232, 160, 96),
    "yellow": (236, 220, 120),
    "green": (112, 172, 112),
    "blue": (104, 140, 210),
    "purple": (150, 112, 180),
    "pink": (240, 176, 196),
    "grey": (140, 140, 144),
}
"""Paints of walls."""
COLOUR_WORDS, WALL_WORDS = tuple(COLOURS), tuple(WALLS)
PAIRS = len(THINGS) * len(COLOURS)
WIDTH = PAIRS + len(WALLS)
"""D."""


def pair(thing: int, colour: int) -> int:
    """Return the concept of a thing in a colour."""
    return thing * len(COLOURS) + colour


def pair_name(concept: int) -> str:
    """Return the words of a concept of a thing.

    >>> pair_name(0)
    'red bed'
    """
    thing, colour = divmod(concept, len(COLOURS))
    return f"{COLOUR_WORDS[colour]} {THINGS[thing]}"


def find_pairs(text: str) -> list[tuple[int | None, int]]:
    """Return (colour or None, thing) of every thing named in a text, in order.

    >>> find_pairs("Was the red bed beside a sofa?")
    [(0, 0), (None, 1)]
    """
    words = re.findall(r"[a-z]+", text.lower())
    found: list[tuple[int | None, int]] = []
    for index, word in enumerate(words):
        single = word if word in THINGS else word.removesuffix("s")
        if single in THINGS:
            before = words[index - 1] if index else ""
            found.append((COLOUR_WORDS.index(before) if before in COLOURS else None, THINGS.index(single)))
    return found


def concepts_of(text: str) -> np.ndarray:
    """Return (D,) float32: 1 for every concept that a text names, a thing without colour naming all its colours.

    >>> [int(concepts_of(text).sum()) for text in ("the red bed", "a bed", "walls of blue")]
    [1, 8, 1]
    """
    out = np.zeros(WIDTH, np.float32)
    for colour, thing in find_pairs(text):
        out[[pair(thing, k) for k in (range(len(COLOURS)) if colour is None else [colour])]] = 1.0
    words = re.findall(r"[a-z]+", text.lower())
    if {"wall", "walls"} & set(words):
        for number, name in enumerate(WALL_WORDS):
            used = sum(1 for k, _ in find_pairs(text) if k is not None and COLOUR_WORDS[k] == name)
            if words.count(name) > used:
                out[PAIRS + number] = 1.0
    return out
