"""Episode metrics, one file per family; names and equations as in the published protocols."""

from embodied_mem.metrics.goal_navigation import GoalEpisode, goal_nav, goal_nav_summary, path_length
from embodied_mem.metrics.multi_object import MultiObjectEpisode, multion, multion_summary
from embodied_mem.metrics.rearrangement import ObjectState, energy, rearrangement
from embodied_mem.metrics.sequences import dtw, edit_distance
from embodied_mem.metrics.street import EdgeGraph, street
from embodied_mem.metrics.vln import oracle_spl, vln, vln_continuous, vln_graph

__all__ = [
    "EdgeGraph",
    "GoalEpisode",
    "MultiObjectEpisode",
    "ObjectState",
    "dtw",
    "edit_distance",
    "energy",
    "goal_nav",
    "goal_nav_summary",
    "multion",
    "multion_summary",
    "oracle_spl",
    "path_length",
    "rearrangement",
    "street",
    "vln",
    "vln_continuous",
    "vln_graph",
]
