"""Trains the encoder ``house`` from scratch on painted tours of train houses and writes the weights of the package.

python -m embodied_mem.experiments.house_view --streams 100 --epochs 6 --found 4 --out FILE
python -m embodied_mem.experiments.house_view --streams 250 --epochs 4 --seed 1 --rate 3e-3 --start FILE --out FILE
python -m embodied_mem.experiments.house_view --streams 800 --epochs 4 --seed 2 --rate 3e-3 --houses 4000 --start FILE

These three made the weights of the package; one thread, half an hour together. Prints one JSON value: agreement with
the simulator on houses of the test split.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from embodied_mem.files import atomic_write_bytes
from embodied_mem.perception.house_view import OTHER_CELL, WALL_CELL, WEIGHTS, HouseViewNet, load_net
from embodied_mem.perception.house_words import PAIRS
from embodied_mem.stream.house_tour.tours import POOL, TourStream, whole_log

BATCH = 64
_COMMON_WEIGHT = 0.3


class Frames:
    """Frames of many streams with what the simulator knows of them."""

    def __init__(self, streams: int, seconds: int, split: str, seed: int, houses: int = POOL) -> None:
        """Draw them, of the first ``houses`` houses of the split."""
        tours = [TourStream(seconds, seed * 100_000 + number, split, 1, (0, houses)) for number in range(streams)]
        chunks = [chunk for tour in tours for chunk in tour.chunks(cells=True)]
        log = whole_log([chunk.log for chunk in chunks])
        self.rgb = torch.from_numpy(np.concatenate([chunk.rgb for chunk in chunks]))
        self.cells = torch.from_numpy(np.concatenate([chunk.cells for chunk in chunks if chunk.cells is not None]))
        self.walls, self.seen = torch.from_numpy(log.walls), torch.from_numpy(log.seen)
        self.unsure = torch.from_numpy(log.glimpsed & ~log.seen)

    def __len__(self) -> int:
        return len(self.rgb)

    def images(self, rows: torch.Tensor) -> torch.Tensor:
        """Return (n, 3, 48, 64) float32 in 0..1."""
        return self.rgb[rows].permute(0, 3, 1, 2).float() / 255


def loss_of(net: HouseViewNet, frames: Frames, rows: torch.Tensor, mirrored: bool, found: float) -> torch.Tensor:
    """Return the sum of the losses of cells, walls and amounts for some frames; what is there weighs 1 + ``found``."""
    images, cells = frames.images(rows), frames.cells[rows]
    if mirrored:
        images, cells = images.flip(3), cells.flip(3)
    kind, colour, walls = net(images)
    weight = torch.ones(OTHER_CELL + 1)
    weight[[WALL_CELL, OTHER_CELL]] = _COMMON_WEIGHT
    loss = F.cross_entropy(kind, cells[:, 0], weight) + F.cross_entropy(walls, frames.walls[rows])
    loss = loss + F.cross_entropy(colour, cells[:, 1], ignore_index=-1)
    amounts, target = net.amounts(kind, colour).clamp(1e-5, 1 - 1e-5), frames.seen[rows].float()
    each = F.binary_cross_entropy(amounts, target, reduction="none") * (1 + found * target)
    return loss + 10 * each[~frames.unsure[rows]].mean()


def train(
    frames: Frames, epochs: int, rate: float, seed: int, found: float = 1.0, start: Path | None = None
) -> HouseViewNet:
    """Return a network trained for some epochs of one-cycle Adam, from fresh weights or from those of a file."""
    torch.manual_seed(seed)
    # channels last: a quarter faster on processors
    net = (HouseViewNet() if start is None else load_net(start)).train().to(memory_format=torch.channels_last)
    steps = epochs * (len(frames) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.2)
    draw, began = np.random.default_rng(seed), time.process_time()
    for step in range(steps):
        at = step % (len(frames) // BATCH)
        if at == 0:
            order = torch.from_numpy(draw.permutation(len(frames)))
        loss = loss_of(net, frames, order[at * BATCH : (at + 1) * BATCH], bool(draw.random() < 0.5), found)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{step}/{steps} {loss.item():.3f} {time.process_time() - began:.0f} s", flush=True)
    return net.eval().to(memory_format=torch.contiguous_format)


@torch.no_grad()
def agreement(net: HouseViewNet, frames: Frames) -> dict[str, float]:
    """Return the share of frames whose walls are right, and recall and false alarms of pairs at 0.5."""
    tokens = torch.cat([net.tokens(frames.images(rows)) for rows in torch.arange(len(frames)).split(256)])
    found, truth = tokens[:, :PAIRS] > 0.5, frames.seen
    clear = ~frames.unsure & ~truth
    return {
        "walls": float((tokens[:, PAIRS:].argmax(1) == frames.walls).float().mean()),
        "recall": float(found[truth].float().mean()),
        "precision": float((found & truth).sum() / (found & (truth | clear)).sum().clamp(min=1)),
        "false_per_frame": float((found & clear).sum() / len(frames)),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Train and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"streams": 100, "seconds": 120, "epochs": 8, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--found", type=float, default=1.0, help="extra weight of pairs that are in view")
    parser.add_argument("--houses", type=int, default=POOL, help="of the train split that streams draw from")
    parser.add_argument("--start", type=Path, default=None, help="weights to begin with")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    from safetensors.torch import save

    frames = Frames(given.streams, given.seconds, "train", given.seed, given.houses)
    net = train(frames, given.epochs, given.rate, given.seed, given.found, given.start)
    atomic_write_bytes(given.out, save({name: value.contiguous() for name, value in net.state_dict().items()}))
    print(json.dumps(agreement(net, Frames(20, given.seconds, "test", given.seed))))


if __name__ == "__main__":
    main()
