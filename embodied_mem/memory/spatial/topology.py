"""Semantic topology graph: places as nodes, ways as weighted edges, a padded batch of graphs of fixed capacity.

    v = unit(features)                    the novelty threshold is a distance on the unit sphere
    u* = argmin_u |v - phi(u)|            among the nodes within ``radius`` metres, where a radius is set
    novel: |v - phi(u*)| > delta          -> new node; else u* is visited again: phi, place <- running means
    edge u_prev - u:  w = alpha |p_prev - p| + beta c,   averaged with the old weight when walked again

c is the cost of the step that an instruction gives. `propose` closes a loop from outside (place recognition): the
current node and an earlier one become neighbours. The state is a flat dict with rows first, so `select`, `merge` and
`reset_where` work on it; `advance` changes no argument. When all N nodes are taken, the one visited longest ago gives
way and its edges vanish.

It is a component: it has no learned part and no output of its own; `planning` reads its edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from embodied_mem.errors import UsageError
from embodied_mem.memory.spatial.planning import distances, trace
from embodied_mem.memory.state import State, reset_where

__all__ = ["TopologyConfig", "TopologyGraph", "Visit"]


@dataclass(frozen=True)
class TopologyConfig:
    """Size and rules of the graph."""

    dim: int = 32
    """Width D of the features of a place."""
    nodes: int = 64
    """Nodes N of a row."""
    delta: float = 0.7
    """Distance of unit features above which a place is new."""
    radius: float = 0.0
    """Metres within which a node may be the same place; 0 compares features alone."""
    alpha: float = 1.0
    """Weight of metres in an edge."""
    beta: float = 0.5
    """Weight of the instruction's cost in an edge."""

    def __post_init__(self) -> None:
        if self.dim < 1 or self.nodes < 2:
            raise UsageError(f"expected dim >= 1 and nodes >= 2, got {self.dim} and {self.nodes}")
        if not 0 < self.delta < 2 or self.radius < 0 or self.alpha <= 0 or self.beta < 0:
            raise UsageError(
                "expected 0 < delta < 2 (unit features), radius >= 0, alpha > 0 and beta >= 0, got "
                f"{self.delta}, {self.radius}, {self.alpha}, {self.beta}"
            )


@dataclass(frozen=True)
class Visit:
    """What a step found."""

    node: Tensor
    """(n,) int64 current node."""
    new: Tensor
    """(n,) bool, True where it was created."""
    closed: Tensor
    """(n,) bool, True where the agent came back to an earlier node that was not a neighbour."""


class TopologyGraph:
    """Batch of graphs; see the module docstring."""

    def __init__(self, config: TopologyConfig) -> None:
        self.config = config

    def initial_state(self, n: int, device: torch.device | str | None = None) -> State:
        """Return ``n`` empty graphs.

        ``feature`` (n, N, D), ``place`` (n, N, 3) metres, ``visits`` (n, N), ``time`` (n, N) of the last visit or -1,
        ``weight`` (n, N, N) inf without an edge, ``walked`` (n, N, N) times, ``node`` (n,) current or -1, ``clock``.
        """
        N, D = self.config.nodes, self.config.dim
        whole = partial(torch.full, dtype=torch.int64, device=device)
        return {
            "feature": torch.zeros(n, N, D, device=device),
            "place": torch.zeros(n, N, 3, device=device),
            "visits": whole((n, N), 0),
            "time": whole((n, N), -1),
            "weight": torch.full((n, N, N), torch.inf, device=device),
            "walked": whole((n, N, N), 0),
            "node": whole((n,), -1),
            "clock": whole((n,), 0),
        }

    def advance(
        self, feature: Tensor, place: Tensor, state: State, reset: Tensor | None = None, cost: Tensor | None = None
    ) -> tuple[Visit, State]:
        """Visit a place in every row.

        Args:
            feature: (n, D) float, of any length > 0. place: (n, 3) metres.
            reset: (n,) bool, True where an episode opens: the graph is emptied first.
            cost: (n,) cost c of the step, 0 where absent.

        Raises:
            UsageError: the shapes do not fit.
        """
        c, n = self.config, len(feature)
        if feature.shape != (n, c.dim) or place.shape != (n, 3):
            raise UsageError(f"expected feature (n, {c.dim}) and place (n, 3), got {feature.shape} and {place.shape}")
        if reset is not None:
            state = reset_where(reset, self.initial_state(1, feature.device), state)
        v = torch.nn.functional.normalize(feature.float().detach(), dim=-1)
        place = place.float()
        apart = torch.linalg.vector_norm(state["feature"] - v.unsqueeze(1), dim=-1)
        possible = state["time"] >= 0
        if c.radius:
            possible &= torch.linalg.vector_norm(state["place"] - place.unsqueeze(1), dim=-1) <= c.radius
        least, nearest = apart.masked_fill(~possible, torch.inf).min(1)
        new = least > c.delta
        # an empty node has time -1; the current node is never given up, so that an edge can lead from it
        last = state["node"]
        here = torch.arange(c.nodes, device=last.device) == last.unsqueeze(1)
        oldest = state["time"].masked_fill(here, torch.iinfo(torch.int64).max).argmin(1)
        node = torch.where(new, oldest, nearest)
        state = self._cleared(state, node, new)
        at = node.unsqueeze(1)
        visits = state["visits"].gather(1, at) + 1
        changed: State = {"visits": state["visits"].scatter(1, at, visits), "node": node, "clock": state["clock"] + 1}
        changed["time"] = state["time"].scatter(1, at, state["clock"].unsqueeze(1))
        for name, value in (("feature", v), ("place", place)):
            index = at.unsqueeze(-1).expand(-1, -1, value.shape[-1])
            old = state[name].gather(1, index)
            mean = old + (value.unsqueeze(1) - old) / visits.unsqueeze(-1)
            changed[name] = state[name].scatter(1, index, mean)
        state = state | changed
        moved = (last >= 0) & (last != node)
        neighbours = state["walked"].flatten(1).gather(1, (last.clamp(min=0) * c.nodes + node).unsqueeze(1)) > 0
        closed = moved & ~new & ~neighbours.squeeze(1)
        metres = torch.linalg.vector_norm(self._at(state, last) - self._at(state, node), dim=-1)
        weight = c.alpha * metres + (0 if cost is None else c.beta * cost.float())
        return Visit(node, new, closed), self._walk(state, last, node, weight, moved)

    def propose(self, state: State, other: Tensor, weight: Tensor | None = None) -> State:
        """Return the state with an edge between the current node and ``other`` (n,), -1 for none (loop closure).

        The weight (n,) is the metres between the nodes times alpha where absent.
        """
        node = state["node"]
        apart = torch.linalg.vector_norm(self._at(state, node) - self._at(state, other), dim=-1)
        weight = self.config.alpha * apart if weight is None else weight.float()
        known = state["time"].gather(1, other.clamp(min=0).unsqueeze(1)).squeeze(1) >= 0
        return self._walk(state, node, other, weight, known & (other >= 0) & (node >= 0) & (other != node))

    def plan(self, state: State, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return paths (n, N) int64 from the current node to ``target`` (n,), padded with -1; and weights (n,)."""
        source = state["node"].clamp(min=0)
        best, before = distances(state["weight"], source)
        path = trace(before, source, target)
        path = path.masked_fill((state["node"] < 0).unsqueeze(1), -1)
        total = best.gather(1, target.unsqueeze(1)).squeeze(1)
        return path, total.masked_fill(path[:, 0] < 0, torch.inf)

    def _at(self, state: State, node: Tensor) -> Tensor:
        return state["place"].gather(1, node.clamp(min=0).view(-1, 1, 1).expand(-1, 1, 3)).squeeze(1)

    def _cleared(self, state: State, node: Tensor, new: Tensor) -> State:
        """Forget everything about ``node`` where ``new``."""
        gone = (torch.arange(self.config.nodes, device=node.device) == node.unsqueeze(1)) & new.unsqueeze(1)
        edges = gone.unsqueeze(1) | gone.unsqueeze(2)
        return state | {
            "visits": state["visits"].masked_fill(gone, 0),
            "weight": state["weight"].masked_fill(edges, torch.inf),
            "walked": state["walked"].masked_fill(edges, 0),
        }

    def _walk(self, state: State, start: Tensor, end: Tensor, weight: Tensor, moved: Tensor) -> State:
        """Average ``weight`` (n,) into the edge between two nodes, both ways, where ``moved``."""
        n, N = state["time"].shape
        start, end = start.clamp(min=0), end.clamp(min=0)
        index = torch.stack([start * N + end, end * N + start], 1)
        walked, old = (state[name].flatten(1).gather(1, index) for name in ("walked", "weight"))
        mixed = torch.where(walked > 0, (old + weight.unsqueeze(1)) / 2, weight.unsqueeze(1))
        times = torch.where(moved.unsqueeze(1), walked + 1, walked)
        mixed = torch.where(moved.unsqueeze(1), mixed, old)
        return state | {
            "weight": state["weight"].flatten(1).scatter(1, index, mixed).view(n, N, N),
            "walked": state["walked"].flatten(1).scatter(1, index, times).view(n, N, N),
        }
