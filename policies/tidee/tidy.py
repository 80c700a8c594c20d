"""The tidy task: in a house with displaced objects, find them, decide where they belong, find it and put them there.

The agent stands in the room of the first object and knows the rooms it has been in. For every object that it holds to
be out of place it ranks receptacle classes, goes to the nearest known receptacle of the best class, and where it knows
none it visits the places that the search network names (a visit makes the room of the place known). Carrying and
placing are done on boxes, walking is the geodesic over free floor; pictures play no part. Ablations, as in the paper:
no memory graph (pass networks that were trained with ``use_memory=False``), ``random_receptacle`` and ``no_search``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.batch import HouseWorld
from embodied_mem.envs.house.library import PlanLibrary
from embodied_mem.envs.house.plan import HousePlan
from embodied_mem.errors import UsageError
from embodied_mem.geometry.paths import distance_field, field_at
from embodied_mem.metrics.rearrangement import ObjectState, rearrangement
from embodied_mem.policies.tidee.scene import Scene, displace, scene_of
from embodied_mem.policies.tidee.search import goals
from embodied_mem.policies.tidee.training import Tidee, points_of, semantic_map


@dataclass(frozen=True)
class TidyConfig:
    """Rules of the task and of the agent."""

    moved: int = 5
    """Objects displaced."""
    threshold: float = 0.6
    """Score from which an object counts as out of place."""
    visits: int = 6
    """Most places visited in search of one receptacle class."""
    random_receptacle: bool = False
    """Ablation: any receptacle class instead of the proposed one."""
    no_search: bool = False
    """Ablation: places are visited in random order."""


class _House:
    """Walks of one plan."""

    def __init__(self, plan: HousePlan) -> None:
        library = PlanLibrary()
        self.world = HouseWorld(1, library)
        self.plan_id = library.add(plan)
        self.grid = self.world.free_grid(self.plan_id)
        self.free = self.world.free_positions(self.plan_id)

    def near(self, xz: np.ndarray) -> np.ndarray:
        """Return (2,) the free place nearest to a point."""
        return self.free[np.argmin(((self.free - xz) ** 2).sum(axis=1))]

    def walk(self, start: np.ndarray, end: np.ndarray) -> float:
        """Return the geodesic metres between two free places; the straight line where there is no way."""
        field = distance_field(self.grid, self.grid.cells_of(end)[None])
        metres = float(field_at(field, self.grid, start[None])[0])
        return metres if np.isfinite(metres) else float(np.hypot(*(end - start)))


def tidy(plan: HousePlan, tidee: Tidee, config: TidyConfig, seed: int) -> dict[str, Any]:
    """Play one episode and return its scores.

    Returns:
        ``found``: share of the displaced objects that were noticed; ``precision``: share of the noticed that were
        displaced; ``placed_right``: share of the displaced that end on their own receptacle class; ``walked`` metres;
        ``visits``; and the metrics of `metrics.rearrangement` against the exact tidy poses.

    Raises:
        UsageError: the house has nothing to displace.
    """
    tidy_scene, generator = scene_of(plan), np.random.default_rng(seed)
    scene, moved = displace(tidy_scene, config.moved, generator)
    if not len(moved):
        raise UsageError(f"house {plan.name!r} has no object that lies on a receptacle")
    start, house = scene, _House(plan)
    score = tidee.out_of_place(scene)
    carried = (scene.flags & K.PICKUPABLE) != 0
    suspects = np.flatnonzero(carried & (score > config.threshold))
    suspects = suspects[np.argsort(-score[suspects], kind="stable")]
    rooms = _rooms(plan, scene)
    here = house.near(scene.place[suspects[0] if len(suspects) else moved[0]][[0, 2]])
    known, walked, visits = np.zeros(plan.num_rooms, np.bool_), 0.0, 0
    for item in suspects.tolist():
        there = house.near(scene.place[item][[0, 2]])
        walked, here = walked + house.walk(here, there), there
        known[_rooms(plan, scene)[item]] = True
        order = _ranking(tidee, scene, item, config, generator)
        holder, here, more, went = _find(house, tidee, scene, rooms, known, order, here, config, generator)
        walked, visits = walked + more, visits + went
        if holder is not None:
            scene = _put(scene, item, holder)
    right = [scene.label(int(item)) == tidy_scene.label(int(item)) for item in moved]
    noticed = np.isin(moved, suspects)
    ends = rearrangement(*(_states(each) for each in (tidy_scene, start, scene)))
    return {
        "found": float(noticed.mean()),
        "precision": float(np.isin(suspects, moved).mean()) if len(suspects) else 1.0,
        "placed_right": float(np.mean(right)),
        "walked": walked,
        "visits": visits,
        **ends,
    }


def _ranking(tidee: Tidee, scene: Scene, item: int, config: TidyConfig, generator: np.random.Generator) -> np.ndarray:
    """Return receptacle classes, best first."""
    if config.random_receptacle:
        return generator.permutation(np.unique(scene.kind[(scene.flags & K.RECEPTACLE) != 0]))
    return np.argsort(-tidee.receptacles(scene, [item])[0], kind="stable")[:5]


def _find(
    house: _House,
    tidee: Tidee,
    scene: Scene,
    rooms: np.ndarray,
    known: np.ndarray,
    order: np.ndarray,
    here: np.ndarray,
    config: TidyConfig,
    generator: np.random.Generator,
) -> tuple[int | None, np.ndarray, float, int]:
    """Return the receptacle found, where the agent stands then, the metres walked and the visits; ``known`` grows."""
    walked, visits = 0.0, 0
    bearers = np.flatnonzero((scene.flags & K.RECEPTACLE) != 0)
    for attempt in range(config.visits + 1):
        seen = bearers[known[rooms[bearers]]]
        # Before the search the best class alone will do; after it, the best of those that are known.
        wanted = order[:1] if attempt < config.visits and not known.all() else order
        for kind in wanted.tolist():
            matches = seen[scene.kind[seen] == kind]
            if len(matches):
                holder = int(matches[np.argmin(((scene.place[matches][:, [0, 2]] - here) ** 2).sum(axis=1))])
                there = house.near(scene.place[holder][[0, 2]])
                return holder, there, walked + house.walk(here, there), visits
        if known.all() or attempt == config.visits:
            break
        there = _next(house, tidee, scene, rooms, known, int(order[0]), config, generator)
        walked, here, visits = walked + house.walk(here, there), there, visits + 1
        known[_room_at(house, there)] = True
    return None, here, walked, visits


def _next(
    house: _House,
    tidee: Tidee,
    scene: Scene,
    rooms: np.ndarray,
    known: np.ndarray,
    kind: int,
    config: TidyConfig,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return (2,) the free place to visit next, in a room that is not known yet."""
    labels = np.array([_room_at(house, place) for place in house.free])
    fresh = house.free[~known[labels]]
    if not len(fresh):
        known[:] = True
        return house.free[0]
    if config.no_search:
        return fresh[int(generator.integers(len(fresh)))]
    seen = known[rooms] & (scene.kind != kind)
    named = points_of(scene, goals(tidee.places(semantic_map(scene, seen, tidee.config.classes), kind), 40, 2).numpy())
    for point in named:
        nearest = fresh[np.argmin(((fresh - point) ** 2).sum(axis=1))]
        if np.hypot(*(nearest - point)) < 1.0:
            return nearest
    return fresh[np.argmin(((fresh - named[0]) ** 2).sum(axis=1))]


def _room_at(house: _House, xz: np.ndarray) -> int:
    from embodied_mem.envs.house import physics

    return max(0, int(physics.find_room(house.world.plans, house.plan_id, float(xz[0]), float(xz[1]), 0)))


def _rooms(plan: HousePlan, scene: Scene) -> np.ndarray:
    """Return (O,) int64 the room (not its type) that each object lies in."""
    from embodied_mem.envs.house.check import inside

    points, out = scene.place[:, [0, 2]], np.zeros(len(scene), np.int64)
    for room in range(plan.num_rooms):
        out[inside(plan.room_polygon(room), points)] = room
    return out


def _put(scene: Scene, item: int, holder: int) -> Scene:
    """Return the scene with an object laid on the middle of a receptacle."""
    place, holders = scene.place.copy(), scene.holder.copy()
    place[item] = scene.place[holder]
    place[item, 1] += 0.5 * (scene.size[holder, 1] + scene.size[item, 1])
    holders[item] = holder
    return replace(scene, place=place, holder=holders)


def _states(scene: Scene) -> list[ObjectState]:
    carried = np.flatnonzero((scene.flags & K.PICKUPABLE) != 0)
    return [
        ObjectState(tuple(scene.place[k].tolist()), tuple(scene.size[k].tolist()), float(np.degrees(scene.yaw[k])))
        for k in carried
    ]
