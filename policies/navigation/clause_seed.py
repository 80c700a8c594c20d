"""One training seed of a clause follower: its walks and the loss of whole walks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embodied_mem.policies.imitation.trainer import spaces_of
from embodied_mem.policies.navigation.clause_agent import ClauseAgent
from embodied_mem.policies.navigation.clause_config import ClauseRunConfig
from embodied_mem.policies.navigation.clause_follower import ClauseFollower, Seen
from embodied_mem.policies.navigation.clause_lessons import ClauseLesson, ClauseLessons, record_walks
from embodied_mem.policies.navigation.clauses import NUMBER, STEPS
from embodied_mem.policies.navigation.follow_seed import FollowSeed
from embodied_mem.policies.navigation.following import following_loss, log_success_returning


class ClauseSeed(FollowSeed):
    """A running seed of a clause follower."""

    @classmethod
    def check(cls, config: ClauseRunConfig) -> None:
        """Build the follower of a run once.

        Raises:
            UsageError: its parts do not fit together.
        """
        build_follower(config)

    @classmethod
    def gather(cls, config: ClauseRunConfig, out: Path) -> ClauseLessons:
        """Return the walks; they are made anew by a resumed run, and equal."""
        return record_walks(config.train.env, config.train.env_config, config.train.lessons)

    def _prepare(self, episodes: ClauseLessons) -> tuple[ClauseFollower, ClauseLessons]:
        return build_follower(self.config, self.seed).to(self.device), episodes

    def _loss(self, generator: torch.Generator) -> Tensor:
        train = self.config.train
        draw = np.random.default_rng((self.seed, 1, self.update))
        lesson = self.batches.batch(draw.integers(0, len(self.batches.lengths), train.rows))
        self.frames += int(lesson.valid.sum())
        lesson = _to(lesson, self.device)
        tokens = self.policy.hide(lesson.tokens, train.hide, generator)
        numbers = _misread(lesson.numbers, train.misread, generator)
        # What is dropped is drawn from the seed and the update, so that a resumed run ends with the same weights.
        devices = [self.device] if self.device.type == "cuda" else []
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)
        with torch.random.fork_rng(devices=devices), half:
            torch.manual_seed((self.seed << 32) + self.update)
            links, stops = self.policy(self.policy.tell(tokens, numbers, lesson.total), lesson.seen)
        moves, ending = log_success_returning(links.float(), stops.float(), lesson.target, lesson.good, lesson.valid)
        return following_loss(moves, ending, train.turned(self.update))

    def _walker(self) -> ClauseAgent:
        return ClauseAgent(self.average)


def build_follower(config: ClauseRunConfig, seed: int = 0) -> ClauseFollower:
    """Return a fresh follower for the run's environment.

    Raises:
        UsageError: the environment cannot be made, or the parts do not fit it.
    """
    train = config.train
    spaces = spaces_of(train.env, train.env_config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClauseFollower(train.agent, *spaces)


def _misread(numbers: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """Return the numbers (B, K, 4) of clauses with a share ``rate`` of junctions and steps taken for unknown."""
    drawn = torch.rand(numbers.shape, generator=generator, device=numbers.device) < rate
    drawn[..., [column for column in range(numbers.shape[-1]) if column not in (NUMBER, STEPS)]] = False
    return torch.where(drawn, 0, numbers)


def _to(lesson: ClauseLesson, device: torch.device) -> ClauseLesson:
    seen = Seen(*(part.to(device) for part in lesson.seen))
    parts = {name: getattr(lesson, name).to(device) for name in lesson._fields if name != "seen"}
    return ClauseLesson(seen=seen, **parts)
