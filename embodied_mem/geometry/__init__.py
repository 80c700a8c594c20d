"""Geometry leaves: pose and camera conventions (`camera`), shortest paths on grids and graphs (`paths`, `graphs`)."""

from embodied_mem.geometry.camera import (
    camera_to_world,
    heading,
    intrinsics,
    project,
    relative_pose,
    unproject,
    world_to_camera,
    wrap_angle,
)
from embodied_mem.geometry.graphs import graph_distances, graph_path
from embodied_mem.geometry.grid import Grid
from embodied_mem.geometry.paths import distance_field, field_at, grid_path

__all__ = [
    "Grid",
    "camera_to_world",
    "distance_field",
    "field_at",
    "graph_distances",
    "graph_path",
    "grid_path",
    "heading",
    "intrinsics",
    "project",
    "relative_pose",
    "unproject",
    "world_to_camera",
    "wrap_angle",
]
