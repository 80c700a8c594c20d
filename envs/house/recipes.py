"""What stands in which room: tables for the generator.

A piece is (class, where, chance). ``where``: `wall` = back to a wall; `corner` = back to a wall next to a corner;
`centre` = free-standing; `hang` = on the wall above eye-level furniture; `on X` = on top of piece X of the same room;
`beside X` = next to X on the same wall; `front X` = facing X; `around X` = on the sides of X, facing it; `rug` = flat.
"""

from __future__ import annotations

Piece = tuple[str, str, float]

PIECES: dict[str, tuple[Piece, ...]] = {
    "Kitchen": (
        ("CounterTop", "wall", 1.0),
        ("Fridge", "corner", 1.0),
        ("Cabinet", "wall", 0.9),
        ("DiningTable", "centre", 0.7),
        ("Chair", "around DiningTable", 0.9),
        ("Chair", "around DiningTable", 0.7),
        ("Microwave", "on CounterTop", 0.7),
        ("Toaster", "on CounterTop", 0.4),
        ("CoffeeMachine", "on CounterTop", 0.3),
        ("Cabinet", "wall", 0.4),
        ("GarbageCan", "corner", 0.6),
        ("WashingMachine", "wall", 0.3),
        ("Painting", "hang", 0.3),
    ),
    "LivingRoom": (
        ("Sofa", "wall", 1.0),
        ("CoffeeTable", "front Sofa", 0.8),
        ("TVStand", "wall", 0.8),
        ("Television", "on TVStand", 1.0),
        ("ShelvingUnit", "wall", 0.6),
        ("ArmChair", "corner", 0.6),
        ("Cabinet", "wall", 0.5),
        ("DiningTable", "centre", 0.3),
        ("Chair", "around DiningTable", 0.9),
        ("FloorLamp", "corner", 0.7),
        ("HousePlant", "corner", 0.7),
        ("Chest", "wall", 0.4),
        ("Rug", "rug", 0.6),
        ("Painting", "hang", 0.8),
        ("Painting", "hang", 0.4),
    ),
    "Bedroom": (
        ("Bed", "wall", 1.0),
        ("SideTable", "beside Bed", 0.8),
        ("Wardrobe", "wall", 0.7),
        ("Dresser", "wall", 0.7),
        ("Desk", "wall", 0.4),
        ("Chair", "front Desk", 0.8),
        ("Chest", "wall", 0.4),
        ("FloorLamp", "corner", 0.4),
        ("LaundryHamper", "corner", 0.4),
        ("Rug", "rug", 0.5),
        ("Painting", "hang", 0.8),
        ("HousePlant", "corner", 0.3),
    ),
    "Bathroom": (
        ("Toilet", "wall", 1.0),
        ("Bathtub", "wall", 0.7),
        ("Sink", "wall", 0.0),
        ("Cabinet", "wall", 0.8),
        ("Basket", "corner", 0.6),
        ("WashingMachine", "wall", 0.4),
        ("GarbageCan", "corner", 0.4),
        ("Towel", "hang", 0.7),
    ),
    "Office": (
        ("Desk", "wall", 1.0),
        ("Chair", "front Desk", 0.9),
        ("ShelvingUnit", "wall", 0.8),
        ("Safe", "corner", 0.6),
        ("Dresser", "wall", 0.4),
        ("ArmChair", "corner", 0.5),
        ("Chest", "wall", 0.3),
        ("HousePlant", "corner", 0.6),
        ("Painting", "hang", 0.7),
    ),
    "Hallway": (
        ("SideTable", "wall", 0.7),
        ("Cabinet", "wall", 0.5),
        ("Chest", "wall", 0.4),
        ("HousePlant", "corner", 0.5),
        ("Painting", "hang", 0.9),
        ("Rug", "rug", 0.5),
    ),
}
"""Pieces of a room type in order of importance."""

CONTAINERS = ("Cabinet", "Chest", "Dresser", "Safe", "Basket", "Wardrobe", "LaundryHamper", "WashingMachine", "Fridge")
"""Openable furniture that is added where a plan must hold more containers."""

ITEMS: dict[str, tuple[str, ...]] = {
    "CounterTop": ("Apple", "Bread", "Tomato", "Mug", "Plate", "Pot", "Pan", "Kettle", "Bowl", "Knife", "SoapBottle"),
    "DiningTable": ("Apple", "Bowl", "Plate", "Mug", "Vase", "Bread", "Laptop", "Newspaper", "Candle", "WineBottle"),
    "CoffeeTable": ("RemoteControl", "Book", "Mug", "Vase", "Newspaper", "Laptop", "Candle", "TissueBox"),
    "TVStand": ("RemoteControl", "Statue", "Vase", "Candle"),
    "ShelvingUnit": ("Statue", "Vase", "Box", "Candle", "TeddyBear"),
    "SideTable": ("AlarmClock", "Book", "CellPhone", "Candle", "TissueBox", "Vase"),
    "Dresser": ("AlarmClock", "Statue", "Box", "Vase", "TeddyBear"),
    "Bed": ("Pillow", "TeddyBear", "Laptop", "Book"),
    "Sofa": ("Pillow", "RemoteControl", "Newspaper", "Laptop", "TeddyBear"),
    "ArmChair": ("Pillow", "Book", "Newspaper"),
    "Desk": ("Laptop", "Book", "Mug", "CellPhone", "AlarmClock", "TissueBox"),
    "Cabinet": ("Vase", "SoapBottle", "SprayBottle", "Box", "Cup", "WateringCan"),
    "Chest": ("Book", "TeddyBear", "BasketBall", "Box"),
    "Toilet": ("ToiletPaper", "SoapBar", "Candle"),
    "WashingMachine": ("Towel", "SprayBottle", "Box"),
    "Safe": ("Statue", "Box"),
}
"""Small objects that lie on a receptacle."""

FLOOR_ITEMS = ("BasketBall", "Box", "Boots", "Dumbbell", "WateringCan", "TeddyBear")

WALL_STYLES_OF = {
    "Kitchen": (2, 4),
    "Bathroom": (4, 5),
    "LivingRoom": (0, 1, 2, 3),
    "Bedroom": (0, 1, 3),
    "Office": (0, 2, 3),
    "Hallway": (0, 2),
}
FLOOR_STYLES_OF = {
    "Kitchen": (2, 3),
    "Bathroom": (2, 3),
    "LivingRoom": (0, 1),
    "Bedroom": (0, 1, 4),
    "Office": (0, 4),
    "Hallway": (0, 2),
}
WALL_RGB = (
    (226, 214, 192),
    (206, 218, 224),
    (214, 222, 200),
    (232, 208, 196),
    (220, 216, 228),
    (236, 228, 206),
    (196, 208, 214),
)
WOOD_RGB = ((172, 128, 84), (140, 98, 64), (198, 158, 110), (116, 84, 60))
TILE_RGB = ((206, 206, 200), (186, 198, 204), (222, 212, 196), (170, 176, 184))
CARPET_RGB = ((150, 138, 160), (132, 150, 140), (166, 146, 130), (126, 138, 160))


def room_kinds(count: int) -> tuple[str, ...]:
    """Return the room types of a house of ``count`` rooms, from those that want most floor to those that want least."""
    order = (
        "LivingRoom",
        "Kitchen",
        "Bedroom",
        "Bathroom",
        "Bedroom",
        "Office",
        "Hallway",
        "Bedroom",
        "Bathroom",
        "Office",
    )
    chosen = [order[index % len(order)] for index in range(count)]
    wish = ("LivingRoom", "Kitchen", "Bedroom", "Office", "Hallway", "Bathroom")
    return tuple(sorted(chosen, key=wish.index))
