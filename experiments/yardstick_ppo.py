"""PPO with memory in one file: the yardstick of the RLlib path, and the place to read how it works.

    python -m embodied_mem.experiments.yardstick_ppo env=RepeatPrevious-v0 agent.memory=gru steps=200000

No Ray, no abstraction, one process; any registered memory, any Discrete, MultiDiscrete or Box action space.

Details that matter with a memory:
1. The env is in NEXT_STEP mode: the step after an episode's end only resets. It is played with whatever action and
   masked in the loss; the observation after it carries ``reset``.
2. The state is kept at row starts only, and a row of S steps is recomputed from there with the resets inside.
3. The observation after a truncated step is the episode's last one, so V of the next step is the right bootstrap.
4. Minibatches are whole rows; advantages are standardised over the batch without the masked steps.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from embodied_mem import heads
from embodied_mem.agent import AgentConfig, MemoryAgent
from embodied_mem.config import override, parse_overrides
from embodied_mem.envs.make import make_vec
from embodied_mem.spaces import as_dict_obs


@dataclass(frozen=True)
class YardstickConfig:
    """One run."""

    env: str = "RepeatPrevious-v0"
    """Gymnasium id."""
    env_config: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    agent: AgentConfig = field(default_factory=AgentConfig)
    """Encoder, memory and heads."""
    num_envs: int = 32
    """N."""
    fragment: int = 128
    """T, steps per env and iteration."""
    row: int = 64
    """S, steps per learner row."""
    minibatch: int = 1024
    """Steps per gradient step."""
    epochs: int = 2
    """Passes over the batch."""
    lr: float = 1e-3
    """Adam's learning rate."""
    gamma: float = 0.95
    """Discount."""
    gae_lambda: float = 0.95
    """Lambda of the advantage estimate."""
    clip: float = 0.2
    """Clip range of the ratio."""
    value_coef: float = 0.5
    """Weight of the value loss."""
    entropy: float = 0.01
    """Weight of the entropy bonus."""
    grad_clip: float = 0.5
    """Global gradient-norm limit."""
    steps: int = 200_000
    """Env steps to train for."""
    seed: int = 0
    """Seed of everything."""


class Yardstick:
    """The loop, one iteration at a time."""

    def __init__(self, config: YardstickConfig) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(config.seed)
        self.config = config
        self.envs = make_vec(config.env, config.num_envs, **config.env_config)
        self.space = self.envs.single_action_space
        self.agent = MemoryAgent.build(config.agent, self.envs.single_observation_space, self.space)
        self.optimizer = torch.optim.Adam(self.agent.parameters(), lr=config.lr, eps=1e-5, fused=True)
        self.obs, _ = self.envs.reset(seed=config.seed)
        self.reset = np.ones(config.num_envs, bool)
        self.dummy = np.zeros(config.num_envs, bool)
        self.state = self.agent.initial_state(config.num_envs)
        self.env_steps = 0
        self.returns: list[float] = []
        self.running = np.zeros(config.num_envs)

    def iterate(self) -> dict[str, float]:
        """Sample one batch and learn from it; returns the mean return of the last 100 episodes and the losses."""
        batch = self.rollout()
        losses = self.learn(batch)
        recent = self.returns[-100:]
        return {"return_mean": float(np.mean(recent)) if recent else float("nan"), **losses}

    @torch.no_grad()
    def rollout(self) -> dict[str, Any]:
        """Return T steps of N envs as rows (N T / S, S, ...)."""
        c, n, t_all = self.config, self.config.num_envs, self.config.fragment
        obs_rows: dict[str, torch.Tensor] = {}
        resets, real, done, terminated = (np.zeros((n, t_all), bool) for _ in range(4))
        rewards = np.zeros((n, t_all), np.float32)
        values, logps = torch.zeros(n, t_all + 1), torch.zeros(n, t_all)
        actions: list[torch.Tensor] = []
        starts: list[dict[str, torch.Tensor]] = []
        for t in range(t_all):
            obs = self.tensors()
            for key, value in obs.items():
                if t == 0:
                    obs_rows[key] = torch.empty(n, t_all, *value.shape[1:], dtype=value.dtype)
                obs_rows[key][:, t] = value
            resets[:, t], real[:, t] = self.reset, ~self.dummy
            if t % c.row == 0:
                starts.append(self.state)
            inputs, values[:, t], self.state = self.agent.step(obs, self.state, torch.from_numpy(self.reset))
            action = heads.sample(self.space, inputs)
            logps[:, t] = heads.log_prob(self.space, inputs, action)
            actions.append(action)
            self.obs, reward, ended, cut, _ = self.envs.step(heads.to_env(self.space, action.numpy()))
            rewards[:, t], terminated[:, t], done[:, t] = reward, ended, ended | cut
            self.reset, self.dummy = self.dummy, ended | cut
            self.running += reward
            if self.dummy.any():
                self.returns.extend(self.running[self.dummy].tolist())
                self.running[self.dummy] = 0.0
        values[:, t_all] = self.agent.step(self.tensors(), self.state, torch.from_numpy(self.reset))[1]
        self.env_steps += int(real.sum())

        advantages = np.zeros((n, t_all), np.float32)
        v, ahead = values.numpy(), np.zeros(n, np.float32)
        for t in reversed(range(t_all)):
            delta = rewards[:, t] + c.gamma * v[:, t + 1] * ~terminated[:, t] - v[:, t]
            ahead = advantages[:, t] = delta + c.gamma * c.gae_lambda * ahead * ~done[:, t]

        def rows(value: torch.Tensor) -> torch.Tensor:
            return value.reshape(-1, c.row, *value.shape[2:])

        return {
            "obs": {key: rows(value) for key, value in obs_rows.items()},
            "state": {key: torch.stack([s[key] for s in starts], 1).flatten(0, 1) for key in self.state},
            "resets": rows(torch.from_numpy(resets)),
            "mask": rows(torch.from_numpy(real)),
            "actions": rows(torch.stack(actions, 1)),
            "logp": rows(logps),
            "advantages": rows(torch.from_numpy(advantages)),
            "targets": rows(torch.from_numpy(advantages) + values[:, :-1]),
        }

    def learn(self, batch: dict[str, Any]) -> dict[str, float]:
        """Take ``epochs`` passes of clipped-surrogate steps; returns the last minibatch's losses."""
        c = self.config
        kept = batch["advantages"][batch["mask"]]
        batch["advantages"] = (batch["advantages"] - kept.mean()) / kept.std().clamp_min(1e-4)
        for _ in range(c.epochs):
            for index in torch.randperm(len(batch["mask"])).split(max(1, c.minibatch // c.row)):
                b = {key: pick(value, index) for key, value in batch.items()}
                inputs, value, _, _ = self.agent.sequence(b["obs"], b["state"], b["resets"])
                ratio = (heads.log_prob(self.space, inputs, b["actions"]) - b["logp"]).exp()
                surrogate = torch.minimum(
                    b["advantages"] * ratio, b["advantages"] * ratio.clamp(1.0 - c.clip, 1.0 + c.clip)
                )
                weight = b["mask"].float() / b["mask"].sum()
                policy_loss = -(surrogate * weight).sum()
                value_loss = ((value - b["targets"]).square() * weight).sum()
                entropy = (heads.entropy(self.space, inputs) * weight).sum()
                loss = policy_loss + c.value_coef * value_loss - c.entropy * entropy
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.agent.parameters(), c.grad_clip)
                self.optimizer.step()
        return {"policy_loss": policy_loss.item(), "vf_loss": value_loss.item(), "entropy": entropy.item()}

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the present observations as named tensors (N, ...)."""
        named = as_dict_obs(self.envs.single_observation_space, self.obs)
        return {key: torch.from_numpy(value) for key, value in named.items()}


def pick(value: Any, index: torch.Tensor) -> Any:
    """Return the rows ``index`` of a tensor or of a dict of tensors."""
    return {key: v[index] for key, v in value.items()} if isinstance(value, dict) else value[index]


def main(words: list[str]) -> None:
    """Train and print a line every tenth iteration."""
    config = override(YardstickConfig(), parse_overrides(words))
    run, started, iteration = Yardstick(config), time.process_time(), 0
    while run.env_steps < config.steps:
        result = run.iterate()
        if iteration % 10 == 0 or run.env_steps >= config.steps:
            shown = " ".join(f"{key} {value:.3f}" for key, value in result.items())
            print(f"steps {run.env_steps} cpu {time.process_time() - started:.1f} s {shown}")
        iteration += 1


if __name__ == "__main__":
    main(sys.argv[1:])
