"""Object and structure classes: ids, names, colours, usual sizes and what can be done with them.

The object names are those of AI2-THOR, plus Cabinet, Chest, Wardrobe, Bathtub, Rug and Basket, which only the generator
uses. Sizes are metres: x (width), y (height), z (depth, the front looks along +z). Ids are stable: only append.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VOID, FLOOR, CEILING, WALL, DOOR, WINDOW = range(6)
FIRST_OBJECT = 6

OPENABLE, RECEPTACLE, PICKUPABLE, FLAT, TRAY = 1, 2, 4, 8, 16
"""Bits of `ObjectClass.flags` and of a box: FLAT never blocks the agent, TRAY is the drawer of a container."""

ROOM_TYPES = ("Kitchen", "LivingRoom", "Bedroom", "Bathroom", "Office", "Hallway")

_FLAG = {"o": OPENABLE, "r": RECEPTACLE, "p": PICKUPABLE, "f": FLAT}

# name, flags (o openable, r receptacle, p pickupable, f never blocks), red, green, blue, x, y, z
_TABLE = """
AlarmClock p 238 89 37 0.19 0.18 0.09
AluminumFoil p 205 12 235 0.24 0.04 0.06
Apple p 200 30 40 0.1 0.12 0.1
ArmChair r 150 60 95 0.94 0.88 0.89
BaseballBat p 212 143 108 0.08 0.96 0.09
Basket or 206 170 106 0.45 0.6 0.45
BasketBall p 238 112 20 0.24 0.24 0.24
Bathtub r 212 250 223 1.6 0.55 0.75
Bed r 88 120 190 1.37 0.91 2.24
Blinds f 12 235 12 1.1 0.2 0.03
Book p 40 90 160 0.22 0.03 0.27
Boots p 94 65 30 0.28 0.52 0.22
Bottle p 12 13 235 0.11 0.25 0.11
Bowl p 119 186 213 0.2 0.09 0.2
Box p 176 155 97 0.4 0.28 0.41
Bread p 222 156 82 0.16 0.14 0.29
ButterKnife p 235 106 234 0.01 0.03 0.26
CD p 12 235 105 0.1 0.0 0.1
Cabinet or 202 122 88 0.8 0.9 0.5
Candle p 250 235 170 0.05 0.17 0.05
Cart r 105 121 147 0.71 1.28 0.54
CellPhone p 25 52 28 0.08 0.01 0.15
Chair r 186 110 46 0.48 0.88 0.54
Chest or 152 67 37 0.9 0.55 0.5
Cloth p 7 11 140 0.21 0.02 0.18
ClothesDryer or 192 196 232 0.68 1.05 0.69
CoffeeMachine - 81 54 86 0.44 0.44 0.44
CoffeeTable r 121 107 70 1.13 0.44 0.66
CounterTop r 168 160 148 2.44 0.94 1.83
CreditCard p 235 12 162 0.09 0.0 0.05
Cup p 60 170 220 0.11 0.15 0.11
Desk r 161 128 53 1.39 0.79 0.62
DeskLamp - 245 215 90 0.26 0.46 0.29
Desktop - 56 57 93 0.88 0.57 0.25
DiningTable r 128 72 27 1.47 0.76 0.96
DishSponge p 12 235 203 0.07 0.03 0.14
DogBed r 130 100 140 0.99 0.18 0.83
Dresser or 115 61 52 1.2 0.97 0.51
Dumbbell p 122 12 235 0.13 0.13 0.33
Egg p 245 232 205 0.05 0.08 0.05
Faucet f 166 181 201 0.27 0.22 0.25
FloorLamp - 250 225 130 0.52 1.87 0.51
Footstool - 170 90 130 0.32 0.43 0.28
Fork p 156 106 235 0.03 0.03 0.23
Fridge or 200 222 240 1.0 1.84 0.72
GarbageBag - 51 55 31 0.51 0.56 0.52
GarbageCan - 68 99 115 0.45 0.56 0.37
HandTowel pf 98 140 7 0.13 0.4 0.04
HandTowelHolder f 146 235 106 0.17 0.21 0.05
HousePlant - 46 140 62 0.36 0.65 0.39
Kettle p 159 39 58 0.2 0.19 0.21
KeyChain p 168 191 10 0.13 0.01 0.07
Knife p 206 182 215 0.01 0.05 0.33
Ladle p 150 156 168 0.08 0.05 0.29
Laptop p 106 108 123 0.4 0.29 0.3
LaundryHamper or 220 200 160 0.55 0.74 0.43
Lettuce p 110 190 60 0.15 0.15 0.24
LightSwitch f 118 235 12 0.13 0.15 0.03
Microwave or 92 96 104 0.61 0.35 0.36
Mug p 220 70 110 0.13 0.1 0.09
Newspaper p 213 220 207 0.33 0.03 0.13
Ottoman r 104 70 130 0.85 0.43 0.52
Painting f 214 120 60 0.81 0.61 0.03
Pan p 58 71 66 0.28 0.05 0.43
PaperTowelRoll p 77 7 140 0.08 0.21 0.06
Pen p 12 82 235 0.01 0.01 0.2
Pencil p 250 200 40 0.01 0.01 0.18
PepperShaker p 191 10 110 0.07 0.11 0.07
Pillow p 236 206 214 0.43 0.14 0.35
Plate p 203 249 250 0.24 0.02 0.24
Plunger p 175 50 40 0.15 0.54 0.15
Pot p 130 136 148 0.29 0.16 0.31
Potato p 168 151 67 0.08 0.08 0.12
RemoteControl p 48 48 58 0.06 0.02 0.21
RoomDecor - 235 106 165 0.3 1.34 0.37
Rug f 160 70 70 1.8 0.01 1.2
Safe or 72 88 80 0.4 0.4 0.45
SaltShaker p 82 59 235 0.07 0.11 0.07
ScrubBrush p 59 235 64 0.13 0.48 0.13
ShelvingUnit r 170 130 92 0.91 1.44 0.34
ShowerCurtain f 7 140 9 0.34 1.66 0.33
ShowerHead f 63 191 10 0.23 1.41 0.25
SideTable r 150 106 72 0.62 0.66 0.39
Sink r 226 250 250 0.66 0.15 0.46
SoapBar p 172 48 191 0.05 0.02 0.09
SoapBottle p 90 200 170 0.12 0.24 0.1
Sofa r 58 130 128 2.4 0.92 0.93
Spatula p 59 227 235 0.06 0.02 0.3
Spoon p 140 7 8 0.04 0.02 0.21
SprayBottle p 70 120 220 0.03 0.25 0.11
Statue p 161 151 123 0.19 0.35 0.15
Stool r 196 150 80 0.41 0.67 0.32
TVStand r 82 62 56 1.2 0.71 0.6
TableTopDecor p 10 191 58 0.4 0.14 0.31
TeddyBear p 180 120 70 0.47 0.47 0.33
Television - 24 26 34 1.14 0.81 0.31
TennisRacket p 200 230 60 0.26 0.04 0.65
TissueBox p 150 172 231 0.2 0.15 0.1
Toaster - 177 209 187 0.22 0.21 0.36
Toilet r 250 217 250 0.53 0.99 0.92
ToiletPaper p 12 143 235 0.07 0.12 0.07
ToiletPaperHanger f 135 7 140 0.23 0.08 0.1
Tomato p 228 60 40 0.12 0.1 0.13
Towel pf 120 200 190 0.41 0.59 0.04
TowelHolder f 51 10 191 0.66 0.04 0.11
VacuumCleaner - 59 235 131 0.36 1.01 0.31
Vase p 110 60 170 0.18 0.21 0.17
Wardrobe or 112 82 70 1.1 2.0 0.6
WashingMachine or 222 206 238 0.68 1.05 0.69
Watch p 235 59 200 0.08 0.04 0.05
WateringCan p 40 160 150 0.15 0.19 0.27
WineBottle p 50 90 50 0.09 0.33 0.09
"""


@dataclass(frozen=True)
class ObjectClass:
    """One row of the class table."""

    id: int
    name: str
    flags: int
    rgb: tuple[int, int, int]
    size: tuple[float, float, float]

    @property
    def volume(self) -> float:
        """Cubic metres of the usual box."""
        return self.size[0] * self.size[1] * self.size[2]


def _parse(table: str) -> tuple[ObjectClass, ...]:
    rows = [line.split() for line in table.strip().splitlines()]
    return tuple(
        ObjectClass(
            FIRST_OBJECT + index,
            name,
            sum(bit for letter, bit in _FLAG.items() if letter in flags),
            (int(red), int(green), int(blue)),
            (float(x), float(y), float(z)),
        )
        for index, (name, flags, red, green, blue, x, y, z) in enumerate(rows)
    )


OBJECTS = _parse(_TABLE)
BY_NAME = {row.name: row for row in OBJECTS}
CLASS_NAMES = ("Void", "Floor", "Ceiling", "Wall", "Door", "Window", *(row.name for row in OBJECTS))
NUM_CLASSES = len(CLASS_NAMES)
CLASS_RGB = np.array(
    [(0, 0, 0), (150, 130, 110), (236, 236, 232), (205, 200, 190), (140, 90, 50), (150, 200, 235)]
    + [row.rgb for row in OBJECTS],
    dtype=np.uint8,
)
"""(NUM_CLASSES, 3) uint8: the colour a class is drawn in when nothing else is said."""


def class_id(name: str) -> int:
    """Return the id of a class name.

    >>> CLASS_NAMES[class_id("Fridge")]
    'Fridge'

    Raises:
        KeyError: no class has this name.
    """
    return CLASS_NAMES.index(name) if name in CLASS_NAMES[:FIRST_OBJECT] else BY_NAME[name].id
