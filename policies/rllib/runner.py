"""`BatchedRunner`: an RLlib EnvRunner that steps a vector env as arrays and returns packed learner rows.

Cost model, per vector step of N envs: one forward of the module, one transfer of N actions to the host, one `env.step`,
and about ten array copies of N items; nothing is done per env in Python. Per fragment: one forward for the bootstrap
value, one advantage pass over (T, N) arrays, one state copy per row start. The stock runner pays ten connector passes
with a Python loop over envs per step instead, and keeps one memory state per env and step; here it is one per row.

Rules it relies on: the env is a NEXT_STEP vector env (`make_vec` sees to that), so the step after an episode's end is
a dummy (loss_mask False) on the final observation, whose value is the bootstrap of a truncation, and the observation
after it carries ``resets`` True. Rows may hold several episodes.

Limits: one policy, no connectors, no per-step callbacks, no random-action warm-up; `runner: stock` has those.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.metrics import SAMPLE_TIMER, WEIGHTS_SEQ_NO
from torch import Tensor

from embodied_mem import heads
from embodied_mem.envs.make import make_vec
from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.episodes import EpisodeTracker
from embodied_mem.policies.rllib.packed import PackedBatch
from embodied_mem.policies.rllib.rollout import Rollout, to_numpy
from embodied_mem.policies.rllib.runner_metrics import log_episodes, log_steps
from embodied_mem.policies.rllib.tensors import Stage

logger = logging.getLogger("ray.rllib")

FAILURES = "num_env_step_failures"
MAX_FAILURES = 3
"""Consecutive env failures after which a runner gives up."""


class BatchedRunner(SingleAgentEnvRunner):
    """Samples fragments of T steps from N envs; see the module docstring for costs and rules."""

    config: Any
    env: Any
    metrics: Any
    module: Any
    _obs: Any
    _state: dict[str, Tensor]
    _dummy: np.ndarray
    _reset_mask: np.ndarray

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        seed = torch.seed() if self._seed is None else self._seed
        self._sampler = torch.Generator(self._device).manual_seed(_mix(seed, self.worker_index or 0, 0))
        self._resets_done = 0
        self._failures = 0
        if self.env is not None:
            window = config.metrics_num_episodes_for_smoothing // max(1, config.num_env_runners)
            self._episodes = EpisodeTracker(self.num_envs, window)
            self._stage = Stage(self.env.single_observation_space, self._device)
            self._space = self.env.single_action_space

    def make_env(self) -> None:
        """Create (or re-create) the vector env named by the config; the next sample resets it."""
        if self.env is not None:
            self.env.close()
        self.env = make_vec(
            self.config.env,
            self.config.num_envs_per_env_runner,
            autoreset_mode=AutoresetMode.NEXT_STEP,
            restart_failed=self.config.restart_failed_sub_environments,
            **dict(self.config.env_config),
        )
        self.num_envs = self.env.num_envs
        self._needs_initial_reset = True

    def make_module(self) -> None:
        """Build the module on this runner's device; without an env the spaces come from the other runners."""
        if not self.worker_index:
            self._device = torch.device(self.config.learner_device)
        env = self.env.unwrapped if self.env is not None else None
        spec = self.config.get_rl_module_spec(env=env, spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()
        self.module.to(self._device).eval()

    def get_spaces(self) -> dict[str, Any]:
        """Return the spaces RLlib asks for; the module sees the env's own single spaces."""
        if self.env is None:
            return self.spaces
        single = (self.env.single_observation_space, self.env.single_action_space)
        return {
            INPUT_ENV_SPACES: (self.env.observation_space, self.env.action_space),
            INPUT_ENV_SINGLE_SPACES: single,
            DEFAULT_MODULE_ID: single,
        }

    def sample(
        self,
        *,
        num_timesteps: int | None = None,
        num_episodes: int | None = None,
        explore: bool | None = None,
        random_actions: bool = False,
        force_reset: bool = False,
    ) -> list[PackedBatch]:
        """Return one fragment as packed rows.

        With ``num_timesteps`` or ``num_episodes`` it runs that much for its metrics and returns no rows; episodes are
        the first of each env (an equal share each), so short ones are not favoured.

        Raises:
            UsageError: there is no env here, or random actions were asked for.
        """
        if self.env is None:
            raise UsageError("this runner has no env to sample from; set num_env_runners=0")
        if random_actions:
            raise UsageError("the batched runner has no random-action mode; use runner: stock")
        explore = self.config.explore if explore is None else explore
        self.metrics.log_value(WEIGHTS_SEQ_NO, self._weights_seq_no, window=1)
        with self.metrics.log_time(SAMPLE_TIMER), torch.inference_mode():
            while True:
                if force_reset or num_episodes is not None or self._needs_initial_reset:
                    self._reset()
                try:
                    if num_episodes is None and num_timesteps is None:
                        batch = self._fragment(explore)
                    else:
                        batch = self._evaluate(num_timesteps, num_episodes, explore)
                    break
                except EnvFailure as failure:
                    self._recover(failure)
        self._failures = 0
        self._needs_initial_reset = num_episodes is not None
        log_steps(self.metrics, len(batch), self._episodes.finished)
        return [batch]

    def get_metrics(self) -> dict[str, Any]:
        """Return RLlib's reduced metrics: steps, episodes, mean return, length and success of the recent episodes."""
        log_episodes(self.metrics, self._episodes)
        return self.metrics.reduce()

    def _fragment(self, explore: bool) -> PackedBatch:
        config = self.config
        steps = config.get_rollout_fragment_length(self.worker_index)
        rollout = Rollout(self.num_envs, steps, config.row_length, self._space, keep_logits=config.keep_logits)
        for t in range(steps):
            obs, reset = self._inputs()
            rollout.act(t, obs, reset, self._state)
            logits, value, action = self._policy(obs, reset, explore)
            rollout.acted(t, logits, value, action)
            rollout.stepped(t, *self._step_env(action))
        obs, reset = self._inputs()
        if config.bootstraps_in_row:
            batch = rollout.pack_vtrace(obs, reset)
        else:
            last_value = self.module.agent.step(obs, self._state, reset)[1]
            batch = rollout.pack_ppo(last_value, config.gamma, config.lambda_)
        return batch if self._device.type == "cuda" and not self.worker_index else to_numpy(batch)

    def _evaluate(self, num_timesteps: int | None, num_episodes: int | None, explore: bool) -> PackedBatch:
        quota = _shares(num_episodes, self.num_envs) if num_episodes is not None else None
        steps, left = 0, quota.copy() if quota is not None else None
        while steps < num_timesteps if left is None else left.any():  # type: ignore[operator]
            obs, reset = self._inputs()
            _, _, action = self._policy(obs, reset, explore)
            _, terminated, truncated, real = self._step_env(action, counted=None if left is None else left > 0)
            steps += int(real.sum())
            if left is not None:
                left -= (terminated | truncated) & (left > 0)
        return PackedBatch({}, steps)

    def _inputs(self) -> tuple[dict[str, Tensor], Tensor]:
        return self._stage.obs(self._obs), self._stage.array("reset", self._reset_mask)

    def _policy(self, obs: dict[str, Tensor], reset: Tensor, explore: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Run the module on the device and choose actions there; nothing here waits for the device."""
        logits, value, self._state = self.module.rollout_step(obs, self._state, reset)
        action = heads.sample(self._space, logits, self._sampler) if explore else heads.mode(self._space, logits)
        return logits, value, action

    def _step_env(
        self, action: Tensor, counted: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Step the env with the device's actions; returns rewards, terminated, truncated and real, all (N,)."""
        try:
            self._obs, rewards, terminated, truncated, info = self.env.step(self.module.to_env(action))
        except Exception as error:
            raise EnvFailure(error) from error
        if "env_failure" in info:
            self.metrics.log_value(FAILURES, int(np.sum(info["env_failure"])), reduce="lifetime_sum")
        real = ~self._dummy
        self._reset_mask = self._dummy
        self._dummy = done = terminated | truncated
        kept = done if counted is None else done & counted
        self._episodes.step(rewards, done, kept, real, info)
        return rewards, terminated, truncated, real

    def _reset(self) -> None:
        """Reset every env with a seed that differs per runner and per reset, and start from fresh memories."""
        seed = None if self._seed is None else _mix(self._seed, self._resets_done, self.num_env_steps_sampled_lifetime)
        try:
            self._obs, _ = self.env.reset(seed=seed)
        except Exception as error:
            raise EnvFailure(error) from error
        self._resets_done += 1
        self._dummy = np.zeros(self.num_envs, bool)
        self._reset_mask = np.ones(self.num_envs, bool)
        self._state = self.module.agent.initial_state(self.num_envs, self._device)
        self._episodes.restart(self.num_envs)
        self._needs_initial_reset = False

    def _recover(self, failure: EnvFailure) -> None:
        """Make the whole vector env anew where it could not save itself; the fragment under way is lost."""
        self._failures += 1
        self.metrics.log_value(FAILURES, 1, reduce="lifetime_sum")
        if not self.config.restart_failed_sub_environments or self._failures > MAX_FAILURES:
            raise failure.cause
        logger.warning("environment failed and is made anew (%d in a row): %r", self._failures, failure.cause)
        self.make_env()

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return RLlib's runner state plus the sampling generator and the reset counter of this runner."""
        state = super().get_state(*args, **kwargs)
        state["rng"] = {
            "worker_index": self.worker_index or 0,
            "sampler": self._sampler.get_state().numpy(),
            "resets": self._resets_done,
        }
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `get_state` returned; generators of another runner are left out."""
        super().set_state(dict(state))
        rng = state.get("rng")
        if rng is not None and rng["worker_index"] == (self.worker_index or 0):
            self._sampler.set_state(torch.from_numpy(np.array(rng["sampler"])))
            self._resets_done = rng["resets"]


class EnvFailure(Exception):
    """An exception raised inside the environment, kept with its cause."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(repr(cause))
        self.cause = cause


def _mix(*words: int) -> int:
    """Return a 31-bit seed from several integers."""
    return int(np.random.SeedSequence([int(word) % 2**63 for word in words]).generate_state(1)[0]) % 2**31


def _shares(total: int, n: int) -> np.ndarray:
    return np.full(n, total // n, np.int64) + (np.arange(n) < total % n)
