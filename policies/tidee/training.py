"""Trains the parts of TIDEE on tidy houses: the mess, and with it the labels, are made here.

tidee = Tidee.fit([scene_of(plan) for plan in plans])
tidee.save("runs/tidee"); Tidee.load("runs/tidee")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from embodied_mem.config import from_dict, to_dict
from embodied_mem.envs.house import classes as K
from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_json, read_json
from embodied_mem.policies.tidee.misplaced import MisplacedDetector
from embodied_mem.policies.tidee.placement import Graph, PlacementConfig, PlacementNetwork, Query, memory_graph, query
from embodied_mem.policies.tidee.scene import Scene, displace
from embodied_mem.policies.tidee.search import SearchNetwork, search_loss

PARTS = ("placement", "misplaced", "search")
MAP_CELLS, CELL = 32, 0.5
"""The search map: cells per side, and their edge in metres; its middle is that of the house."""


@dataclass(frozen=True)
class TideeConfig:
    """How the three networks are made and trained."""

    classes: int = K.NUM_CLASSES
    """Number of object classes."""
    width: int = 32
    """Features per node and sentence; half as many per cell of the search map."""
    memory_houses: int = 5
    """Tidy houses kept in the memory graph."""
    moved: int = 5
    """Objects displaced per messy house."""
    steps: int = 200
    """Updates of each network."""
    batch: int = 16
    """Queries, houses or maps per update."""
    learning_rate: float = 1e-2
    """Of Adam."""
    use_memory: bool = True
    """False: without the memory graph (ablation)."""
    seed: int = 0
    """Of weights, messes and batches."""


class Tidee:
    """The trained parts: what is out of place, where it belongs, where that is to be found.

    Args:
        config: sizes.
        memory: tidy houses to remember; never houses that are tidied.
    """

    def __init__(self, config: TideeConfig, memory: Sequence[Scene]) -> None:
        self.config = config
        self.houses = list(memory)
        self.memory: Graph = memory_graph(self.houses)
        torch.manual_seed(config.seed)
        sizes = PlacementConfig(config.classes, len(K.ROOM_TYPES), config.width, use_memory=config.use_memory)
        self.placement = PlacementNetwork(sizes)
        self.misplaced = MisplacedDetector(config.classes, config.width)
        self.search = SearchNetwork(config.classes, max(8, config.width // 2))

    @classmethod
    def fit(cls, scenes: Sequence[Scene], config: TideeConfig | None = None, parts: Sequence[str] = PARTS) -> Tidee:
        """Train on tidy scenes; the first ``memory_houses`` of them are remembered, the others learned from.

        Args:
            scenes: tidy houses.
            config: sizes and length of training.
            parts: which networks are trained; the others keep their first weights.

        Raises:
            UsageError: there are too few scenes, or there is no such part.
        """
        for name in parts:
            if name not in PARTS:
                raise UsageError(f"unknown part {name!r}; expected some of {PARTS}")
        config = config or TideeConfig()
        if len(scenes) <= config.memory_houses:
            raise UsageError(f"expected more than {config.memory_houses} tidy houses, got {len(scenes)}")
        tidee = cls(config, scenes[: config.memory_houses])
        rest = list(scenes[config.memory_houses :])
        generator = np.random.default_rng(config.seed)
        if "placement" in parts:
            tidee._fit_placement(rest, generator)
        if "misplaced" in parts:
            tidee._fit_misplaced(rest, generator)
        if "search" in parts:
            tidee._fit_search(rest, generator)
        for part in tidee.parts.values():
            part.eval()
        return tidee

    @property
    def parts(self) -> dict[str, nn.Module]:
        """The three networks by name."""
        return {"placement": self.placement, "misplaced": self.misplaced, "search": self.search}

    # Questions

    @torch.no_grad()
    def out_of_place(self, scene: Scene) -> np.ndarray:
        """Return (O,) float32: how surely each object is out of place, 0 to 1."""
        return torch.sigmoid(self.misplaced([scene])).numpy()

    @torch.no_grad()
    def receptacles(self, scene: Scene, items: Sequence[int]) -> np.ndarray:
        """Return (M, classes) float32: probability that each of ``items`` belongs on a receptacle class."""
        queries = [query(scene, int(item)) for item in items]
        return torch.softmax(self.placement(self.memory, queries), dim=1).numpy()

    @torch.no_grad()
    def places(self, known: np.ndarray, kind: int) -> Tensor:
        """Return (X, Z) logits of where objects of a class are, from a `semantic_map` (C, X, Z) of what is known."""
        return self.search(torch.as_tensor(known)[None], torch.tensor([kind]))[0]

    # Files

    def save(self, folder: str | Path) -> None:
        """Write weights (safetensors), sizes and the remembered houses (JSON)."""
        from safetensors.torch import save_file

        folder = Path(folder)
        fields = ("kind", "place", "size", "yaw", "room", "holder", "flags")
        houses = [{name: getattr(house, name).tolist() for name in fields} for house in self.houses]
        atomic_write_json(folder / "tidee.json", {"config": to_dict(self.config), "memory": houses})
        weights = {f"{part}.{name}": w for part, net in self.parts.items() for name, w in net.state_dict().items()}
        save_file({name: value.contiguous() for name, value in weights.items()}, folder / "tidee.safetensors")

    @classmethod
    def load(cls, folder: str | Path) -> Tidee:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        content = read_json(Path(folder) / "tidee.json")
        houses = [Scene(**{name: np.array(value) for name, value in house.items()}) for house in content["memory"]]
        tidee = cls(from_dict(TideeConfig, content["config"]), houses)
        weights = load_file(Path(folder) / "tidee.safetensors")
        for part, net in tidee.parts.items():
            own = {name.removeprefix(f"{part}."): w for name, w in weights.items() if name.startswith(f"{part}.")}
            net.load_state_dict(own)
            net.eval()
        return tidee

    # Training

    def _fit_placement(self, scenes: list[Scene], generator: np.random.Generator) -> None:
        asked: list[tuple[Query, int]] = [
            (query(scene, int(item)), scene.label(int(item))) for scene in scenes for item in scene.items
        ]
        if not asked:
            raise UsageError("the tidy houses hold no object that lies on a receptacle")
        optimiser = torch.optim.Adam(self.placement.parameters(), lr=self.config.learning_rate)
        self.placement.train()
        for _ in range(self.config.steps):
            chosen = [asked[k] for k in generator.integers(len(asked), size=self.config.batch)]
            logits = self.placement(self.memory, [question for question, _ in chosen])
            _update(optimiser, nn.functional.cross_entropy(logits, torch.tensor([label for _, label in chosen])))

    def _fit_misplaced(self, scenes: list[Scene], generator: np.random.Generator) -> None:
        optimiser = torch.optim.Adam(self.misplaced.parameters(), lr=self.config.learning_rate)
        self.misplaced.train()
        for _ in range(self.config.steps):
            messes, labels = [], []
            for k in generator.integers(len(scenes), size=self.config.batch):
                messy, moved = displace(scenes[k], self.config.moved, generator)
                carried = (messy.flags & K.PICKUPABLE) != 0
                label = np.where(carried, 0.0, np.nan)
                label[moved] = 1.0
                messes.append(messy)
                labels.append(label)
            logits, truth = self.misplaced(messes), torch.as_tensor(np.concatenate(labels), dtype=torch.float32)
            known = torch.isfinite(truth)
            _update(optimiser, nn.functional.binary_cross_entropy_with_logits(logits[known], truth[known]))

    def _fit_search(self, scenes: list[Scene], generator: np.random.Generator) -> None:
        asked = [(k, int(kind)) for k, scene in enumerate(scenes) for kind in np.unique(scene.kind[_bearers(scene)])]
        optimiser = torch.optim.Adam(self.search.parameters(), lr=self.config.learning_rate)
        self.search.train()
        for _ in range(self.config.steps):
            maps, kinds, found = [], [], []
            for k in generator.integers(len(asked), size=self.config.batch):
                index, kind = asked[k]
                scene = scenes[index]
                # Part of the house is known, and nothing of the class that is looked for.
                seen = (generator.random(len(scene)) < generator.uniform(0.3, 1.0)) & (scene.kind != kind)
                maps.append(semantic_map(scene, seen, self.config.classes))
                kinds.append(kind)
                found.append(semantic_map(scene, scene.kind == kind, self.config.classes)[kind] > 0)
            logits = self.search(torch.as_tensor(np.stack(maps)), torch.tensor(kinds))
            _update(optimiser, search_loss(logits, torch.as_tensor(np.stack(found))))


def semantic_map(scene: Scene, seen: np.ndarray, classes: int) -> np.ndarray:
    """Return (classes, X, Z) float32: objects of ``seen`` (O,) bool counted in the cell of their centre."""
    out = np.zeros((classes, MAP_CELLS, MAP_CELLS), np.float32)
    cells = cells_of(scene, scene.place[seen])
    np.add.at(out, (scene.kind[seen], cells[:, 0], cells[:, 1]), 1.0)
    return out


def cells_of(scene: Scene, points: np.ndarray) -> np.ndarray:
    """Return (P, 2) int64 map cells of world points (P, 3), cut to the map."""
    cells = np.floor((points[:, [0, 2]] - _middle(scene)) / CELL).astype(np.int64) + MAP_CELLS // 2
    return np.clip(cells, 0, MAP_CELLS - 1)


def points_of(scene: Scene, cells: np.ndarray) -> np.ndarray:
    """Return (P, 2) world x, z of the centres of map cells (P, 2)."""
    return (cells - MAP_CELLS // 2 + 0.5) * CELL + _middle(scene)


def _middle(scene: Scene) -> np.ndarray:
    furniture = scene.place[_bearers(scene)] if len(_bearers(scene)) else scene.place
    return 0.5 * (furniture.min(axis=0) + furniture.max(axis=0))[[0, 2]]


def _bearers(scene: Scene) -> np.ndarray:
    return np.flatnonzero((scene.flags & K.RECEPTACLE) != 0)


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
