"""Follow an instruction along the panoramas of a city (Touchdown, Chen et al. 2019; Map2Seq, Schumann & Riezler 2022).

A state is a panorama and a heading in whole degrees. Two published rules of motion: "touchdown" (forward, left, right,
stop; every turn goes to the next link) and "velma" (also turn_around; straight on follows the street, junctions are
turned as a person would say it; Schumann et al. 2024). An episode ends with stop, or after ``max_actions`` actions,
turns included; it counts as a success where it ends on the last panorama of the route or next to it.

Without options the environment plays synthetic instructions in a made-up town, which needs no data.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from embodied_mem.envs import rng
from embodied_mem.envs.base import BatchedEnv, SingleEnv
from embodied_mem.envs.street import sensors as sensing
from embodied_mem.envs.street.episodes import ACTIONS
from embodied_mem.envs.street.indoor import IndoorGraph
from embodied_mem.envs.street.landmarks import place_landmarks
from embodied_mem.envs.street.panoramas import Panoramas
from embodied_mem.envs.street.source import STYLES, find_source
from embodied_mem.errors import UsageError, nearest
from embodied_mem.geometry.hops import HopArrays
from embodied_mem.metrics.street import street
from embodied_mem.metrics.vln import vln_graph
from embodied_mem.spaces import encode_text

SEMANTICS = {"touchdown": ACTIONS[:4], "velma": ACTIONS, "indoor": ACTIONS[:4]}
_CODES = {name: code for code, name in enumerate(SEMANTICS)}
ORDERS = ("drawn", "listed")
_ITEM_STREAM = 0
_NO_HOPS = HopArrays(
    np.zeros((1, 2), np.int32), np.zeros((1, 2), np.int32), np.zeros(1, np.int32), np.zeros((1, 1), np.int32)
)


class BatchedStreet(BatchedEnv):
    """N walks through one graph.

    Attributes:
        graph: panoramas and links.
        data: the episodes that are drawn from or listed.
        items: how many they are.
        actions: names of the actions, in the order of their numbers.
        world: state and history of all rows (`_kernels.World`).
    """

    fresh = True

    def __init__(
        self,
        num_envs: int = 1,
        *,
        data: str = "synthetic",
        split: str | None = None,
        graph: str | None = None,
        style: str | None = None,
        semantics: str | None = None,
        max_actions: int | None = None,
        order: str = "drawn",
        sensors: Sequence[str] = ("vector", "instruction"),
        instruction_length: int = 2304,
        max_links: int = 5,
        shaping: float = 0.0,
        items: int = 500,
        world_seed: int = 0,
        language: str = "plain",
        panoramas: str | Path | None = None,
        connectivity: str | Path | None = None,
        record: bool = False,
        **kwargs: Any,
    ) -> None:
        """Load graph and episodes.

        Args:
            num_envs: N.
            data: "synthetic" (generated instructions), "touchdown", "map2seq", or a file of instructions or of
                recorded rollouts (see `episodes`).
            split: "dev_unseen" or "dev_seen" of touchdown and map2seq (default dev_unseen); "train" (the seen area)
                or "test" (the unseen one) of synthetic data (default train).
            graph: "town" or "touchdown"; default: the town for synthetic data, else touchdown.
            style: "touchdown" or "map2seq": how synthetic routes look, and whether "velma" begins with a forward of its
                own (map2seq); default: as ``data``, else map2seq for synthetic data and touchdown for files.
            semantics: "touchdown", "velma" or "indoor" (touchdown without a border); default: touchdown, but indoor
                with ``connectivity``.
            max_actions: actions until an episode is cut; default 55, and all of them for recorded rollouts.
            order: "drawn": every episode draws an item by its key; "listed": episode e plays item e, from the top
                again after the last.
            sensors: entries of the observation, see `sensors`.
            instruction_length: bytes of ``instruction``; a longer text is an error.
            max_links: links that ``vector`` can hold.
            shaping: reward per hop gained towards the goal, beside 1 for success at the end.
            items: synthetic episodes to generate.
            world_seed: of the town, the landmark layer and the synthetic episodes.
            language: of synthetic instructions: "plain" templates, or "varied" as people put it (see `phrasing`).
            connectivity: folder of connectivity files; ``data`` is then a file of R2R or RxR episodes (see `indoor`).
            panoramas: features that ``panorama`` shows, see `panoramas`.
            record: put every street metric (indoors: those of `metrics.vln`) and the states into the final info.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range, or data are missing or malformed.
        """
        if semantics is None:
            semantics = "touchdown" if connectivity is None else "indoor"
        if semantics not in SEMANTICS:
            raise UsageError(
                f"unknown semantics {semantics!r}{nearest(str(semantics), SEMANTICS)}; known: {[*SEMANTICS]}"
            )
        if order not in ORDERS:
            raise UsageError(f"expected order to be one of {ORDERS}, got {order!r}")
        for name, value, least in (("max_actions", max_actions, 1), ("items", items, 1), ("max_links", max_links, 1)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise UsageError(f"expected {name} >= {least} (int), got {value!r}")
        if style is not None and style not in STYLES:
            raise UsageError(f"expected style to be one of {STYLES}, got {style!r}")
        source = find_source(
            data,
            split=split,
            graph=graph,
            style=style,
            items=items,
            seed=world_seed,
            connectivity=connectivity,
            language=language,
        )
        self.graph, self.data, self.style = source.graph, source.episodes, source.style
        self.semantics, self.actions = semantics, SEMANTICS[semantics]
        self.order, self.record, self.shaping = order, bool(record), float(shaping)
        self.instruction_length, self.max_links = int(instruction_length), int(max_links)
        self._set_sensors(tuple(sensors), panoramas, world_seed)
        self._limits = self._find_limits(max_actions)
        self._check_recorded()
        self.single_observation_space = spaces.Dict({name: sensing.space_of(self, name) for name in self.sensors})
        self.single_action_space = spaces.Discrete(len(self.actions))
        super().__init__(num_envs, **kwargs)
        self.items = len(self.data)
        self._texts = self._encode_texts() if "instruction" in self.sensors else None
        self._make_world()

    def _set_sensors(self, chosen: tuple[str, ...], panoramas: str | Path | None, seed: int) -> None:
        for name in chosen:
            if name not in sensing.SENSORS:
                known = ", ".join(sensing.SENSORS)
                raise UsageError(f"unknown sensor {name!r}{nearest(str(name), sensing.SENSORS)}; available: {known}")
        if not chosen or len(set(chosen)) != len(chosen):
            raise UsageError(f"expected different sensors, at least one, got {chosen}")
        if ("panorama" in chosen) != (panoramas is not None):
            raise UsageError("expected the sensor 'panorama' together with the option panoramas=PATH, got one of them")
        self.sensors = chosen
        wants_layer = {"landmarks", "text_obs"} & set(chosen)
        self.landmarks = place_landmarks(self.graph, seed) if wants_layer else None
        self.panoramas = None if panoramas is None else Panoramas(panoramas, self.graph)

    def _find_limits(self, max_actions: int | None) -> np.ndarray:
        recorded = self.data.recorded_length
        if recorded is None:
            return np.full(len(self.data), 55 if max_actions is None else max_actions, np.int32)
        return recorded if max_actions is None else np.minimum(recorded, max_actions).astype(np.int32)

    def _check_recorded(self) -> None:
        recorded = self.data.actions
        if recorded is not None and recorded.max() >= len(self.actions):
            item = int(np.argmax(recorded.max(axis=1) >= len(self.actions)))
            name = ACTIONS[int(recorded[item].max())]
            raise UsageError(
                f"episode {self.data.ids[item]!r} records the action {name!r}, which semantics {self.semantics!r} lacks"
            )

    def _encode_texts(self) -> np.ndarray:
        longest = max(len(text.encode()) for text in self.data.texts)
        if longest > self.instruction_length:
            raise UsageError(
                f"expected instruction_length >= {longest}, the longest text, got {self.instruction_length}"
            )
        return np.stack([encode_text(text, self.instruction_length) for text in self.data.texts])

    def _make_world(self) -> None:
        from embodied_mem.envs.street._kernels import World

        n, history = self.num_envs, int(self._limits.max()) + 3
        zeros = [np.zeros(n, np.int32) for _ in range(10)]
        self.world = World(
            pano=zeros[0],
            heading=zeros[1],
            before=zeros[2],
            turned=zeros[3],
            last=zeros[4],
            step=zeros[5],
            stopped=np.zeros(n, bool),
            path=np.zeros((n, history), np.int32),
            length=zeros[6],
            states=np.zeros((n, history, 2), np.int32),
            noted=zeros[7],
            goal=zeros[8],
            limit=zeros[9],
        )
        self.item = np.zeros(n, np.int64)
        self.origin = np.zeros((n, 5))
        self.instruction = np.zeros((n, self.instruction_length if self._texts is not None else 0), np.uint8)
        self._ended = np.zeros(n, bool)

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        from embodied_mem.envs.street import _kernels

        if self.order == "listed":
            items = self.episodes[rows] % len(self.data)
        else:
            items = rng.integers(keys, _ITEM_STREAM, 0, len(self.data))
        world, data = self.world, self.data
        pano, heading = data.start[items], data.heading[items]
        if self.semantics == "velma":
            links = [_kernels.nearest_link(self.graph.arrays, p, h) for p, h in zip(pano.tolist(), heading.tolist())]
            heading = np.where(np.array(links) < 0, heading, self.graph.arrays.heading[links])
        self.item[rows] = items
        world.pano[rows], world.heading[rows] = pano, heading
        world.before[rows], world.last[rows] = -1, -1
        world.turned[rows], world.step[rows], world.stopped[rows] = 0, 0, False
        world.path[rows, 0], world.length[rows] = pano, 1
        world.states[rows, 0, 0], world.states[rows, 0, 1], world.noted[rows] = pano, heading, 1
        world.goal[rows] = data.route[items, data.length[items] - 1]
        world.limit[rows] = self._limits[items]
        if self.semantics == "velma" and self.style == "map2seq" and data.actions is None:
            _kernels.force_forward(self.graph.arrays, world, _kernels.VELMA, rows)
        if "pose" in self.sensors:
            self.origin[rows] = sensing.pose(self, pano, heading)
        if self._texts is not None:
            # A new array instead of a change: what was returned before stays the caller's.
            self.instruction = self.instruction.copy()
            self.instruction[rows] = self._texts[items]

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from embodied_mem.envs.street import _kernels

        n = self.num_envs
        reward, terminated, truncated = np.empty(n, np.float32), np.empty(n, bool), np.empty(n, bool)
        _kernels.advance(
            self.graph.arrays,
            self.world,
            self.graph.hop_arrays if self.shaping else _NO_HOPS,
            self.shaping,
            _CODES[self.semantics],
            actions.astype(np.int64, copy=False),
            active,
            reward,
            terminated,
            truncated,
        )
        self._ended = terminated | truncated
        return reward, terminated, truncated

    def _observe(self) -> dict[str, np.ndarray]:
        return {name: sensing.read(self, name) for name in self.sensors}

    def _final_info(self) -> dict[str, np.ndarray]:
        from embodied_mem.envs.street import _kernels

        world = self.world
        info = {
            "success": _kernels.successes(self.graph.arrays, world, self._ended),
            "stopped": world.stopped.copy(),
            "actions": world.step.copy(),
            "panoramas": world.length.copy(),
        }
        return {**info, **self._record(np.flatnonzero(self._ended))} if self.record else info

    def _record(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return every metric, (N,) float64 with NaN where undefined, and ids and states, (N,) object."""
        found: dict[str, np.ndarray] = {}
        for name in ("id", "states"):
            found[name] = np.full(self.num_envs, None, dtype=object)
        for row in rows.tolist():
            item, world = int(self.item[row]), self.world
            found["id"][row] = self.data.ids[item]
            found["states"][row] = self._states(row)
            path = world.path[row, : world.length[row]].astype(np.int64)
            route = self.data.route[item, : self.data.length[item]].astype(np.int64)
            for name, value in self._metrics(path, route, bool(world.stopped[row])).items():
                values = found.setdefault(name, np.full(self.num_envs, np.nan))
                values[row] = np.nan if value is None else value
        return found

    def _metrics(self, path: np.ndarray, route: np.ndarray, stopped: bool) -> dict[str, float | None]:
        if isinstance(self.graph, IndoorGraph):
            return vln_graph(self.graph.positions, self.graph.edges, path, route, stopped=stopped)
        return street(path, route, self.graph)

    def _states(self, row: int) -> list[list[Any]]:
        states = self.world.states[row, : self.world.noted[row]].tolist()
        return [[self.graph.names[pano], heading] for pano, heading in states]

    def teacher(self, routes: np.ndarray | None = None, lengths: np.ndarray | None = None) -> np.ndarray:
        """Return the action (N,) int64 that keeps to a route, -1 off it.

        Args:
            routes: (N, L) int32 panoramas padded with -1; default: the annotated ones.
            lengths: (N,) int32 panoramas of each.
        """
        from embodied_mem.envs.street import _kernels

        if routes is None or lengths is None:
            routes, lengths = self.data.route[self.item], self.data.length[self.item]
        out = np.empty(self.num_envs, np.int64)
        _kernels.teach(self.graph.arrays, self.world, _CODES[self.semantics], routes, lengths, out)
        return out

    def privileged(self) -> dict[str, np.ndarray]:
        """Return state, goal, teacher and recorded action of every row, (N, ...) arrays.

        ``street_pano``, ``street_goal``, ``street_before`` int32 panorama numbers; ``street_heading`` int32 degrees;
        ``street_degree`` links of the panorama; ``street_step``, ``street_visited`` int32 counts of actions and of
        panoramas on the path; ``street_position`` (N, 2) float64 metres east and north; ``street_teacher`` int64
        action, -1 off the route; ``street_recorded`` int64 recorded action, -1 where there is none;
        ``street_reached`` bool, at the goal or next to it.
        """
        from embodied_mem.envs.street import _kernels

        world = self.world
        recorded = np.full(self.num_envs, -1, np.int64)
        if self.data.actions is not None:
            place = np.minimum(world.step, self.data.actions.shape[1] - 1)
            recorded = self.data.actions[self.item, place]
        return {
            "street_pano": world.pano.copy(),
            "street_heading": world.heading.copy(),
            "street_before": world.before.copy(),
            "street_goal": world.goal.copy(),
            "street_degree": self.graph.out_degree[world.pano],
            "street_step": world.step.copy(),
            "street_visited": world.length.copy(),
            "street_position": self.graph.xz[world.pano],
            "street_teacher": self.teacher(),
            "street_recorded": recorded,
            "street_reached": _kernels.successes(self.graph.arrays, world, np.ones(self.num_envs, bool)),
        }

    def describe(self, row: int) -> dict[str, Any]:
        """Return the route and its instruction, and the longest step that is no jump on a map, metres."""
        item = int(self.item[row])
        route = self.data.route[item, : self.data.length[item]]
        return {
            "name": f"route {self.data.ids[item]}",
            "instruction": self.data.texts[item],
            "route": self.graph.xz[route].round(1).tolist(),
            "jump": 150.0,
        }

    def trace(self, row: int) -> dict[str, Any]:
        """Return where the row stands: metres east and north, degrees, and what it sees in words."""
        world = self.world
        x, z = self.graph.xz[world.pano[row]].round(2).tolist()
        return {
            "xz": [x, z],
            "yaw": float(np.radians(world.heading[row])),
            "heading": int(world.heading[row]),
            "panorama": self.graph.names[world.pano[row]],
            "text": sensing.describe_row(self, row),
        }


class Street(SingleEnv):
    """N=1 view of `BatchedStreet`."""

    batched = BatchedStreet
