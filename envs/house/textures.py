"""Small palette textures, drawn by rule: walls, doors, windows, floors and the faces of furniture.

A texel holds a palette index 0-3 (base, darker, lighter, accent); palettes are packed 0x00BBGGRR per room and per box,
so every class keeps its own colour and needs no texture memory of its own.
"""

from __future__ import annotations

import numpy as np

from embodied_mem.envs.house import classes as K

WALL_ROWS, WALL_COLUMNS = 64, 16
"""Wall texels: rows of 0.05 m from the floor, columns of 0.05 m along the wall, repeating."""
WALL_TEXEL = 0.05
FLOOR_TEXEL = 0.0625
BOX_SIDE = 16
"""Texels along both directions of a furniture face, whatever its size."""

WALL_STYLES = ("paint", "stripes", "wainscot", "diamonds", "tiles", "bricks")
DOOR_SKIN, WINDOW_SKIN, PLAIN_SKIN = 6, 7, 8
FLOOR_STYLES = ("planks", "parquet", "tiles", "checker", "carpet")

BASE, DARK, LIGHT, ACCENT = 0, 1, 2, 3


def wall_textures() -> np.ndarray:
    """Return (9, 64, 16) uint8: the wall styles, then door panel, window and plain. Row 0 is the lowest."""
    row, column = np.mgrid[0:WALL_ROWS, 0:WALL_COLUMNS]
    out = np.zeros((9, WALL_ROWS, WALL_COLUMNS), np.uint8)
    out[1] = np.where(column % 8 < 3, DARK, BASE)
    out[2] = np.where(row < 18, np.where((column % 8 == 0) | (row == 5) | (row == 14), DARK, LIGHT), BASE)
    out[2, 18] = DARK
    out[3] = np.where((np.abs(row % 8 - 4) + np.abs(column % 8 - 4)) == 3, DARK, BASE)
    tile = (row % 6 == 0) | (column % 8 == 0)
    out[4] = np.where(row < 36, np.where(tile, DARK, LIGHT), BASE)
    brick = (row % 4 == 0) | ((column + 4 * (row // 4 % 2)) % 8 == 0)
    out[5] = np.where(brick, LIGHT, BASE)
    out[:6, :2] = DARK
    out[:6, 2] = ACCENT
    panel_row = (row % 32 >= 5) & (row % 32 <= 27)
    panel_column = (column >= 3) & (column <= 12)
    out[DOOR_SKIN] = np.where(panel_row & panel_column, DARK, BASE)
    inner = (row % 32 >= 8) & (row % 32 <= 24) & (column >= 4) & (column <= 11)
    out[DOOR_SKIN][inner] = LIGHT
    out[DOOR_SKIN][29:33, 13:15] = ACCENT
    out[WINDOW_SKIN] = np.where(row < 18 + 5 * np.sin(column * 0.8), ACCENT, np.where(row < 44, LIGHT, DARK))
    frame = (row < 3) | (row >= 61) | (column == 0) | (column == 15) | (column == 8) | (np.abs(row - 32) < 2)
    out[WINDOW_SKIN][frame] = BASE
    return out


def floor_styles() -> np.ndarray:
    """Return (5, 10) int32 rules of the floor styles: sx, sz, mx, mz, m, ex, vx, ez, vz, o.

    Texel (i, k), columns and rows of 1/16 m, belongs to block (i >> sx, k >> sz). Its palette index is 3 on a line:
    ``i & ex == vx`` or ``(k + o (i >> sx)) & ez == vz``, else ``(mx (i >> sx) + mz (k >> sz)) & m`` with 3 read as 0.
    Rules instead of pictures: a row of floor then needs no look-up per pixel.
    """
    never = (0, 1)
    return np.array(
        [
            (2, 20, 1, 0, 3, *never, 31, 0, 13),
            (1, 3, 5, 2, 3, *never, 15, 0, 8),
            (3, 3, 3, 2, 3, 7, 0, 7, 0, 0),
            (3, 3, 1, 1, 1, *never, *never, 0),
            (0, 1, 1, 3, 3, *never, *never, 0),
        ],
        np.int32,
    )


def _face(*lines: str) -> np.ndarray:
    """Return a (16, 16) skin from 16 (or 8) text rows, top first; `.` base, `#` dark, `+` light, `o` accent."""
    code = {".": BASE, "#": DARK, "+": LIGHT, "o": ACCENT}
    grid = np.array([[code[letter] for letter in line] for line in lines], np.uint8)
    return np.kron(grid, np.ones((16 // grid.shape[0], 16 // grid.shape[1]), np.uint8))[::-1]


SKINS: dict[str, np.ndarray] = {
    "plain": np.zeros((16, 16), np.uint8),
    "edged": _face("########", *["#......#"] * 6, "########"),
    "top": _face("++++++++", *["+......+"] * 6, "++++++++"),
    "doors": _face(
        "################",
        *["#......##......#"] * 6,
        *["#.....o##o.....#"] * 3,
        *["#......##......#"] * 5,
        "################",
    ),
    "drawers": _face(*(["################", "#..............#", "#.....oooo.....#", "#..............#"] * 4)),
    "door": _face(
        "################",
        *["#..............#"] * 6,
        *["#o.............#"] * 4,
        *["#..............#"] * 4,
        "################",
    ),
    "fridge": _face(
        "################",
        *["#............o.#"] * 4,
        "################",
        *["#............o.#"] * 5,
        *["#..............#"] * 4,
        "################",
    ),
    "shelves": _face(
        "################",
        "#++##oo#++o#o+##",
        "#++##oo#++o#o+##",
        "################",
        "#o++##++##oo#+##",
        "#o++##++##oo#+##",
        "################",
        "#++o##+#oo##++##",
        "#++o##+#oo##++##",
        "################",
        "##oo++#o##++#o##",
        "##oo++#o##++#o##",
        "################",
        "#++#oo#+##++oo##",
        "#++#oo#+##++oo##",
        "################",
    ),
    "legs": _face("++++++++", "........", *[".######."] * 6),
    "sofa": _face("++++++++", "+......+", "+......+", "++++++++", "#..##..#", "#..##..#", "########", "########"),
    "bed": _face("++++++++", "........", "........", "########", "########", "########", "#......#", "#......#"),
    "screen": _face("################", *["#oooooooooooooo#"] * 13, "################", "######++++######"),
    "washer": _face(
        "++++++++++++++++",
        "+......####...o+",
        "++++++++++++++++",
        "+..............+",
        "+....######....+",
        "+...##oooo##...+",
        "+..##oooooo##..+",
        "+..#oooooooo#..+",
        "+..#oooooooo#..+",
        "+..##oooooo##..+",
        "+...##oooo##...+",
        "+....######....+",
        "+..............+",
        "+..............+",
        "+..............+",
        "++++++++++++++++",
    ),
    "picture": _face(
        "################",
        "#oooooooooooooo#",
        "#oooooooooooooo#",
        "#oooo....oooooo#",
        "#ooo......oooo+#",
        "#oo........oo++#",
        "#o..........+++#",
        "#..........++++#",
        "#.........+++++#",
        "#........++++++#",
        *["#++++++++++++++#"] * 5,
        "################",
    ),
    "plant": _face("..#+..#.", "#..+.#..", ".+#..+#.", "..##.+..", "...##...", "...##...", ".oooooo.", ".oooooo."),
    "chest": _face("########", "#......#", "########", "#..oo..#", "#..oo..#", "#......#", "#......#", "########"),
    "weave": _face(*["#.#.#.#.", ".#.#.#.#"] * 4),
    "chair": _face("++++++++", "+.+..+.+", "+.+..+.+", "++++++++", "........", ".######.", ".######.", ".######."),
    "lamp": _face("++++++++", "++++++++", ".++++++.", "###oo###", "###oo###", "###oo###", "###oo###", "##oooo##"),
    "stripe": _face("........", "........", "oooooooo", "oooooooo", "oooooooo", "........", "........", "........"),
}
SKIN_NAMES = tuple(SKINS)

_SKIN_OF: dict[str, tuple[str, str]] = {
    "Cabinet": ("doors", "edged"),
    "Wardrobe": ("doors", "edged"),
    "Dresser": ("drawers", "edged"),
    "SideTable": ("drawers", "edged"),
    "Desk": ("legs", "legs"),
    "Fridge": ("fridge", "plain"),
    "Microwave": ("screen", "edged"),
    "Safe": ("door", "edged"),
    "Chest": ("chest", "chest"),
    "ShelvingUnit": ("shelves", "edged"),
    "DiningTable": ("legs", "legs"),
    "CoffeeTable": ("legs", "legs"),
    "CounterTop": ("drawers", "edged"),
    "TVStand": ("doors", "edged"),
    "Sofa": ("sofa", "edged"),
    "ArmChair": ("sofa", "edged"),
    "Bed": ("bed", "bed"),
    "Television": ("screen", "plain"),
    "Laptop": ("screen", "plain"),
    "Desktop": ("screen", "plain"),
    "WashingMachine": ("washer", "plain"),
    "ClothesDryer": ("washer", "plain"),
    "Painting": ("picture", "plain"),
    "HousePlant": ("plant", "plant"),
    "Basket": ("weave", "weave"),
    "LaundryHamper": ("weave", "weave"),
    "Chair": ("chair", "chair"),
    "Stool": ("legs", "legs"),
    "FloorLamp": ("lamp", "lamp"),
    "DeskLamp": ("lamp", "lamp"),
    "Book": ("edged", "edged"),
    "Bathtub": ("top", "top"),
    "Sink": ("edged", "edged"),
    "Rug": ("plain", "plain"),
    "Bread": ("stripe", "stripe"),
    "Newspaper": ("plain", "plain"),
}
_TOP_OF: dict[str, tuple[int, float, float, float, float, int]] = {
    "Bed": (BASE, 1, 0, 15, 4, ACCENT),
    "Sofa": (LIGHT, 2, 5, 14, 16, DARK),
    "ArmChair": (LIGHT, 3, 5, 13, 16, DARK),
    "Chair": (BASE, 2, 0, 14, 3, DARK),
    "Bathtub": (LIGHT, 2, 2, 14, 14, ACCENT),
    "Sink": (LIGHT, 2, 3, 14, 14, ACCENT),
    "CounterTop": (LIGHT, 9, 3, 14, 13, DARK),
    "Basket": (LIGHT, 2, 2, 14, 14, DARK),
    "LaundryHamper": (LIGHT, 2, 2, 14, 14, DARK),
    "Laptop": (DARK, 2, 2, 14, 10, DARK),
    "Book": (LIGHT, 4, 4, 12, 9, ACCENT),
    "Newspaper": (BASE, 2, 3, 14, 6, DARK),
    "Rug": (DARK, 3, 3, 13, 13, ACCENT),
    "Chest": (DARK, 6, 13, 10, 16, ACCENT),
    "HousePlant": (DARK, 5, 5, 11, 11, LIGHT),
    "Painting": (DARK, 0, 0, 0, 0, BASE),
    "Toilet": (BASE, 3, 6, 13, 15, DARK),
    "Bread": (BASE, 0, 6, 16, 10, DARK),
}
_ACCENT: dict[str, tuple[int, int, int]] = {
    "Television": (44, 60, 92),
    "Laptop": (120, 190, 240),
    "Desktop": (90, 150, 210),
    "Microwave": (40, 44, 50),
    "WashingMachine": (80, 110, 150),
    "ClothesDryer": (90, 100, 120),
    "Painting": (130, 180, 220),
    "HousePlant": (176, 96, 56),
    "Bed": (244, 242, 236),
    "Bathtub": (176, 214, 230),
    "Sink": (190, 200, 206),
    "ShelvingUnit": (180, 60, 60),
    "Rug": (224, 200, 150),
    "FloorLamp": (110, 100, 90),
    "DeskLamp": (110, 100, 90),
    "Chest": (226, 190, 90),
    "Book": (240, 226, 180),
    "Safe": (220, 200, 90),
    "Basket": (96, 70, 44),
    "LaundryHamper": (120, 96, 70),
}
_METAL = (222, 214, 190)


def bit_masks(textures: np.ndarray) -> np.ndarray:
    """Return (T, columns, 2) uint64 of textures (T, rows <= 64, columns): low and high bits of a column's indices.

    Bit v belongs to row v. A column of a texture then sits in two registers, and painting needs no look-up per pixel.
    """
    rows = np.arange(textures.shape[1], dtype=np.uint64)[None, :, None]
    index = textures.astype(np.uint64)
    planes = [np.bitwise_or.reduce((index >> np.uint64(bit) & np.uint64(1)) << rows, axis=1) for bit in (0, 1)]
    return np.stack(planes, -1)


def box_skins() -> np.ndarray:
    """Return (S, 16, 16) uint8 skins of side faces, row 0 at the bottom."""
    return np.stack([SKINS[name] for name in SKIN_NAMES])


def class_skins() -> np.ndarray:
    """Return (NUM_CLASSES, 2) int32: skin numbers of the front and of the other sides of every class."""
    out = np.zeros((K.NUM_CLASSES, 2), np.int32)
    for row in K.OBJECTS:
        plain = "edged" if row.volume > 0.02 else "plain"
        names = _SKIN_OF.get(row.name, (plain, plain))
        out[row.id] = [SKIN_NAMES.index(name) for name in names]
    return out


def class_tops() -> np.ndarray:
    """Return (NUM_CLASSES, 6) float32 rules of top faces: border index, patch x0, z0, x1, z1 (0-16), patch index.

    x runs along the local x axis, z towards the front; a border of one texel surrounds the face, the rest is base.
    """
    out = np.zeros((K.NUM_CLASSES, 6), np.float32)
    out[:, 0] = LIGHT
    for name, rule in _TOP_OF.items():
        out[K.BY_NAME[name].id] = rule
    return out


def pack(rgb: np.ndarray) -> np.ndarray:
    """Return colours (..., 3) in 0-255 as (...,) uint32 0x00BBGGRR."""
    value = np.clip(np.asarray(rgb), 0, 255).astype(np.uint32)
    return value[..., 0] | value[..., 1] << 8 | value[..., 2] << 16


def room_palettes(room_rgb: np.ndarray) -> np.ndarray:
    """Return (R, 2, 4) uint32 wall and floor palettes of ``room_rgb`` (R, 2, 3) uint8."""
    rgb = room_rgb.astype(np.float32)
    wall = np.stack([rgb[:, 0], rgb[:, 0] * 0.9, rgb[:, 0] * 1.07, rgb[:, 0] * 0.72], 1)
    floor = np.stack([rgb[:, 1], rgb[:, 1] * 0.88, rgb[:, 1] * 1.1, rgb[:, 1] * 0.68], 1)
    return pack(np.stack([wall, floor], 1))


def box_palettes(box_rgb: np.ndarray, box_class: np.ndarray) -> np.ndarray:
    """Return (B, 4) uint32 palettes of boxes: base, darker, lighter, and the accent of the class."""
    accents = np.array([_ACCENT.get(name, _METAL) for name in K.CLASS_NAMES], np.float32)
    rgb = box_rgb.astype(np.float32)
    return pack(np.stack([rgb, rgb * 0.7, rgb * 1.14 + 10, accents[box_class]], 1))


FIXED_PALETTES = pack(
    np.array(
        [
            [(140, 90, 50), (112, 70, 38), (160, 106, 62), (226, 196, 92)],
            [(246, 246, 244), (120, 176, 226), (172, 210, 238), (112, 158, 92)],
            [(96, 66, 42), (96, 66, 42), (96, 66, 42), (96, 66, 42)],
        ]
    )
)
"""(3, 4) uint32: door panel, window, door frame."""
CEILING_RGB = (238, 238, 234)
