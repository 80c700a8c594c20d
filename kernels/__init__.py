"""Import name: embodied_mem.kernels. Triton kernels beside plain references that give the same numbers."""

from embodied_mem.kernels._dispatch import backend_for, reset_stats, stats, use_backend
from embodied_mem.kernels.ops._voxel_map import VoxelMap, clear_map, voxel_map
from embodied_mem.kernels.ops.bank_read import BankRead, bank_read
from embodied_mem.kernels.ops.bank_write import bank_write
from embodied_mem.kernels.ops.hcam_read import hcam_read
from embodied_mem.kernels.ops.map_query import Found, Hit, map_cast, map_query
from embodied_mem.kernels.ops.merge_nearest import Merged, merge_nearest, merging_set
from embodied_mem.kernels.ops.pkm_lookup import Lookup, pkm_lookup
from embodied_mem.kernels.ops.reset_linear_attention import reset_linear_attention, reset_linear_attention_at
from embodied_mem.kernels.ops.reset_scan import reset_scan
from embodied_mem.kernels.ops.similarity_readout import Readout, similarity_readout
from embodied_mem.kernels.ops.titans_step import TitansSteps, titans_step
from embodied_mem.kernels.ops.topk_similarity import Matches, topk_similarity
from embodied_mem.kernels.ops.unproject_insert import insert_voxels, map_parents, unproject_insert
from embodied_mem.kernels.ops.weighted_kmeans import Clusters, weighted_kmeans
from embodied_mem.kernels.reference._voxels import morton_decode, morton_encode

__all__ = [
    "BankRead",
    "Clusters",
    "Found",
    "Hit",
    "Lookup",
    "Matches",
    "Merged",
    "Readout",
    "TitansSteps",
    "VoxelMap",
    "backend_for",
    "bank_read",
    "bank_write",
    "clear_map",
    "hcam_read",
    "insert_voxels",
    "map_cast",
    "map_parents",
    "map_query",
    "merge_nearest",
    "merging_set",
    "morton_decode",
    "morton_encode",
    "pkm_lookup",
    "reset_linear_attention",
    "reset_linear_attention_at",
    "reset_scan",
    "reset_stats",
    "similarity_readout",
    "stats",
    "titans_step",
    "topk_similarity",
    "unproject_insert",
    "use_backend",
    "voxel_map",
    "weighted_kmeans",
]
