"""The memory network: from a graph of tidy houses and the scene at hand to the receptacle class of an object.

Nodes carry a class embedding. Memory houses: three relational layers over their spatial relations. Scene: three layers,
fully connected both ways. Bridge: four layers with the edges memory -> target (same class), room type -> target,
scene -> target, memory -> scene (same class). The head reads the target nodes.

Differences from the source: messages run both ways along every relation (its scene graphs have one direction only), and
scenes do not write into the memory nodes, which the queries of a batch share. There is no picture feature: objects are
known by class, room and relations. One receptacle class is learned per object by cross-entropy (there: all related
classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.policies.tidee.rgcn import RelationalStack
from embodied_mem.policies.tidee.scene import RELATIONS, Scene, relations

MEMORY_TO_TARGET, ROOM_TO_TARGET, SCENE_TO_TARGET, MEMORY_TO_SCENE = range(4)


@dataclass(frozen=True)
class PlacementConfig:
    """Size of the network."""

    classes: int
    """Number of object classes; also the number of answers."""
    rooms: int
    """Number of room types."""
    width: int = 64
    """Features of a node."""
    memory_layers: int = 3
    """Layers over memory and over the scene."""
    bridge_layers: int = 4
    """Layers of the bridge."""
    dropout: float = 0.2
    """Dropout between layers."""
    kind_dropout: float = 0.3
    """Share of the classes whose embedding is hidden at an update: where they belong must be read from memory then."""
    use_memory: bool = True
    """False: the memory graph is left out (ablation)."""


@dataclass(frozen=True)
class Graph:
    """Several houses as one graph."""

    kind: Tensor
    """(N,) int64."""
    edges: Tensor
    """(3, E) int64."""


@dataclass(frozen=True)
class Query:
    """One object of one scene whose receptacle is asked for."""

    scene: Graph
    """The other objects, fully connected."""
    kind: int
    room: int


def memory_graph(scenes: Sequence[Scene]) -> Graph:
    """Return the tidy houses that the network remembers, as one graph; none of them may be a house it is asked about.

    Raises:
        UsageError: there is no house.
    """
    if not scenes:
        raise UsageError("expected at least one tidy house to remember, got none")
    kinds, edges, shift = [], [], 0
    for scene in scenes:
        table = relations(scene)
        # Messages run both ways; the way back is a relation of its own.
        back = table[[1, 0, 2]]
        back[2] += len(RELATIONS)
        table = np.concatenate([table, back], axis=1)
        table[:2] += shift
        kinds.append(scene.kind)
        edges.append(table)
        shift += len(scene)
    return Graph(torch.as_tensor(np.concatenate(kinds)), torch.as_tensor(np.concatenate(edges, axis=1)))


def query(scene: Scene, item: int) -> Query:
    """Return the question where object ``item`` of a scene belongs; where it lies now is not told."""
    others = np.delete(np.arange(len(scene)), item)
    kind = torch.as_tensor(scene.kind[others])
    n = len(others)
    source, target = (1 - np.eye(n, dtype=np.int64)).nonzero()
    edges = np.stack([source, target, np.zeros(len(source), np.int64)])
    return Query(Graph(kind, torch.as_tensor(edges)), int(scene.kind[item]), int(scene.room[item]))


class PlacementNetwork(nn.Module):
    """Scores receptacle classes for the objects of queries."""

    def __init__(self, config: PlacementConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.kinds = nn.Embedding(config.classes, width)
        # Small, so that a class that training never asks for looks like a hidden one.
        nn.init.normal_(self.kinds.weight, std=0.02)
        self.roles = nn.Embedding(4, width)
        self.rooms = nn.Embedding(config.rooms, width)
        self.memory = RelationalStack(width, 2 * len(RELATIONS), config.memory_layers, config.dropout)
        self.scene = RelationalStack(width, 1, config.memory_layers, config.dropout)
        self.bridge = RelationalStack(width, 4, config.bridge_layers, config.dropout)
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, config.classes))

    def forward(self, memory: Graph, queries: Sequence[Query]) -> Tensor:
        """Return (Q, classes) logits, one row per query.

        Args:
            memory: the tidy houses (ignored without ``use_memory``).
            queries: the objects asked about; each sees its own scene and the same memory.
        """
        count = len(queries)
        target_kind = torch.tensor([item.kind for item in queries])
        sizes = [len(item.scene.kind) for item in queries]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        scene_kind = torch.cat([item.scene.kind for item in queries])
        owner = torch.repeat_interleave(torch.arange(count), torch.tensor(sizes))
        scene_edges = torch.cat([_shifted(item.scene.edges, starts[k]) for k, item in enumerate(queries)], dim=1)
        table = self._embeddings()
        seen = self.scene(table[scene_kind], scene_edges)
        if self.config.use_memory:
            stored, stored_kind = self.memory(table[memory.kind], memory.edges), memory.kind
        else:
            stored, stored_kind = seen.new_zeros(0, seen.shape[1]), memory.kind[:0]
        rooms = self.rooms(torch.tensor([item.room for item in queries]))
        targets = table[target_kind]
        nodes = torch.cat([targets + self.roles.weight[0], rooms, seen + self.roles.weight[1], stored])
        scene0, memory0 = 2 * count, 2 * count + len(seen)
        own = torch.arange(count)
        edges = [_edges(own + count, own, ROOM_TO_TARGET)]
        edges.append(_edges(torch.arange(len(seen)) + scene0, owner, SCENE_TO_TARGET))
        if len(stored):
            match, asked = torch.nonzero(stored_kind[:, None] == target_kind[None], as_tuple=True)
            edges.append(_edges(match + memory0, asked, MEMORY_TO_TARGET))
            # Memory is shared by the queries of a batch, so what a scene tells it would reach other queries: only the
            # way from memory to scene is used.
            match, there = torch.nonzero(stored_kind[:, None] == scene_kind[None], as_tuple=True)
            edges.append(_edges(match + memory0, there + scene0, MEMORY_TO_SCENE))
        bridged = self.bridge(nodes, torch.cat(edges, dim=1))[:count]
        return self.head(torch.cat([bridged, targets], dim=1))

    def _embeddings(self) -> Tensor:
        """Return (classes, width): the class embeddings, some of them zeroed while training."""
        table = self.kinds.weight
        if not self.training or self.config.kind_dropout == 0:
            return table
        return table * (torch.rand(len(table), 1, device=table.device) >= self.config.kind_dropout)


def _shifted(edges: Tensor, by: int) -> Tensor:
    return edges + torch.tensor([[by], [by], [0]])


def _edges(source: Tensor, target: Tensor, relation: int) -> Tensor:
    return torch.stack([source, target, torch.full_like(source, relation)])
