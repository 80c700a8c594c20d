"""Visual search: where on a map of what has been seen is an object of a class likely to be?

Input is a map with a channel per class; the class asked for picks, by attention over features, what to look for near
which things. Output is one logit per cell, trained by binary cross-entropy with the few positive cells weighted up. The
source flattens height levels into channels and looks at 8 m around the agent; here levels are summed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from embodied_mem.errors import UsageError


class SearchNetwork(nn.Module):
    """Predicts places.

    Args:
        classes: number of map channels C, and of classes that can be asked for.
        width: features of a cell.
    """

    def __init__(self, classes: int, width: int = 32) -> None:
        super().__init__()
        if classes < 1 or width < 1:
            raise UsageError(f"expected classes and width >= 1, got {classes} and {width}")
        self.mix = nn.Conv2d(classes, width, 1)
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 5, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )
        self.asked = nn.Embedding(classes, width)
        self.head = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1))

    def forward(self, maps: Tensor, asked: Tensor) -> Tensor:
        """Return (B, X, Z) logits.

        Args:
            maps: (B, C, X, Z) float, how much of each class lies in each cell.
            asked: (B,) int64 class that is looked for.
        """
        features = self.body(torch.relu(self.mix(maps)))
        return self.head(features * self.asked(asked)[:, :, None, None]).squeeze(1)


def search_loss(logits: Tensor, found: Tensor) -> Tensor:
    """Return the weighted binary cross-entropy; positives weigh as much as all other cells together.

    Args:
        logits: (B, X, Z) float.
        found: (B, X, Z) bool, cells where the class asked for is.
    """
    positives = found.sum(dim=(1, 2), keepdim=True).clamp(min=1)
    negatives = (~found).sum(dim=(1, 2), keepdim=True).clamp(min=1)
    weight = torch.where(found, 0.5 / positives, 0.5 / negatives)
    loss = nn.functional.binary_cross_entropy_with_logits(logits, found.float(), reduction="none")
    return (loss * weight).sum(dim=(1, 2)).mean()


def goals(logits: Tensor, count: int, apart: int) -> Tensor:
    """Return up to ``count`` cells (G, 2) int64 of the highest scores, at least ``apart`` cells from one another.

    Args:
        logits: (X, Z) float.
        count: how many.
        apart: Chebyshev distance in cells.

    >>> goals(torch.tensor([[3.0, 2.0, 0.0, 1.0]]), 2, 2).tolist()
    [[0, 0], [0, 3]]
    """
    rest, chosen = logits.clone(), []
    rows, columns = torch.meshgrid(torch.arange(rest.shape[0]), torch.arange(rest.shape[1]), indexing="ij")
    for _ in range(count):
        best = int(rest.argmax())
        if not torch.isfinite(rest.view(-1)[best]):
            break
        row, column = divmod(best, rest.shape[1])
        chosen.append([row, column])
        rest[(rows - row).abs().maximum((columns - column).abs()) < apart] = -torch.inf
    return torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2)
