"""One seed of street imitation: lessons, the loss of whole walks, and what the agent does in the unseen area."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor

from embodied_mem.agent import Agent, MemoryAgent, PolicyAgent
from embodied_mem.envs.make import make_vec
from embodied_mem.envs.street.episodes import ACTIONS
from embodied_mem.policies.imitation.trainer import ImitationSeed, spaces_of
from embodied_mem.policies.navigation.config import StreetRunConfig
from embodied_mem.policies.navigation.following import counting_loss, following_loss, log_success
from embodied_mem.policies.navigation.lessons import Lesson, Lessons, lesson_env, record_lessons

STOP = ACTIONS.index("stop")
ROLLOUT_SEED = 4_000_000
"""World seed of the synthetic episodes of a run's result, which no lesson has."""


class StreetSeed(ImitationSeed):
    """A running seed of street imitation."""

    @classmethod
    def check(cls, config: StreetRunConfig) -> None:
        """Build the agent of a run once.

        Raises:
            UsageError: its parts do not fit together.
        """
        build_street_agent(config)

    @classmethod
    def gather(cls, config: StreetRunConfig, out: Path) -> Lessons:
        """Return the lessons; they are made anew by a resumed run, and equal."""
        train = config.train
        assert train.agent.reader is not None
        return record_lessons(train.env, train.env_config, train.lessons, train.agent.reader.words)

    def _prepare(self, episodes: Lessons) -> tuple[MemoryAgent, Lessons]:
        return build_street_agent(self.config, self.seed).to(self.device), episodes

    def _loss(self, generator: torch.Generator) -> Tensor:
        train = self.config.train
        draw = np.random.default_rng((self.seed, 1, self.update))
        chosen = draw.integers(0, len(self.batches.lengths), train.rows)
        lesson = self.batches.batch(chosen, draw)
        self.frames += int(lesson.valid.sum())
        if self.device.type != "cpu":
            lesson = _to(lesson, self.device)
        assert self.policy.reader is not None
        tokens = self.policy.reader.hide(lesson.tokens, train.hide, generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits, remembered = self.policy.follow(lesson.obs, tokens)
        moves, ending = log_success(logits.float(), lesson.target, lesson.good, lesson.valid, STOP)
        share = self.update / train.updates
        turned = max(0.0, share - train.decide_from) / max(1.0 - train.decide_from, 1e-9)
        loss = following_loss(moves, ending, train.decide * min(1.0, 2.0 * turned))
        return loss + train.guide * counting_loss(remembered.float(), lesson.counts) if train.guide else loss

    def _roll_out(self) -> dict[str, Any]:
        """Let the averaged agent play synthetic episodes of the area that no lesson comes from."""
        train = self.config.train
        rates = {}
        for style in train.lessons.styles if train.rollouts else ():
            options = lesson_env(train.env_config, style, train.rollouts, ROLLOUT_SEED, "test")
            with closing(make_vec(train.env, train.rollouts, autoreset_mode=AutoresetMode.DISABLED, **options)) as env:
                rates[style] = play_success(env, PolicyAgent(self.average), self.seed)
        found: dict[str, Any] = {f"success_{style}": rate for style, rate in rates.items()}
        return {**found, "success_mean": float(np.mean(list(rates.values())))} if rates else {}


def build_street_agent(config: StreetRunConfig, seed: int = 0) -> MemoryAgent:
    """Return a fresh agent for the run's environment.

    Raises:
        UsageError: the environment cannot be made, or the parts do not fit it.
    """
    train = config.train
    spaces = spaces_of(train.env, train.env_config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MemoryAgent.build(train.agent, *spaces)


def play_success(env: VectorEnv, agent: Agent, seed: int) -> float:
    """Return the success rate of an agent on the first N listed episodes, one per row."""
    n = env.num_envs
    every = np.ones(n, bool)
    obs, _ = env.reset(seed=seed, options={"reset_mask": every, "episode": np.arange(n)})
    state, reset = agent.initial_state(n, seed=seed), every
    open_, success = every.copy(), np.zeros(n, bool)
    while open_.any():
        actions, state, _ = agent.act(obs, state, reset)
        obs, _, terminated, truncated, info = env.step(actions)
        ended = open_ & (terminated | truncated)
        success |= ended & np.asarray(info.get("success", np.zeros(n, bool)))
        open_ &= ~ended
        reset = np.zeros(n, bool)
        if ended.any() and open_.any():
            # rows that are done play on unheard, so that all rows step in lockstep
            obs, _ = env.reset(options={"reset_mask": ended, "episode": np.arange(n)})
            reset = ended
    return float(success.mean())


def _to(lesson: Lesson, device: torch.device) -> Lesson:
    obs = {key: value.to(device, non_blocking=True) for key, value in lesson.obs.items()}
    return Lesson(obs, *(value.to(device, non_blocking=True) for value in lesson[1:]))
