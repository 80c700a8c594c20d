"""Spatial memories: maps of voxels and grid cells as registered memories, and the parts that navigation is built from.

`voxel_map` and `grid_map` are registered. `octree`, `topology`, `long_term`, `short_term`, `mem4nav`, `brainnav` and
`place_recognition` are components without the row-per-environment contract or beside it.
"""
