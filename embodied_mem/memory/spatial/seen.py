"""Which points of space a step's inputs show: a grid of depth pixels, or the place of the camera itself.

Conventions are those of `embodied_mem.perception.unproject`. Places are computed in float64: which cell a point falls
into is a decision, and it must not depend on the device, the form or the dtype of the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import MemoryConfig, MemoryInput
from embodied_mem.perception.unproject import points_from_depth, unproject

__all__ = ["Seen", "SeenConfig", "needs_of", "sample_extras", "seen_points", "sparse_depth"]

# Size of the random image that `sample_extras` draws, at least; metres that its camera wanders.
_SAMPLE_SIZE = 8
_SAMPLE_WALK = 0.4


@dataclass(frozen=True)
class SeenConfig(MemoryConfig):
    """What a map is written from."""

    source: Literal["depth", "pose"] = "depth"
    """Write at the points that depth shows (needs depth, pose, intrinsics), or at the camera's own place (pose)."""
    rows: int = 4
    """Depth pixels that are read per image column, evenly spread."""
    columns: int = 4
    """Depth pixels that are read per image row."""
    max_depth: float = 10.0
    """Farther points are left out, metres."""
    token_dim: int = 0
    """Width of patch tokens, one per point in the order of rows; 0: points get the features of the step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rows < 1 or self.columns < 1:
            raise UsageError(f"expected rows >= 1 and columns >= 1, got {self.rows} and {self.columns}")
        if self.max_depth <= 0:
            raise UsageError(f"expected max_depth > 0 metres, got {self.max_depth}")
        if self.token_dim < 0:
            raise UsageError(f"expected token_dim >= 0, got {self.token_dim}")
        if self.token_dim and self.source == "pose":
            raise UsageError("expected token_dim = 0 with source='pose', which writes at one place per step")

    @property
    def points(self) -> int:
        """Points P of a step."""
        return self.rows * self.columns if self.source == "depth" else 1


class Seen(NamedTuple):
    """The points of a step (or of every step of a sequence)."""

    world: Tensor
    """(..., P, 3) float64 metres in the frame of the pose."""
    local: Tensor
    """(..., P, 3) float64 metres in the camera's frame: right, down, forward."""
    real: Tensor
    """(..., P) bool, False where the depth is missing or too far."""


def needs_of(config: SeenConfig) -> frozenset[str]:
    """Return what a memory with this config needs besides x."""
    if config.source == "pose":
        return frozenset({"pose"})
    return frozenset({"depth", "pose", "intrinsics"} | ({"tokens"} if config.token_dim else set()))


def sparse_depth(depth: Tensor, intrinsics: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return every k-th pixel, depth (..., rows, columns), and the intrinsics (..., 4) of that smaller image.

    Raises:
        UsageError: the image has fewer pixels than asked for.
    """
    H, W = depth.shape[-2:]
    if H < rows or W < columns:
        raise UsageError(f"expected depth of at least {rows} x {columns} pixels, got {H} x {W}; lower rows or columns")
    steps = torch.tensor([W // columns, H // rows], dtype=intrinsics.dtype, device=intrinsics.device)
    starts = steps.div(2, rounding_mode="floor")
    small = depth[..., (H // rows) // 2 :: H // rows, (W // columns) // 2 :: W // columns][..., :rows, :columns]
    centre = (intrinsics[..., 2:] - starts - 0.5) / steps + 0.5
    return small, torch.cat([intrinsics[..., :2] / steps, centre], -1)


def seen_points(inputs: MemoryInput, config: SeenConfig) -> Seen:
    """Return the points that ``inputs`` (n, ...) or (n, T, ...) show.

    Raises:
        UsageError: the axes of depth, pose and intrinsics do not fit, or the image is too small.
    """
    assert inputs.pose is not None
    if inputs.pose.shape != (*inputs.x.shape[:-1], 5):
        raise UsageError(f"expected pose of shape {(*inputs.x.shape[:-1], 5)}, got {tuple(inputs.pose.shape)}")
    pose = inputs.pose.double()
    if config.source == "pose":
        world = pose[..., None, :3]
        return Seen(world, torch.zeros_like(world), torch.isfinite(world).all(-1))
    assert inputs.depth is not None and inputs.intrinsics is not None
    depth, intrinsics = sparse_depth(inputs.depth.double(), inputs.intrinsics.double(), config.rows, config.columns)
    world, real = points_from_depth(depth, intrinsics, pose, config.max_depth)
    local = unproject(torch.where(real.unflatten(-1, depth.shape[-2:]), depth, 0.0), intrinsics).flatten(-3, -2)
    return Seen(world, local, real)


def sample_extras(config: SeenConfig, n: int, T: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return random depth, poses of a short walk, intrinsics and tokens, as far as the config needs them."""
    walk = torch.randn(n, T, 5, generator=generator) * torch.tensor([_SAMPLE_WALK, 0.1, _SAMPLE_WALK, 1.0, 0.1])
    found = {"pose": walk}
    if config.source == "depth":
        H, W = max(config.rows, _SAMPLE_SIZE), max(config.columns, _SAMPLE_SIZE)
        found["depth"] = 0.5 + 1.5 * torch.rand(n, T, H, W, generator=generator)
        found["intrinsics"] = torch.tensor([W / 2, W / 2, W / 2, H / 2]).expand(n, T, 4).clone()
    if config.token_dim:
        found["tokens"] = torch.randn(n, T, config.points, config.token_dim, generator=generator)
    return found
