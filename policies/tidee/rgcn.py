"""Relational graph convolution (Schlichtkrull et al. 2018), in plain torch.

    h_i' = W_0 h_i + sum_r 1/|N_r(i)| sum_{j in N_r(i)} W_r h_j

An edge (j, i, r) carries from j to i under relation r. Batches of graphs are one graph with shifted indices.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError


class RelationalConv(nn.Module):
    """One layer.

    Args:
        width: features of a node going in.
        out: features coming out.
        relations: number of relations R.
    """

    def __init__(self, width: int, out: int, relations: int) -> None:
        super().__init__()
        if min(width, out, relations) < 1:
            raise UsageError(f"expected width, out and relations >= 1, got {width}, {out}, {relations}")
        self.relations = relations
        self.own = nn.Linear(width, out)
        self.weight = nn.Parameter(torch.empty(relations, width, out))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Return the new features (N, out).

        Args:
            nodes: (N, width) float.
            edges: (3, E) int64: source, target, relation.
        """
        source, target, relation = edges
        count, relations = len(nodes), self.relations
        # Means over the neighbours of every (node, relation), then one product per relation.
        slot = target * relations + relation
        total = nodes.new_zeros(count * relations, nodes.shape[1]).index_add(0, slot, nodes[source])
        degree = nodes.new_zeros(count * relations).index_add(0, slot, nodes.new_ones(len(slot)))
        mean = (total / degree.clamp(min=1.0)[:, None]).view(count, relations, -1)
        return self.own(nodes) + torch.einsum("nrd,rdo->no", mean, self.weight)


class RelationalStack(nn.Module):
    """Several layers with ReLU and dropout between them.

    Args:
        width: features of a node, in and out.
        relations: number of relations.
        depth: number of layers.
        dropout: share of features dropped between layers while training.
    """

    def __init__(self, width: int, relations: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(RelationalConv(width, width, relations) for _ in range(depth))
        self.dropout = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """Return (N, width) from nodes (N, width) and edges (3, E)."""
        for k, layer in enumerate(self.layers):
            nodes = layer(nodes, edges)
            if k + 1 < len(self.layers):
                nodes = self.dropout(torch.relu(nodes))
        return nodes
