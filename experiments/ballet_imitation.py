"""Ballet by imitation: which memories can tell, after the show, who danced what.

python -m embodied_mem.experiments.ballet_imitation [--levels 2_delay16,4_delay16] [--memories hcam,lstm]
    [--seeds 0,1,2] [--updates N] [--minutes M] [--work runs/ballet-imitation] [--out FILE]

A level with the ending ``-pixels`` (``2_delay16-pixels``) is seen as pictures.
Every cell (level, memory, seed) trains one `MemoryAgent` on whole episodes of the oracle: cross-entropy at the three
steps of the walk, everything before is memory. All episodes of a level have the same length, and every update has fresh
ones. Then the agent itself plays, on episodes of another seed, the same for all cells. What ``--work`` holds is kept:
finished cells are not trained again, a cell that was stopped goes on where it stood and ends with the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.agent import AgentConfig, MemoryAgent, PolicyAgent, save_agent
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.statistics import summarise, summarise_difference
from embodied_mem.files import atomic_file, atomic_write_json, read_json
from embodied_mem.memory.hcam import HCAM
from embodied_mem.perception.encoder import EncoderConfig
from embodied_mem.policies.scripted.memory_tasks import BalletOracle
from embodied_mem.results import make_result

FILE = Path(__file__).resolve().parent / "results" / "ballet_imitation.json"
WALK = 3
"""Steps from the middle to any dancer."""
PLAY_SEED = 900_000_000
"""Seed of the episodes that trained agents play; training seeds are the cells'."""
MEMORIES: dict[str, dict[str, Any]] = {
    "hcam": {"memory": "hcam", "memory_config": {"chunks": 4, "chunk_steps": 31, "top_k": 4, "heads": 4}},
    "lstm": {"memory": "lstm"},
    "none": {"memory": "none"},
}
"""Row -> memory and its options; all read and return ``width`` numbers. At delay 16 a turn takes 31 steps."""


@dataclass(frozen=True)
class BalletConfig:
    """What all cells share."""

    width: int = 64
    """Width of features and of the memory's output."""
    hidden: int = 64
    """Rectified units between the show and its features. Most dances are symmetric: the mean of linear features over
    one says nothing about it."""
    batch: int = 64
    """Episodes of an update."""
    pool: int = 16
    """Updates whose episodes are played at once."""
    updates: int = 4000
    """Optimiser steps at most."""
    lr: float = 2e-3
    """Adam's learning rate, reached in ``warmup`` updates."""
    warmup: int = 100
    """Updates over which the learning rate rises."""
    grad_clip: float = 1.0
    """Global gradient-norm limit."""
    solved: float = 0.995
    """Running accuracy at the first step of the walk at which training ends."""
    cpu_seconds: float = 600.0
    """CPU seconds after which training ends."""
    episodes: int = 500
    """Episodes that the trained agent plays."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of every memory, over those of its row."""

    def __post_init__(self) -> None:
        for name in ("width", "hidden", "batch", "pool", "updates", "episodes"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")


class Trainer:
    """One cell. `run` trains to the end or to a time limit; `save` and the constructor are its file form."""

    def __init__(self, config: BalletConfig, level: str, row: str, seed: int, file: Path) -> None:
        """Build the agent, or read it and the state of the optimiser from ``file`` where that is there.

        Raises:
            UsageError: there is no such row or level.
        """
        if row not in MEMORIES:
            raise UsageError(f"unknown memory {row!r}; available: {', '.join(MEMORIES)}")
        self.config, self.level, self.seed, self.file = config, level, seed, file
        look = env_options(level)
        # pictures of one update are 0.25 GB
        self.batches = 1 if look["obs"] == "pixels" else config.pool
        self.env = make_vec("Ballet-v0", config.batch * self.batches, autoreset_mode="DISABLED", **look)
        memory = MEMORIES[row]
        own = {"out_dim": config.width, **memory.get("memory_config", {}), **config.options}
        layers: dict[str, dict] = {"vector": {"hidden": [config.hidden], "activation": "relu"}}
        encoder = EncoderConfig(out_dim=config.width, options={} if look["obs"] == "pixels" else layers)
        agent = AgentConfig(encoder, memory=memory["memory"], memory_config=own)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.agent = MemoryAgent.build(agent, self.env.single_observation_space, self.env.single_action_space)
        self.optimiser = torch.optim.Adam(self.agent.parameters(), lr=config.lr)
        self.update, self.accuracy, self.cpu_seconds = 0, 0.0, 0.0
        self._pool: tuple[int, dict[str, Tensor], Tensor] | None = None
        if file.is_file():
            self._restore()

    @property
    def done(self) -> bool:
        """Whether training has ended."""
        c = self.config
        return self.update >= c.updates or self.accuracy >= c.solved or self.cpu_seconds >= c.cpu_seconds

    def run(self, until: float = math.inf, report: int = 200) -> None:
        """Train until done or until this process has used ``until`` CPU seconds."""
        began, before = time.process_time(), self.cpu_seconds
        saved = began
        self.agent.train()
        while not self.done and time.process_time() < until:
            self._learn()
            now = time.process_time()
            self.cpu_seconds = before + now - began
            if now - saved > 60:
                self.save()
                saved = now
            if self.update % report == 0:
                print(f"{self.file.parent} {self.update} {self.accuracy:.3f} {self.cpu_seconds:.0f} s", flush=True)
        self.save()

    def _learn(self) -> None:
        """Make one update on fresh episodes, which depend on the seed and the number of the update alone."""
        c = self.config
        obs, actions = self._batch(self.update)
        # in two calls: of the show only what is remembered counts, so nothing goes back through what was read there
        seen = self.agent.encoder({key: value[:, :-WALK] for key, value in obs.items()})
        memory = self.agent.memory
        state = memory.write(seen) if isinstance(memory, HCAM) else memory.sequence(seen)[1]
        logits = self.agent.sequence({key: value[:, -WALK:] for key, value in obs.items()}, state)[0]
        loss = F.cross_entropy(logits.flatten(0, 1), actions.flatten())
        for group in self.optimiser.param_groups:
            group["lr"] = c.lr * min(1.0, (self.update + 1) / c.warmup)
        self.optimiser.zero_grad(set_to_none=True)
        extra = list(self.agent.memory.aux_losses().values())
        (loss + torch.stack(extra).sum() if extra else loss).backward()
        nn.utils.clip_grad_norm_(self.agent.parameters(), c.grad_clip)
        self.optimiser.step()
        right = (logits[:, 0].argmax(-1) == actions[:, 0]).float().mean().item()
        self.accuracy += 0.02 * (right - self.accuracy)
        self.update += 1

    def _batch(self, update: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return observations (B, T, ...) and the oracle's actions (B, 3) of the walk."""
        c = self.config
        number, part = divmod(update, self.batches)
        if self._pool is None or self._pool[0] != number:
            self._pool = (number, *show(self.env, self.seed, number * self.batches * c.batch))
        rows = slice(part * c.batch, (part + 1) * c.batch)
        return {key: value[rows] for key, value in self._pool[1].items()}, self._pool[2][rows]

    def save(self) -> None:
        """Write the cell, complete or not at all."""
        tensors = {f"agent/{key}": value for key, value in self.agent.state_dict().items()}
        for index, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam/{index}/{key}": torch.as_tensor(value) for key, value in entry.items()}
        loop = {"update": self.update, "accuracy": self.accuracy, "cpu_seconds": self.cpu_seconds}
        with atomic_file(self.file) as path:
            save_file({key: value.contiguous() for key, value in tensors.items()}, path, {"loop": json.dumps(loop)})

    def _restore(self) -> None:
        with safe_open(self.file, "pt") as stored:
            loop = json.loads(stored.metadata()["loop"])
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}
        self.update, self.accuracy, self.cpu_seconds = loop["update"], loop["accuracy"], loop["cpu_seconds"]
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, _, rest = key.partition("/")
            if kind == "adam":
                index, _, name = rest.partition("/")
                state.setdefault(int(index), {})[name] = value
        self.agent.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("agent/")})
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})


def env_options(level: str) -> dict[str, Any]:
    """Return the environment's options of a level, which may end in ``-pixels``."""
    name, _, obs = level.partition("-")
    return {"levels": name, "obs": obs or "symbolic"}


def show(env: Any, seed: int, first: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return what is seen in episodes ``first`` to ``first + N - 1`` of a seed, and where the oracle walks.

    Returns:
        Observations (N, T, ...) up to the last step of the walk, and its actions (N, 3) int64.
    """
    n = env.num_envs
    oracle, seen, actions = BalletOracle(), [], []
    everyone = np.ones(n, bool)
    obs, _ = env.reset(seed=seed, options={"reset_mask": everyone, "episode": first + np.arange(n)})
    while True:
        seen.append(obs)
        action = oracle.choose(env.unwrapped.privileged())
        actions.append(action)
        obs, _, terminated, truncated, _ = env.step(action)
        if (terminated | truncated).any():
            break
    assert terminated.all(), "all episodes of a level have the same length"
    named = {key: torch.from_numpy(np.stack([frame[key] for frame in seen], 1)) for key in seen[0]}
    return named, torch.from_numpy(np.stack(actions[-WALK:], 1)).long()


def play(agent: MemoryAgent, level: str, episodes: int, rows: int = 250) -> np.ndarray:
    """Return success (episodes,) of the agent's own play on the episodes of `PLAY_SEED`."""
    policy, found = PolicyAgent(agent), []
    for first in range(0, episodes, rows):
        n = min(rows, episodes - first)
        with closing(make_vec("Ballet-v0", n, autoreset_mode="DISABLED", **env_options(level))) as env:
            numbers = first + np.arange(n)
            obs, _ = env.reset(seed=PLAY_SEED, options={"reset_mask": np.ones(n, bool), "episode": numbers})
            state, reset, done = policy.initial_state(n), np.ones(n, bool), np.zeros(n, bool)
            success = np.zeros(n, bool)
            while not done.all():
                action, state, _ = policy.act(obs, state, reset)
                obs, _, terminated, truncated, info = env.step(action)
                reset, ended = np.zeros(n, bool), (terminated | truncated) & ~done
                success |= ended & np.asarray(info.get("success", success))
                done |= ended
            found.append(success)
    return np.concatenate(found).astype(float)


def cell(config: BalletConfig, level: str, row: str, seed: int, work: Path, until: float) -> dict[str, Any] | None:
    """Train and play one cell where that is not done yet; return its record, None where time ran out before."""
    folder = work / level / row / f"seed{seed}"
    if (folder / "result.json").is_file():
        return read_json(folder / "result.json")
    trainer = Trainer(config, level, row, seed, folder / "learner.safetensors")
    trainer.run(until)
    if not trainer.done:
        return None
    success = play(trainer.agent, level, config.episodes)
    about = {"env": "embodied_mem/Ballet-v0", "env_config": env_options(level), "seed": seed}
    save_agent(folder / "agent", trainer.agent, about=about)
    record = {
        "success": success.tolist(),
        "updates": trainer.update,
        "accuracy": trainer.accuracy,
        "cpu_seconds": round(trainer.cpu_seconds, 1),
        "parameters": sum(value.numel() for value in trainer.agent.parameters()),
    }
    atomic_write_json(folder / "result.json", record)
    print(level, row, seed, {**record, "success": success.mean()}, flush=True)
    return record


def table(records: Mapping[tuple[str, str, int], Mapping[str, Any]], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result: per level the first memory, the others as its controls, and paired differences."""
    levels = list(dict.fromkeys(level for level, _, _ in records))
    rows = list(dict.fromkeys(row for _, row, _ in records))
    main = rows[0]

    def runs(level: str, row: str) -> list[np.ndarray]:
        return [np.array(value["success"]) for key, value in records.items() if key[:2] == (level, row)]

    tasks: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for level in levels:
        cells = {}
        for row in rows:
            if not runs(level, row):
                continue
            own = [value for key, value in records.items() if key[:2] == (level, row)]
            cells[row] = {
                "success": summarise([[run] for run in runs(level, row)], "rate"),
                "updates": summarise([[np.array([float(value["updates"])])] for value in own], "mean"),
                "cpu_seconds": summarise([[np.array([float(value["cpu_seconds"])])] for value in own], "mean"),
            }
        for other in rows[1:]:
            pairs = list(zip(runs(level, main), runs(level, other), strict=False))
            if pairs:
                name = f"{level}_{main}_minus_{other}"
                metrics[name] = summarise_difference([[one - two] for one, two in pairs])
        played = sum(len(run) for run in runs(level, main))
        first = cells.pop(main, {})
        metrics |= {f"{level}_success": first["success"]} if first else {}
        tasks[f"Ballet-v0:{level}"] = {"metrics": first, "controls": cells, "episodes": played}
    parameters = {row: next(v["parameters"] for key, v in records.items() if key[1] == row) for row in rows}
    return make_result(
        "experiment",
        main,
        config,
        metrics,
        seeds=sorted({key[2] for key in records}),
        episodes=sum(len(value["success"]) for value in records.values()),
        tasks=tasks,
        seconds=sum(float(value["cpu_seconds"]) for value in records.values()),
        notes=[
            "success of chance, and of every memoryless agent: 1 / dancers",
            "parameters of the whole agent: " + ", ".join(f"{row} {count:,}" for row, count in parameters.items()),
            "seconds are CPU seconds of all training on one thread; differences are paired by episode and seed",
        ],
    )


def main(words: Sequence[str] | None = None) -> None:
    """Make the cells and write the file; cells that are not done in time are left out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default="2_delay16,4_delay16")
    parser.add_argument("--memories", default="hcam,lstm", help=f"of {', '.join(MEMORIES)}; the first is the subject")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[], help="key=value of the configuration")
    parser.add_argument("--minutes", type=float, default=math.inf, help="CPU minutes after which nothing goes on")
    parser.add_argument("--work", type=Path, default=Path("runs/ballet-imitation"))
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args(words)
    from embodied_mem.config import from_dict, parse_overrides

    torch.set_num_threads(1)
    config = from_dict(BalletConfig, parse_overrides(given.set))
    records: dict[tuple[str, str, int], dict[str, Any]] = {}
    left: list[str] = []
    for seed in map(int, given.seeds.split(",")):
        for level in given.levels.split(","):
            for row in given.memories.split(","):
                found = cell(config, level, row, seed, given.work, 60 * given.minutes)
                if found is None:
                    left.append(f"{level} {row} seed {seed}")
                else:
                    records[level, row, seed] = found
    if not records:
        raise UsageError("no cell was done in the time given; the command goes on where it stopped")
    command = f"python -m embodied_mem.experiments.ballet_imitation --levels {given.levels} --memories {given.memories}"
    command += f" --seeds {given.seeds}" + "".join(f" --set {word}" for word in given.set)
    result = table(records, {**asdict(config), "memories": MEMORIES, "command_line": command})
    if left:
        result["notes"].append(f"not done: {'; '.join(left)}")
    atomic_write_json(given.out, result)


if __name__ == "__main__":
    main()
