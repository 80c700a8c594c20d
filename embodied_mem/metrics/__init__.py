"""Episode metrics, one file per family; names and equations as in the published protocols."""

from embodied_mem.metrics.goal_navigation import GoalEpisode, goal_nav, goal_nav_summary, path_length
from embodied_mem.metrics.multi_object import MultiObjectEpisode, multion, multion_summary

__all__ = [
    "GoalEpisode",
    "MultiObjectEpisode",
    "goal_nav",
    "goal_nav_summary",
    "multion",
    "multion_summary",
    "path_length",
]
