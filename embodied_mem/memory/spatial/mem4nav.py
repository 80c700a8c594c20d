"""Mem4Nav's loop for one agent: octree leaves and graph nodes own long-term tokens, the short-term list answers first.

    observe (v, p)    leaf = Morton code of p, node = where the topology graph says we are; both get v in the long-term
                      memory; the short-term list is rebased when the node changes and takes v under the leaf's key
    recall (v, p)     the short-term entries, if the best cosine among those within eps is at least tau;
                      else the nearest long-term tokens, decoded; else nothing, said by ``source`` "none"
    plan              Dijkstra on the graph's weights

Choose the leaf's side from the spacing of observations: with a side of millimetres, as published, every observation
gets a leaf of its own and nothing is ever written twice.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial import morton
from embodied_mem.memory.spatial.long_term import LongTermMemory
from embodied_mem.memory.spatial.short_term import ShortTermMemory
from embodied_mem.memory.spatial.topology import TopologyGraph

__all__ = ["Answer", "Mem4Nav"]


class Answer(NamedTuple):
    """What a recall returns; m is 0 when nothing is known."""

    source: Literal["short", "long", "none"]
    """Which memory answered."""
    values: Tensor
    """(m, d) observations."""
    places: Tensor
    """(m, 3) float64 metres in the world."""
    cosine: float
    """Best cosine among the short-term entries in reach, -inf if there is none."""


class Mem4Nav:
    """Short-term and long-term memory over an octree and a graph."""

    def __init__(
        self, graph: TopologyGraph, short: ShortTermMemory, long: LongTermMemory, tau: float = 0.7, leaf: float = 5.0
    ) -> None:
        """Join the parts.

        Args:
            graph, short, long: of the same feature width.
            tau: cosine from which the short-term memory answers.
            leaf: side of an octree leaf, metres.

        Raises:
            UsageError: the widths differ or a value is out of range.
        """
        widths = (graph.config.dim, short.dim, long.dim)
        if len(set(widths)) != 1 or not -1 <= tau <= 1 or leaf <= 0:
            raise UsageError(f"expected equal widths, -1 <= tau <= 1 and leaf > 0, got {widths}, {tau}, {leaf}")
        self.graph, self.short, self.long, self.tau, self.leaf = graph, short, long, tau, leaf
        self.reset()

    def reset(self) -> None:
        """Begin an episode."""
        self.graph_state = self.graph.initial_state(1)
        self.short_state = self.short.initial_state(1)
        self.long.clear()
        self._anchor = torch.zeros(1, 3)

    def observe(self, value: Tensor, place: Tensor, cost: float = 0.0) -> int:
        """Take in an observation (d,) at ``place`` (3,) metres and return the current node."""
        visit, self.graph_state = self.graph.advance(
            value.unsqueeze(0), place.unsqueeze(0), self.graph_state, cost=torch.tensor([cost])
        )
        node = int(visit.node)
        # a node's own place is a running mean: the anchor is where it stands now
        anchor = self.graph_state["place"][:, node]
        self.short_state = self.short.rebase(self._anchor, anchor, self.short_state)
        self._anchor = anchor
        cells, inside = morton.cells_of(place, self.leaf, morton.MAX_DEPTH)
        if not inside:
            raise UsageError(f"expected a finite place inside the octree's cube, got {place.tolist()}")
        code = int(morton.encode(cells))
        _, self.short_state = self.short.write(
            torch.tensor([code]), value.unsqueeze(0), place.unsqueeze(0).double() - anchor.double(), self.short_state
        )
        self.long.write(("leaf", code), value, place)
        self.long.write(("node", node), value, place)
        return node

    def recall(self, value: Tensor, place: Tensor) -> Answer:
        """Return what is known about an observation (d,) at ``place`` (3,) metres."""
        anchor = self._anchor.double()
        recent = self.short.read(value.unsqueeze(0), place.unsqueeze(0).double() - anchor, self.short_state)
        cosine = float(recent.cosine[0, 0])
        if cosine >= self.tau:
            held = recent.entry[0][recent.entry[0] >= 0]
            places = self.short_state["place"][0, held] + anchor
            return Answer("short", recent.value[0, : len(held)], places, cosine)
        found = self.long.search(value, place)
        source: Literal["long", "none"] = "long" if found.keys else "none"
        return Answer(source, found.values, found.places.double(), cosine)

    def plan(self, node: int) -> list[int]:
        """Return the nodes of the shortest way from the current node to ``node``; empty when there is none."""
        path, _ = self.graph.plan(self.graph_state, torch.tensor([node]))
        return [step for step in path[0].tolist() if step >= 0]
