"""Object classes that navigation tasks send agents to, and which of them a house offers."""

from __future__ import annotations

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.plan import HousePlan

LARGE: tuple[str, ...] = (
    "ArmChair",
    "Basket",
    "Bathtub",
    "Bed",
    "Cabinet",
    "Chair",
    "Chest",
    "CoffeeTable",
    "CounterTop",
    "Desk",
    "DiningTable",
    "Dresser",
    "FloorLamp",
    "Fridge",
    "GarbageCan",
    "HousePlant",
    "LaundryHamper",
    "Microwave",
    "Safe",
    "ShelvingUnit",
    "SideTable",
    "Sofa",
    "TVStand",
    "Television",
    "Toilet",
    "Wardrobe",
    "WashingMachine",
)
"""Furniture and appliances."""
SMALL: tuple[str, ...] = (
    "AlarmClock",
    "Apple",
    "BasketBall",
    "Book",
    "Bowl",
    "Box",
    "Bread",
    "Kettle",
    "Laptop",
    "Mug",
    "Pillow",
    "Pot",
    "SprayBottle",
    "Statue",
    "TeddyBear",
    "Vase",
)
"""Things that lie about."""
TARGETS: tuple[str, ...] = LARGE + SMALL
"""All target classes; the order is that of the one-hot ``goal``."""
TARGET_CLASS = np.array([K.class_id(name) for name in TARGETS], np.int64)
"""(G,) int64 class id of every target."""


def instances(plan: HousePlan, *, small: bool, unique: bool = False) -> dict[int, tuple[int, ...]]:
    """Return the target classes (indices into `TARGETS`) of a plan with the boxes an agent could see without opening.

    Args:
        plan: the house.
        small: also those of `SMALL`.
        unique: only classes with a single box.
    """
    lies_in = np.where(plan.box_inside, plan.box_parent, -1)
    shut = (lies_in >= 0) & ~plan.box_open[np.maximum(lies_in, 0)]
    counted = (plan.box_flags & K.TRAY) == 0
    found: dict[int, tuple[int, ...]] = {}
    for index in range(len(TARGETS) if small else len(LARGE)):
        boxes = np.flatnonzero((plan.box_class == TARGET_CLASS[index]) & counted)
        seen = boxes[~shut[boxes]]
        if len(seen) and not (unique and len(boxes) > 1):
            found[index] = tuple(int(box) for box in seen)
    return found


def spoken(index: int) -> str:
    """Return a target class in words.

    >>> spoken(TARGETS.index("CoffeeTable")), spoken(TARGETS.index("TVStand"))
    ('coffee table', 'tv stand')
    """
    name = TARGETS[index].replace("TV", "Tv")
    return "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name).strip()
