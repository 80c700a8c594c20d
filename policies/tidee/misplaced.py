"""Out-of-place detection: does an object stand where such objects stand in tidy houses?

An object is told by its class and the set of its relations ("a mug supported by a bed, next to a pillow"); the source
reads the same as sentences with a language model and adds a picture detector, which this does without.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from embodied_mem.policies.tidee.scene import RELATIONS, Scene, relations

FLOOR_RELATION = 2 * len(RELATIONS)
"""Number of the relation "supported by the floor", which has no object at its other end."""


class MisplacedDetector(nn.Module):
    """Scores every object of some scenes.

    Args:
        classes: number of object classes.
        width: features.
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.classes = classes
        self.kinds = nn.Embedding(classes, width)
        # One vector per (relation, class at its other end): a relation sentence.
        self.sentences = nn.EmbeddingBag((FLOOR_RELATION + 1) * classes, width, mode="sum")
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, scenes: Sequence[Scene]) -> Tensor:
        """Return (sum of O,) logits; positive = out of place."""
        words, owners, kinds, shift = [], [], [], 0
        for scene in scenes:
            source, target, relation = relations(scene)
            ground = np.flatnonzero(scene.holder < 0)
            words += [
                relation * self.classes + scene.kind[target],
                (relation + len(RELATIONS)) * self.classes + scene.kind[source],
                np.full(len(ground), FLOOR_RELATION * self.classes),
            ]
            owners += [source + shift, target + shift, ground + shift]
            kinds.append(scene.kind)
            shift += len(scene)
        owner, word = np.concatenate(owners), np.concatenate(words)
        order = np.argsort(owner, kind="stable")
        offsets = np.searchsorted(owner[order], np.arange(shift))
        told = self.sentences(torch.as_tensor(word[order]), torch.as_tensor(offsets))
        own = self.kinds(torch.as_tensor(np.concatenate(kinds)))
        return self.head(torch.cat([own, torch.tanh(told)], dim=1)).squeeze(1)
