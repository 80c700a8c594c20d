"""What the House map agent remembers beside its octree: places as a graph, things in short- and long-term memory.

The parts are those of Mem4Nav (arXiv 2506.19433), batched over rows except for the long-term memory. An observation of
a thing is the code of its class, a fixed random unit vector; that of a place is the sum of the codes in view, near
things weighing more. A place is new a metre from every other, or where it looks different; a way back closes a loop.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from embodied_mem.envs.house.classes import FIRST_OBJECT, NUM_CLASSES
from embodied_mem.memory.spatial import morton
from embodied_mem.memory.spatial.long_term import LongTermMemory
from embodied_mem.memory.spatial.octree import Octree
from embodied_mem.memory.spatial.planning import a_star
from embodied_mem.memory.spatial.short_term import ShortTermMemory
from embodied_mem.memory.spatial.topology import TopologyConfig, TopologyGraph
from embodied_mem.memory.spatial.voxel_queries import ray
from embodied_mem.memory.state import select

__all__ = ["Landmarks", "Recall"]

DIM = 64
LEAF, TAU = 1.0, 0.7
"""Side of the octree leaf that a thing is filed under, metres; cosine from which an answer counts."""
SEEN = 0.5
"""Metres before a thing at which a line of sight to it may end: its own leaves."""
_DEPTH = 8
HEIGHT = torch.tensor([0.0, -0.75, 0.0])
"""From the camera's height to that of the scan's walls in the octree."""

State = dict[str, Any]


class Recall(NamedTuple):
    """What was found about a class, best first."""

    source: str
    """ "short", "long" or "none"."""
    places: np.ndarray
    """(m, 2) x, z metres."""
    cosines: np.ndarray
    """(m,) similarity to what was asked for."""


class Landmarks:
    """Rules; all that is remembered is in the state, a dict with rows first."""

    def __init__(self, nodes: int = 64, entries: int = 32, seed: int = 0) -> None:
        """Set sizes; codes and the reversible map are drawn from ``seed``."""
        self.graph = TopologyGraph(TopologyConfig(dim=DIM, nodes=nodes, delta=0.8, radius=1.0))
        self.short = ShortTermMemory(DIM, entries=entries, eps=3.0)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.codes = F.normalize(torch.randn(NUM_CLASSES, DIM), dim=1)
            # one small block: the map is a bijection whatever its size, and nothing is trained
            self._empty = LongTermMemory(
                DIM, capacity=256, chain=4, place_scale=30.0, blocks=1, heads=1, pieces=2, expand=1
            )

    def initial_state(self, n: int) -> State:
        """Return empty memories of ``n`` rows; ``long`` is an array of objects, copied before they are written."""
        long = np.empty(n, object)
        long[:] = [self._empty] * n
        graph, short = self.graph.initial_state(n), self.short.initial_state(n)
        return {"graph": graph, "short": short, "long": long}

    def visit(self, place: np.ndarray, scan: np.ndarray, state: State, octrees: np.ndarray) -> State:
        """Visit the graph's node of a place in every row; a new node is linked to one near by if the way is clear.

        Args:
            place: (n, 2) x, z metres. scan: (n, W, 6). octrees: (n,) of `Octree`, for the clear way.
        """
        code = torch.from_numpy(scan[:, :, [1, 4]].astype(np.int64)).flatten(1)
        near = torch.from_numpy(np.exp(-0.5 * scan[:, :, [0, 3]])).flatten(1)
        near = near.masked_fill(code < FIRST_OBJECT, 0)
        table = torch.zeros(len(place), NUM_CLASSES).scatter_add_(1, code, near)
        # walls alone look alike everywhere
        feature = table @ self.codes + 0.1 * self.codes[0]
        here = torch.tensor(np.insert(place, 1, 0.0, axis=1), dtype=torch.float32)
        before = self._anchor(state["graph"])
        visit, graph = self.graph.advance(feature, here, state["graph"])
        short = self.short.rebase(before, self._anchor(graph), state["short"])
        other = self._beside(graph, visit.new)
        for row in (other >= 0).nonzero()[:, 0].tolist():
            if not _clear(octrees[row], here[row], graph["place"][row, other[row]]):
                other[row] = -1
        if bool((other >= 0).any()):
            graph = self.graph.propose(graph, other)
        return state | {"graph": graph, "short": short}

    def write(
        self, rows: np.ndarray, place: np.ndarray, angle: np.ndarray, scan: np.ndarray, state: State
    ) -> tuple[np.ndarray, State]:
        """File every thing in view that stands in a leaf where its class is not known yet.

        Args:
            rows: (m,). place: (m, 3) x, z, yaw. angle: (W,) bearings of columns. scan: (m, W, 6).
        """
        news, bearing = np.zeros(len(rows), bool), place[:, 2:] + angle
        way = np.stack([np.sin(bearing), np.cos(bearing)], -1)[:, :, None]
        reach, code = scan[:, :, [0, 3]].astype(np.float64), scan[:, :, [1, 4]].astype(np.int64)
        at = place[:, None, None, :2] + way * (reach[..., None] + 0.02)
        at = np.insert(at, 1, 0.0, axis=-1)
        cells, inside = morton.cells_of(torch.from_numpy(at), LEAF, _DEPTH)
        key = morton.encode(cells).numpy() * NUM_CLASSES + code
        real = inside.numpy() & (code >= FIRST_OBJECT) & (reach > 0) & (reach < 19.9)
        short, long = state["short"], state["long"].copy()
        for turn, row in enumerate(rows):
            keys, first = np.unique(key[turn][real[turn]], return_index=True)
            new = [k for k, number in enumerate(keys) if ("leaf", int(number)) not in long[row]]
            if not new:
                continue
            news[turn] = True
            long[row] = copy.deepcopy(long[row], {id(self._empty.map): self._empty.map})
            index = torch.tensor([row])
            part = select(short, index)
            anchor = self._anchor(select(state["graph"], index))
            for k in new:
                spot = torch.from_numpy(at[turn][real[turn]][first[k]])
                value = self.codes[int(keys[k]) % NUM_CLASSES]
                long[row].write(("leaf", int(keys[k])), value, spot)
                _, part = self.short.write(torch.tensor([keys[k]]), value[None], spot[None] - anchor.double(), part)
            short = _put(short, index, part)
        return news, state | {"short": short, "long": long}

    def recall(self, row: int, goal: int, place: np.ndarray, state: State) -> Recall:
        """Return where a class was seen: among recent things near by, else in the long-term memory."""
        index = torch.tensor([row])
        short = select(state["short"], index)
        anchor = self._anchor(select(state["graph"], index)).double()
        here = torch.tensor([[place[0], 0.0, place[1]]], dtype=torch.float64)
        found = self.short.read(self.codes[goal][None], here - anchor, short)
        good = found.cosine[0] >= TAU
        if bool(good.any()):
            places = short["place"][0, found.entry[0, good]] + anchor
            return Recall("short", places[:, [0, 2]].numpy(), found.cosine[0, good].numpy())
        held = state["long"][row].search(self.codes[goal], here[0], count=2)
        if not held.keys:
            return Recall("none", np.zeros((0, 2)), np.zeros(0))
        cosine = held.values @ self.codes[goal]
        good = cosine >= TAU
        source = "long" if bool(good.any()) else "none"
        return Recall(source, held.places[good][:, [0, 2]].double().numpy(), cosine[good].numpy())

    def route(self, row: int, target: np.ndarray, state: State, octree: Octree) -> tuple[np.ndarray, float]:
        """Return the places (L, 2) of nodes towards ``target`` (2,) by A*, and their way in metres.

        The last node is the nearest from which the target can be seen in the octree; (0, 2) and inf where none is.
        """
        graph = select(state["graph"], torch.tensor([row]))
        known = (graph["time"][0] >= 0).nonzero()[:, 0]
        end = torch.tensor([target[0], 0.0, target[1]]).float()
        way = end - graph["place"][0, known]
        apart = way.norm(dim=1)
        if not len(known):
            return np.zeros((0, 2)), float("inf")
        _, metres = ray(octree.voxels, graph["place"][0, known] + HEIGHT, way + 1e-6, float(apart.max()) + 1e-6)
        apart = apart.masked_fill(metres < apart - SEEN, torch.inf)
        best = int(known[apart.argmin()])
        bound = (graph["place"][0] - graph["place"][0, best]).norm(dim=1)
        path = a_star(graph["weight"][0], int(graph["node"][0]), best, bound) if bool(apart.isfinite().any()) else []
        places = graph["place"][0, path][:, [0, 2]].double().numpy().reshape(-1, 2)
        long = np.linalg.norm(np.diff(places, axis=0), axis=1).sum() + float(apart.min()) if path else np.inf
        return places, float(long)

    def stalest(self, row: int, state: State) -> np.ndarray:
        """Return the place (2,) of the node that was visited longest ago."""
        time = state["graph"]["time"][row]
        oldest = time.masked_fill(time < 0, torch.iinfo(torch.int64).max).argmin()
        return state["graph"]["place"][row, oldest][[0, 2]].double().numpy()

    def _anchor(self, graph: State) -> Tensor:
        """Return the places (m, 3) of the current nodes, the origin where there is none."""
        at = graph["node"].clamp(min=0).view(-1, 1, 1).expand(-1, 1, 3)
        return graph["place"].gather(1, at)[:, 0] * (graph["node"] >= 0).unsqueeze(1)

    def _beside(self, graph: State, new: Tensor) -> Tensor:
        """Return for new nodes the nearest node within 1.6 m that is no neighbour yet, else -1: a loop to close."""
        here = self._anchor(graph).unsqueeze(1)
        apart = (graph["place"] - here).norm(dim=2)
        node = graph["node"].view(-1, 1, 1).expand(-1, 1, graph["weight"].shape[1])
        linked = graph["weight"].gather(1, node)[:, 0].isfinite()
        own = torch.arange(apart.shape[1]) == graph["node"].unsqueeze(1)
        apart = apart.masked_fill(linked | own | (graph["time"] < 0) | ~new.unsqueeze(1), torch.inf)
        least, node_of = apart.min(1)
        return torch.where(least <= 1.6, node_of, -1)


def _clear(octree: Octree, start: Tensor, end: Tensor) -> bool:
    """Return whether no leaf at the height of the scan's walls stands between two places (3,)."""
    way = (end - start).unsqueeze(0)
    _, metres = ray(octree.voxels, (start + HEIGHT).unsqueeze(0), way, float(way.norm()) + 1e-6)
    return not bool(metres.isfinite())


def _put(whole: State, index: Tensor, part: State) -> State:
    """Return ``whole`` with the rows ``index`` (m,) replaced."""
    return {name: value.index_copy(0, index, part[name]) for name, value in whole.items()}
