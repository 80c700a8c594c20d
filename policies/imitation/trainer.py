"""`ImitationSeed`: one seed of an imitation run: updates, moving average, rows, checkpoints, the agent's bundle.

Everything random of an update (batch, noise, dropped conditions) is drawn from the seed and the update's number, so a
run that was killed and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embodied_mem._version import __version__
from embodied_mem.agent import save_agent
from embodied_mem.config import override, to_dict
from embodied_mem.devices import resolve_device
from embodied_mem.envs.make import make_vec
from embodied_mem.files import atomic_write_json
from embodied_mem.memory.contract import State, detach
from embodied_mem.policies.imitation.batches import Batch, Batches, check_order, returns_to_go
from embodied_mem.policies.imitation.config import ImitationRunConfig
from embodied_mem.policies.imitation.demonstrations import demonstrations
from embodied_mem.policies.imitation.episode import play_episodes
from embodied_mem.policies.imitation.peers import Alone, Peers, add_gradients, agree
from embodied_mem.policies.training.checkpoints import list_checkpoints, open_checkpoint, save_checkpoint
from embodied_mem.policies.training.cpu_time import CpuMeter
from embodied_mem.policies.training.loggers import Logger, make_loggers
from embodied_mem.policies.training.records import append_row, cut_rows
from embodied_mem.policies.training.seed_run import AGENT_FOLDER, CONFIG_FILE, RESULT_FILE, Row
from embodied_mem.policies.vla.agent import VLAAgent
from embodied_mem.policies.vla.base import TokenPolicy
from embodied_mem.policies.vla.policy import make_policy

LEARNER, LEARNER_FILE = "learner", "learner.safetensors"
"""Folder and file of the learner's tensors in a checkpoint."""
ROLLOUT_SEED = 500_000_000
"""Added to the seed of the run for the episodes of its result: neither those of demonstrations nor of a suite."""
_ROWS = 32


class ImitationSeed:
    """A running seed. `iterate` until `done`, then `finish`; `close` in any case."""

    def __init__(
        self,
        config: Any,
        name: str,
        seed: int,
        directory: Path,
        episodes: Any,
        *,
        resume: bool = False,
        peers: Peers | None = None,
    ) -> None:
        """Build policy and optimiser; with ``resume``, from the newest checkpoint where there is one.

        Args:
            config: of the run (`ImitationRunConfig`, or what a subclass takes); its seed is replaced by ``seed``.
            name: of the run (preset).
            seed: of this part.
            directory: folder of this seed, made if absent.
            episodes: demonstrations, a sequence of `Episode` or what a subclass takes.
            resume: go on from the newest checkpoint.
            peers: processes that learn with this one; every one of them makes the same calls.

        Raises:
            UsageError: the settings do not fit together, or the checkpoint is corrupted.
        """
        self.peers: Peers = peers or Alone()
        self.config = override(config, {"train.seed": seed})
        self.name, self.seed, self.directory = name, seed, directory
        train = self.config.train
        if train.torch_threads:
            torch.set_num_threads(train.torch_threads)
        self.device = torch.device(resolve_device(train.device))
        self.half = train.precision == "bfloat16" or (train.precision == "auto" and self.device.type == "cuda")
        self.policy, self.batches = self._prepare(episodes)
        self.average = copy.deepcopy(self.policy).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_groups(self.policy, train.weight_decay), lr=train.lr, betas=(0.9, 0.95))
        self.update = self.frames = self.iteration = 0
        self.rows: list[Row] = []
        self._carried: State | None = None
        self._last: tuple[Tensor, Tensor] | None = None
        self._whole: dict[str, Tensor] = {}
        self._seconds = self._cpu_seconds = 0.0
        self._loggers: list[Logger] = []
        if resume:
            self._restore()
        elif self.first:
            cut_rows(directory, 0)
        if self.first:
            values = {"name": name, "seed": seed, "version": __version__, "config": to_dict(self.config)}
            atomic_write_json(directory / CONFIG_FILE, values)
            self._loggers = make_loggers(self.config.log, directory, name, seed, values, self.iteration)
        self._saved_at = (self.iteration, time.monotonic())
        self._started, self._cpu = time.monotonic(), CpuMeter()

    @property
    def first(self) -> bool:
        """True in the process that writes the files."""
        return self.peers.rank == 0

    @classmethod
    def check(cls, config: Any) -> None:
        """Build the policy of a run once, before anything is recorded.

        Raises:
            UsageError: its parts do not fit together.
        """
        build_policy(config)

    @classmethod
    def gather(cls, config: Any, out: Path) -> Any:
        """Return the demonstrations of a run, kept in its folder ``out``.

        Raises:
            UsageError: as `demonstrations`.
        """
        return demonstrations(config.train.env, config.train.env_config, config.train.demos, out)

    def _prepare(self, episodes: Any) -> tuple[Any, Any]:
        """Return the policy on its device and what batches are made from, which has ``lengths`` (episodes,)."""
        train = self.config.train
        policy = build_policy(self.config, self.seed).to(self.device)
        policy.fit(
            np.concatenate([item.state for item in episodes]),
            np.concatenate([item.actions for item in episodes]),
            np.concatenate([returns_to_go(item) for item in episodes]),
        )
        text = policy.observation_space["instruction"].shape[0] if policy.perception.told else 0  # type: ignore[index]
        return policy, Batches(episodes, train.batch, policy.chunk, self.seed, text)

    def iterate(self) -> Row:
        """Run ``report_every`` updates, write their row, and a checkpoint when one is due. Returns the row.

        Raises:
            OSError: the row or the checkpoint could not be written.
        """
        train = self.config.train
        count = min(train.report_every, train.updates - self.update)
        losses, norms = zip(*[self._learn() for _ in range(count)])
        self.iteration += 1
        row: Row = {
            "iteration": self.iteration,
            "env_steps": self.frames,
            "updates": self.update,
            "episodes": len(self.batches.lengths),
            "return_mean": None,
            "success_mean": None,
            "length_mean": float(self.batches.lengths.mean()),
            "loss": float(torch.stack(losses).mean()),
            "gradient_norm": float(torch.stack(norms).mean()),
            "learning_rate": self.optimiser.param_groups[0]["lr"],
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self._cpu_spent(), 3),
        }
        if self.first:
            append_row(self.directory, row)
        self.rows.append(row)
        for logger in self._loggers:
            logger.log(row)
        every = self.config.checkpoint
        since = self.iteration - self._saved_at[0]
        due = (every.iterations is not None and since >= every.iterations) or (
            time.monotonic() - self._saved_at[1] >= every.seconds
        )
        if agree(self.peers, due, self.device):
            self.save()
        return row

    @property
    def seconds(self) -> float:
        """Wall seconds of learning, earlier attempts included."""
        return self._seconds + time.monotonic() - self._started

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1], by the limit that is nearest."""
        return share_done(self.config, self.rows[-1]) if self.rows else 0.0

    @property
    def done(self) -> bool:
        """True when all updates are made or a stop criterion is met."""
        return self.progress >= 1.0

    def save(self) -> None:
        """Write a checkpoint of the finished iterations.

        Raises:
            OSError: it could not be written.
        """
        loop = {
            "iteration": self.iteration,
            "update": self.update,
            "frames": self.frames,
            "seconds": self.seconds,
            "cpu_seconds": self._cpu_spent(),
        }
        keep = self.config.checkpoint.keep
        self._whole = self._carried_by_all()
        if self.first:
            save_checkpoint(self.directory, self.iteration, loop, self._write, keep, LEARNER)
        self._saved_at = (self.iteration, time.monotonic())

    def finish(self) -> dict[str, Any]:
        """Write the last checkpoint and the averaged policy's bundle, let it play, and return the result.

        Other processes than the first return an empty one.
        """
        if self._saved_at[0] != self.iteration:
            self.save()
        if not self.first:
            return {}
        last = dict(self.rows[-1]) if self.rows else {}
        train = self.config.train
        about: dict[str, Any] = {"name": self.name, "env": train.env, "env_config": train.env_config}
        about |= {"algorithm": train.algorithm, "seed": self.seed, "env_steps": last.get("env_steps")}
        save_agent(self.directory / AGENT_FOLDER, self.average, about=about)
        played = self._roll_out()
        reason = "updates" if self.update >= train.updates else "stop"
        result = {"seed": self.seed, "reason": reason, **last, **played}
        atomic_write_json(self.directory / RESULT_FILE, result)
        return result

    def close(self) -> None:
        """Stop the loggers."""
        for logger in self._loggers:
            logger.close()

    def _learn(self) -> tuple[Tensor, Tensor]:
        """Make one update; return loss () and gradient norm (), on the device."""
        train = self.config.train
        generator = torch.Generator(self.device).manual_seed((self.seed << 32) + self.update)
        self.policy.train()
        loss = self._loss(generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.peers.count > 1:
            loss = add_gradients(self.peers, self.policy.parameters(), loss)
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), train.grad_clip)
        for group in self.optimiser.param_groups:
            group["lr"] = train.lr * _shape(self.update, train.warmup, train.updates)
        self.optimiser.step()
        self.update += 1
        self._follow()
        return loss.detach(), norm

    def _loss(self, generator: torch.Generator) -> Tensor:
        """Return the loss () of this update's batch, or of this process's part of it, and count all its frames."""
        peers = self.peers
        batch, part = self.batches.part(self.update, peers.rank, peers.count)
        stream = self.config.train.batch.mode == "stream"
        self._last = check_order(batch, self._last if stream else None)
        self.frames += part[1]
        batch = _to(batch, self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            loss, state = self.policy.loss(batch, self._carried, generator, part)
        self._carried = detach(state) if stream else None
        if peers.count == 1:
            return loss
        counted = self.policy.counted(batch).float()
        return loss * (counted / peers.add(counted.clone()))

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights; the decay rises with the updates, so that the first ones are soon forgotten."""
        decay = min(self.config.train.ema, (1 + self.update) / (10 + self.update))
        averages: list[Tensor] = list(self.average.parameters())
        latest: list[Tensor] = list(self.policy.parameters())
        torch._foreach_lerp_(averages, latest, 1.0 - decay)

    def _roll_out(self) -> dict[str, Any]:
        """Let the averaged policy play; returns figures for the result."""
        train = self.config.train
        if not train.rollouts:
            return {}
        rows = min(_ROWS, train.rollouts)
        with closing(make_vec(train.env, rows, autoreset_mode=AutoresetMode.DISABLED, **train.env_config)) as env:
            played = play_episodes(env, VLAAgent(self.average), train.rollouts, ROLLOUT_SEED + self.seed)
        rate = float(np.mean([item.success for item in played]))
        return {"success_mean": rate, "length_mean": float(np.mean([len(item) for item in played]))}

    def _write(self, folder: Path) -> None:
        folder.mkdir()
        tensors = {f"policy/{key}": value for key, value in self.policy.state_dict().items()}
        tensors |= {f"average/{key}": value for key, value in self.average.state_dict().items()}
        for index, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{key}": torch.as_tensor(value) for key, value in entry.items()}
        tensors |= self._whole
        plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
        save_file(plain, folder / LEARNER_FILE)

    def _carried_by_all(self) -> dict[str, Tensor]:
        """Return what the memories of all rows carry, and the frames they have read last, by name in a checkpoint."""
        if self._carried is None or self._last is None:
            return {}
        tensors = {f"carried/{key}": value for key, value in self._carried.items()}
        tensors |= {"last/episode": self._last[0], "last/time": self._last[1]}
        return {key: self.peers.join(tensors[key].to(self.device)) for key in sorted(tensors)}

    def _cpu_spent(self) -> float:
        """Return the CPU seconds of learning of all processes, earlier attempts included; all must call it."""
        now = torch.tensor(self._cpu.seconds(), dtype=torch.float64, device=self.device)
        return self._cpu_seconds + float(self.peers.add(now))

    def _restore(self) -> None:
        checkpoints = list_checkpoints(self.directory)
        if not checkpoints:
            if self.first:
                cut_rows(self.directory, 0)
            return
        loop, folder = open_checkpoint(checkpoints[-1], LEARNER)
        self.iteration, self.update, self.frames = loop["iteration"], loop["update"], loop["frames"]
        self._seconds, self._cpu_seconds = loop["seconds"], loop["cpu_seconds"]
        # the rows before the checkpoint are the first process's; it alone says when the run is done
        self.rows = cut_rows(self.directory, self.iteration) if self.first else []
        groups: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(folder / LEARNER_FILE).items():
            head, _, rest = key.partition("/")
            groups.setdefault(head, {})[rest] = value.to(self.device)
        self.policy.load_state_dict(groups["policy"])
        self.average.load_state_dict(groups["average"])
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in groups.get("optimiser", {}).items():
            index, _, item = key.partition("/")
            state.setdefault(int(index), {})[item] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        if "carried" in groups:
            size = self.config.train.batch.rows // self.peers.count
            mine = slice(self.peers.rank * size, (self.peers.rank + 1) * size)
            self._carried = {key: value[mine].clone() for key, value in groups["carried"].items()}
            self._last = (groups["last"]["episode"][mine].cpu(), groups["last"]["time"][mine].cpu())


def share_done(config: Any, row: Mapping[str, Any]) -> float:
    """Return the share of a run that is done after the iteration of ``row``, in [0, 1], by the nearest limit."""
    stop = config.stop
    limits = {"updates": config.train.updates, "env_steps": stop.env_steps, "iteration": stop.iterations}
    limits |= {"seconds": stop.seconds, "cpu_seconds": stop.cpu_seconds}
    return min(1.0, max(row[key] / limit for key, limit in limits.items() if limit))


def build_policy(config: ImitationRunConfig, seed: int = 0) -> TokenPolicy:
    """Return a fresh policy for the run's environment.

    Raises:
        UsageError: the environment cannot be made, or the parts do not fit it.
    """
    train = config.train
    observations, actions = spaces_of(train.env, train.env_config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_policy(train.agent, observations, actions)


def spaces_of(env_id: str, env_config: dict[str, Any]) -> tuple[gymnasium.Space, gymnasium.Space]:
    """Return the single-env observation and action space of an environment.

    Raises:
        UsageError: it cannot be made.
    """
    with closing(make_vec(env_id, 1, autoreset_mode=AutoresetMode.DISABLED, **env_config)) as env:
        return env.single_observation_space, env.single_action_space


def _groups(policy: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return parameter groups: matrices decay, vectors (biases, norms) do not; frozen weights are left out."""
    learned = [item for item in policy.parameters() if item.requires_grad]
    return [
        {"params": [item for item in learned if item.dim() >= 2], "weight_decay": decay},
        {"params": [item for item in learned if item.dim() < 2], "weight_decay": 0.0},
    ]


def _shape(update: int, warmup: int, updates: int) -> float:
    """Return the share of the highest learning rate: a straight rise, then a cosine to 0."""
    if update < warmup:
        return (update + 1) / warmup
    return 0.5 * (1.0 + math.cos(math.pi * (update - warmup) / max(updates - warmup, 1)))


def _to(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    obs = {key: value.to(device, non_blocking=True) for key, value in batch.obs.items()}
    return Batch(obs, *(value.to(device, non_blocking=True) for value in batch[1:]))
