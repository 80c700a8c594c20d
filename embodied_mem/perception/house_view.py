"""Encoder ``house``: a small network that tells which furniture of which colour it sees, and the colour of the walls.

    image, resized to 48 x 64 --(five convolutions)--> 12 x 16 cells: class and colour of each
    pair (c, k)   1 - exp(-sum over cells of P(c) P(k) / 3): how much of a thing of this colour is in view
    walls         softmax over their colours, of the room the camera is in

It was trained from scratch on painted houses of the built-in simulator, supervised by the simulator's instance ids
(`embodied_mem.experiments.house_view`); the weights come with the package. Its text side is the vocabulary of
`house_words`: a concept bottleneck, where every number of a token has a name.

Limits: 15 kinds of furniture, 8 colours each, as the built-in houses draw them; it knows nothing of other pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import Encoder
from embodied_mem.perception.house_words import COLOURS, THINGS, WALLS, WIDTH, concepts_of
from embodied_mem.registry import register

HEIGHT, WIDE = 48, 64
"""Pixels the network reads."""
CELLS = (HEIGHT // 4, WIDE // 4)
WALL_CELL, OTHER_CELL = len(THINGS), len(THINGS) + 1
"""Classes of cells beside the things."""
_AREA = 3.0
WEIGHTS = Path(__file__).parent / "weights" / "house_view.safetensors"


@dataclass(frozen=True)
class HouseViewConfig:
    """Options of the encoder ``house``."""

    weights: str | None = None
    """File of other weights (safetensors); None for those of the package."""


class HouseViewNet(nn.Module):
    """The network: images (N, 3, 48, 64) float32 in 0..1 to maps and tokens."""

    def __init__(self) -> None:
        """Make the layers, with fresh weights."""
        super().__init__()

        def block(inner: int, outer: int, size: int, stride: int = 1, apart: int = 1) -> nn.Sequential:
            pad = apart * (size // 2)
            layer = nn.Conv2d(inner, outer, size, stride, pad, dilation=apart, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(outer), nn.ReLU())

        self.body = nn.Sequential(
            block(3, 24, 5, 2), block(24, 40, 3, 2), block(40, 64, 3), block(64, 64, 3, 1, 2), block(64, 64, 3, 1, 4)
        )
        self.scene = nn.Linear(64, 64)
        self.kind = nn.Conv2d(64, len(THINGS) + 2, 1)
        self.colour = nn.Conv2d(64, len(COLOURS), 1)
        self.walls = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, len(WALLS)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of kinds (N, 17, 12, 16), colours (N, 8, 12, 16) and walls (N, 8)."""
        f = self.body(x)
        mean = f.mean((2, 3))
        f = F.relu(f + self.scene(mean)[:, :, None, None])
        kind = self.kind(f)
        on_wall = kind.softmax(1)[:, WALL_CELL : WALL_CELL + 1]
        near = (f * on_wall).sum((2, 3)) / (on_wall.sum((2, 3)) + 1.0)
        return kind, self.colour(f), self.walls(torch.cat([mean, near], 1))

    @staticmethod
    def amounts(kind: Tensor, colour: Tensor) -> Tensor:
        """Return (N, 120) how much of every pair is in view, 0..1, from the logits of kinds and colours."""
        things = kind.softmax(1)[:, : len(THINGS)].flatten(2)
        cells = torch.einsum("ncp,nkp->nck", things, colour.softmax(1).flatten(2))
        return 1 - torch.exp(-cells.flatten(1) / _AREA)

    def tokens(self, x: Tensor) -> Tensor:
        """Return (N, 128) float32."""
        kind, colour, walls = self(x)
        return torch.cat([self.amounts(kind, colour), walls.softmax(1)], 1)


@register("encoder", "house", about="furniture, colours and walls of the built-in houses, with shipped weights")
class HouseEncoder(Encoder):
    """Images (N, H, W, 3) uint8 to concepts (N, 128)."""

    Config = HouseViewConfig
    out_dim = WIDTH

    def __init__(self, config: HouseViewConfig, space: spaces.Box) -> None:
        """Load the weights.

        Raises:
            UsageError: the space is no RGB image, or there are no such weights.
        """
        super().__init__()
        if len(space.shape) != 3 or space.shape[2] != 3 or space.dtype != np.uint8:
            raise UsageError(f"expected RGB images (H, W, 3) uint8, got {space.shape} {space.dtype}")
        self.net = load_net(config.weights)

    def forward(self, x: Tensor) -> Tensor:
        """Return concepts (N, 128) float32."""
        images = x.permute(0, 3, 1, 2).float() / 255
        if images.shape[2:] != (HEIGHT, WIDE):
            images = F.interpolate(images, (HEIGHT, WIDE), mode="area")
        return self.net.tokens(images)

    @staticmethod
    def embed_text(text: str) -> np.ndarray:
        """Return (128,) float32: the concepts that a text names."""
        return concepts_of(text)


def load_net(path: str | Path | None = None) -> HouseViewNet:
    """Return the network with the weights of a file, ready to be used.

    Raises:
        UsageError: there is no such file.
    """
    from safetensors.torch import load_file

    file = Path(path) if path is not None else WEIGHTS
    if not file.is_file():
        raise UsageError(f"expected weights of the encoder house in {file}, found nothing there")
    net = HouseViewNet()
    net.load_state_dict(load_file(file))
    return net.eval()
