"""One seed of street imitation: lessons and the loss of whole walks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embodied_mem.agent import MemoryAgent, PolicyAgent
from embodied_mem.envs.street.episodes import ACTIONS
from embodied_mem.policies.imitation.trainer import spaces_of
from embodied_mem.policies.navigation.config import StreetRunConfig
from embodied_mem.policies.navigation.follow_seed import FollowSeed
from embodied_mem.policies.navigation.following import counting_loss, following_loss, log_success
from embodied_mem.policies.navigation.lessons import Lesson, Lessons, record_lessons

STOP = ACTIONS.index("stop")


class StreetSeed(FollowSeed):
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
        loss = following_loss(moves, ending, train.turned(self.update))
        return loss + train.guide * counting_loss(remembered.float(), lesson.counts) if train.guide else loss

    def _walker(self) -> PolicyAgent:
        return PolicyAgent(self.average)


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


def _to(lesson: Lesson, device: torch.device) -> Lesson:
    obs = {key: value.to(device, non_blocking=True) for key, value in lesson.obs.items()}
    return Lesson(obs, *(value.to(device, non_blocking=True) for value in lesson[1:]))
