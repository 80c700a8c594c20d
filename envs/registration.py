"""Gymnasium ids of the built-in environments, as strings only: nothing is imported before an environment is made.

A new environment is its file plus one entry of ``ENVIRONMENTS``; the contract tests then run over it by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium

NAMESPACE = "embodied_mem"
HOME = "embodied_mem.envs"


@dataclass(frozen=True)
class Registration:
    """One environment: short id, entry points of the N=1 view and of the batched class, keyword defaults."""

    name: str
    """Short id, ``Name-vN``; the full id is ``embodied_mem/Name-vN``."""
    single: str
    """``module:Class`` of the N=1 view."""
    vector: str
    """``module:Class`` of the batched environment."""
    summary: str
    """One line for ``embodied-mem list envs``."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword defaults of both classes."""

    @property
    def id(self) -> str:
        """Full Gymnasium id."""
        return f"{NAMESPACE}/{self.name}"

    @property
    def portable_id(self) -> str:
        """Id that names the module to import, which works in a process that has not imported it (Ray actors)."""
        return f"{HOME}:{self.id}"


ENVIRONMENTS: tuple[Registration, ...] = (
    Registration(
        "TMaze-v0",
        "embodied_mem.envs.probes.tmaze:TMaze",
        "embodied_mem.envs.probes.tmaze:BatchedTMaze",
        "corridor with a cue at its start and a choice at its end; passive or active",
    ),
    Registration(
        "RepeatPrevious-v0",
        "embodied_mem.envs.probes.repeat_previous:RepeatPrevious",
        "embodied_mem.envs.probes.repeat_previous:BatchedRepeatPrevious",
        "name the suit of the card seen k-1 cards ago (POPGym's rules)",
    ),
    Registration(
        "RepeatFirst-v0",
        "embodied_mem.envs.probes.repeat_first:RepeatFirst",
        "embodied_mem.envs.probes.repeat_first:BatchedRepeatFirst",
        "name the suit of the first card at every step (POPGym's rules)",
    ),
    Registration(
        "House-HideAndRecall-v0",
        "embodied_mem.envs.house.tasks.hide_and_recall:HideAndRecall",
        "embodied_mem.envs.house.tasks.hide_and_recall:BatchedHideAndRecall",
        "an item is put into one of K containers while the agent watches; fetch it later",
    ),
    Registration(
        "House-Rewrite-v0",
        "embodied_mem.envs.house.tasks.rewrite:Rewrite",
        "embodied_mem.envs.house.tasks.rewrite:BatchedRewrite",
        "the item is moved between containers while the agent watches; only its latest place counts",
    ),
    Registration(
        "House-ObjectNav-v0",
        "embodied_mem.envs.house.tasks.object_nav:ObjectNav",
        "embodied_mem.envs.house.tasks.object_nav:BatchedObjectNav",
        "go to an object of a named class and say Done within 1.0 m, with it in view",
    ),
    Registration(
        "House-MultiObjectNav-v0",
        "embodied_mem.envs.house.tasks.multi_object_nav:MultiObjectNav",
        "embodied_mem.envs.house.tasks.multi_object_nav:BatchedMultiObjectNav",
        "several goals one after another in one house; classes recur, so a map pays",
    ),
    Registration(
        "House-Tour-v0",
        "embodied_mem.envs.house.tasks.tour:Tour",
        "embodied_mem.envs.house.tasks.tour:BatchedTour",
        "a scripted walk through a house with a ground-truth log, for questions later",
    ),
    Registration(
        "Street-v0",
        "embodied_mem.envs.street.env:Street",
        "embodied_mem.envs.street.env:BatchedStreet",
        "follow an instruction along the panoramas of a city (Touchdown, Map2Seq, a made-up town)",
    ),
)


def register_all() -> None:
    """Register every built-in environment with Gymnasium; calling it again changes nothing.

    The specs name no ``max_episode_steps``: Gymnasium would add a second time limit to the N=1 view and pass the number
    to the batched class as a keyword. Environments truncate by themselves.
    """
    for item in ENVIRONMENTS:
        if item.id not in gymnasium.registry:
            gymnasium.register(item.id, item.single, vector_entry_point=item.vector, kwargs=dict(item.kwargs))
