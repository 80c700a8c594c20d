"""`FollowSeed`: a running seed of imitation on the street, and what its agent does in the unseen area."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import closing
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from embodied_mem.agent import Agent
from embodied_mem.envs.make import make_vec
from embodied_mem.policies.imitation.trainer import ImitationSeed
from embodied_mem.policies.navigation.lessons import lesson_env

ROLLOUT_SEED = 4_000_000
"""World seed of the synthetic episodes of a run's result, which no lesson has."""


class FollowSeed(ImitationSeed, ABC):
    """A seed whose averaged agent walks the streets of the unseen area at the end."""

    @abstractmethod
    def _walker(self) -> Agent:
        """Return what acts: the averaged weights."""

    def _roll_out(self) -> dict[str, Any]:
        """Let it play synthetic episodes of the area that no lesson comes from."""
        train = self.config.train
        rates = {}
        for style in train.lessons.styles if train.rollouts else ():
            options = lesson_env(train.env_config, style, train.rollouts, ROLLOUT_SEED, "test")
            with closing(make_vec(train.env, train.rollouts, autoreset_mode=AutoresetMode.DISABLED, **options)) as env:
                rates[style] = play_success(env, self._walker(), self.seed)
        found: dict[str, Any] = {f"success_{style}": rate for style, rate in rates.items()}
        return {**found, "success_mean": float(np.mean(list(rates.values())))} if rates else {}


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
