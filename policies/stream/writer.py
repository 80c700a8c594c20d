"""The writer of ``taskmem`` as an RLlib module, trained with PPO on the reward of questions.

    policy   value ~ N(w . f, exp(s)),  w the adapter (D + 2 numbers), s one number
    critic   a small network of the features, used in training only

What is kept of a run is w: in a stream memory it decides by the sign of w . f, without Ray and without noise. TaskMem
(2026, arXiv 2605.31075) tunes 2048 numbers on a frozen language model; here they stand on the features of frames.

    python -m embodied_mem.policies.stream.writer --out runs/writer     # on walks through painted houses
    embodied-mem ask house-tour:short --memory taskmem --set memory.adapter=runs/writer/adapter.safetensors -q ...
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_write_json
from embodied_mem.policies.stream.memorise import Draw, HouseEpisodes, MemoriseEnv
from embodied_mem.stream.memories.task_mem import Learned, TaskMem, TaskMemConfig, save_adapter

_ENV = "embodied_mem-memorise"


@dataclass(frozen=True)
class WriterConfig:
    """How an adapter is trained."""

    slots: int = 64
    """Frames that the memory holds."""
    iterations: int = 60
    """Rounds of rollouts and updates."""
    batch: int = 4096
    """Frames per round."""
    envs: int = 8
    """Streams side by side in each env runner."""
    runners: int = 0
    """Env runners in processes of their own; 0 for one in this process."""
    rate: float = 3e-3
    """Step of the optimiser."""
    epochs: int = 8
    """Passes over a round's frames."""
    entropy: float = 1e-3
    """Weight of the entropy."""
    seed: int = 0
    """Of streams, noise and weights."""

    def __post_init__(self) -> None:
        for name in ("slots", "iterations", "batch", "envs", "epochs"):
            if getattr(self, name) < 1:
                raise UsageError(f"expected {name} >= 1, got {getattr(self, name)}")
        if self.runners < 0 or self.rate <= 0:
            raise UsageError(f"expected runners >= 0 and rate > 0, got {self.runners} and {self.rate}")


class WriterModule(TorchRLModule, ValueFunctionAPI):
    """A linear policy of the features, and a critic."""

    observation_space: spaces.Box

    def setup(self) -> None:
        """Build both; the policy begins by writing everything, as the untrained memory does."""
        width = self.observation_space.shape[0]
        self.adapter = nn.Parameter(torch.zeros(width))
        self.log_std = nn.Parameter(torch.zeros(1))
        self.critic = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 1))

    def _forward(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Tensor]:
        mean = (batch[Columns.OBS] @ self.adapter)[..., None]
        return {Columns.ACTION_DIST_INPUTS: torch.cat([mean, self.log_std.expand_as(mean)], -1)}

    def compute_values(self, batch: Mapping[str, Any], embeddings: Any = None) -> Tensor:
        """Return values (B,) float32."""
        return self.critic(batch[Columns.OBS])[..., 0]


def train_writer(
    draw: Draw, config: WriterConfig | None = None, report: Callable[[int, dict[str, float]], None] | None = None
) -> tuple[Learned, list[float]]:
    """Return the adapter, for `TaskMem.load_adapter`, and the mean share of questions answered in every round.

    Ray has to be running already (`private_ray.start_private_ray`, or ``ray.init``).

    Args:
        draw: seed -> episode.
        config: see `WriterConfig`.
        report: called with the round and its figures.
    """
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.tune.registry import register_env

    c = config or WriterConfig()
    register_env(_ENV, lambda given: MemoriseEnv(draw, slots=c.slots))
    made = (
        PPOConfig()
        .environment(_ENV, normalize_actions=False, clip_actions=False, disable_env_checking=True)
        .env_runners(num_env_runners=c.runners, num_envs_per_env_runner=c.envs)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=WriterModule))
        .training(
            lr=c.rate, gamma=1.0, lambda_=0.95, train_batch_size_per_learner=c.batch,
            minibatch_size=min(c.batch, 512), num_epochs=c.epochs, entropy_coeff=c.entropy, grad_clip=1.0,
        )
        .debugging(seed=c.seed, log_level="ERROR")
    )  # fmt: skip
    algo = made.build_algo()
    shares = []
    try:
        for number in range(c.iterations):
            found = algo.train()["env_runners"]
            share = float(found.get("episode_return_mean", float("nan")))
            shares.append(share)
            if report is not None:
                report(number, {"answered": share, "episodes": float(found.get("num_episodes", 0))})
        module: Any = algo.get_module()
        adapter = module.adapter.detach().cpu().double().numpy()
    finally:
        algo.stop()
    return {"adapter": adapter, "baseline": np.array([shares[-1], float(len(shares))])}, shares


def answered(draw: Draw, seeds: Sequence[int], slots: int, learned: Learned | None = None) -> list[float]:
    """Return the share of questions answered of every stream, written without noise.

    Args:
        draw: seed -> episode.
        seeds: of the streams.
        slots: frames that the memory holds.
        learned: adapter; None for the untrained one (`last_k`).
    """
    shares = []
    for seed in seeds:
        episode, memory = draw(seed), TaskMem(TaskMemConfig(slots=slots))
        if learned is not None:
            memory.load_adapter(learned)
        right, asked = 0.0, 0
        for frame, (tokens, t_s) in enumerate(zip(episode.tokens, episode.times)):
            memory.write(tokens, float(t_s))
            until = episode.times[frame + 1] if frame + 1 < len(episode.times) else np.inf
            while asked < len(episode.questions) and episode.questions[asked][0] < until:
                right += episode.questions[asked][1](memory.snapshot())
                asked += 1
        shares.append(right / len(episode.questions))
    return shares


def main(words: Sequence[str] | None = None) -> None:
    """Train on walks through painted houses and write ``adapter.safetensors`` and ``result.json``."""
    from embodied_mem.private_ray import start_private_ray

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=300)
    for name, value in asdict(WriterConfig()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    chosen = vars(parser.parse_args(words))
    out, seconds = chosen.pop("out"), chosen.pop("seconds")
    config = WriterConfig(**chosen)
    start_private_ray(num_cpus=1 + config.runners)
    train, test = HouseEpisodes(seconds), HouseEpisodes(seconds, split="test")
    learned, shares = train_writer(
        train, config, lambda number, found: print(f"{number} {found['answered']:.3f}", flush=True)
    )
    out.mkdir(parents=True, exist_ok=True)
    save_adapter(out / "adapter.safetensors", learned)
    seeds = range(20)
    ours, plain = answered(test, seeds, config.slots, learned), answered(test, seeds, config.slots)
    settings = {**asdict(config), "seconds": seconds}
    atomic_write_json(
        out / "result.json", {"config": settings, "training": shares, "test": ours, "test_untrained": plain}
    )
    print(f"{np.mean(ours):.3f} of the questions, {np.mean(plain):.3f} untrained")


if __name__ == "__main__":
    main()
