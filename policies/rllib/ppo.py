"""PPO over packed rows (Schulman et al. 2017): RLlib's Algorithm, runner group, learner group and checkpoints.

Per iteration every runner returns one fragment; the rows go to the learners, which standardise the advantages, and take
``epochs`` passes of clipped-surrogate steps.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.utils.metrics import (
    ALL_MODULES,
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_MODULE_STEPS_TRAINED_LIFETIME,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from torch import Tensor

from embodied_mem.heads import log_prob_entropy
from embodied_mem.policies.rllib.common import PackedSettings, configure
from embodied_mem.policies.rllib.config import TrainConfig
from embodied_mem.policies.rllib.learner import PackedLearner
from embodied_mem.policies.rllib.module import MemoryRLModule
from embodied_mem.policies.rllib.packed import PackedBatch, RowBatch, concat
from embodied_mem.policies.rllib.sync import sync_weights


def build(config: TrainConfig, module_class: type = MemoryRLModule, **model_options: Any) -> PPOConfig:
    """Return the RLlib config of a PPO run: `PackedPPO` on the batched runner, RLlib's own PPO on the stock one."""
    rllib = PackedPPOConfig() if config.runner == "batched" else PPOConfig()
    configure(rllib, config, module_class, **model_options)
    return rllib.training(
        lambda_=config.gae_lambda,
        clip_param=config.clip,
        vf_clip_param=config.value_clip,
        vf_loss_coeff=config.value_coef,
        entropy_coeff=config.entropy_schedule,
        use_kl_loss=False,
        kl_coeff=0.0,
        num_epochs=config.epochs,
        minibatch_size=config.minibatch,
        train_batch_size_per_learner=config.batch // max(1, config.num_learners),
    )


class PackedPPOConfig(PackedSettings, PPOConfig):
    """RLlib's PPO config plus the settings of the batched runner."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PackedPPO)

    def get_default_learner_class(self) -> type:
        """Return the packed PPO learner."""
        return PackedPPOLearner


class PackedPPO(PPO):
    """PPO whose runners return packed rows instead of episodes."""

    config: Any
    env_runner_group: Any
    learner_group: Any
    metrics: Any

    @classmethod
    def get_default_config(cls) -> PackedPPOConfig:
        """Return the config class RLlib starts from."""
        return PackedPPOConfig()

    def training_step(self) -> None:
        """Sample one fragment per runner, update on the rows, hand the new weights to the runners."""
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            batches, results = self._sample()
            if not batches:
                return
            self.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
            results = self.learner_group.update(
                training_data=self._training_data(batches),
                timesteps=self._timesteps(),
                num_epochs=self.config.num_epochs,
                minibatch_size=self.config.minibatch_size,
                shuffle_batch_per_epoch=True,
            )
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
            sync_weights(self.env_runner_group, self.learner_group)

    def _sample(self) -> tuple[list[PackedBatch], list[Any]]:
        """Return fragments until the batch is full, and their metrics; the others make up for a lost runner."""
        group, config = self.env_runner_group, self.config
        wanted = config.total_train_batch_size // config.row_length
        batches: list[PackedBatch] = []
        metrics: list[Any] = []
        while sum(batch.rows for batch in batches) < wanted:
            if group.num_remote_workers() == 0:
                runner = group.local_env_runner
                sampled = [(runner.sample(), runner.get_metrics())]
            else:
                sampled = group.foreach_env_runner(
                    lambda runner: (runner.sample(), runner.get_metrics()),
                    local_env_runner=False,
                    timeout_seconds=config.sample_timeout_s,
                )
            if not sampled:
                break
            for rows, result in sampled:
                batches.extend(rows)
                metrics.append(result)
        return batches, metrics

    def _training_data(self, batches: list[PackedBatch]) -> TrainingData:
        if self.config.num_learners < 2:
            return TrainingData(batch=cast(Any, concat(batches)))
        return TrainingData(batches=cast(Any, concat(batches).shards(self.config.num_learners)))

    def _timesteps(self) -> dict[str, Any]:
        trained = (LEARNER_RESULTS, ALL_MODULES, NUM_MODULE_STEPS_TRAINED_LIFETIME)
        return {
            NUM_ENV_STEPS_SAMPLED_LIFETIME: self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)),
            NUM_MODULE_STEPS_TRAINED_LIFETIME: self.metrics.peek(trained, default=0),
        }


class PackedPPOLearner(PackedLearner, PPOTorchLearner):
    """The clipped surrogate over rows, each step weighted by the loss mask."""

    def prepare(self, batch: RowBatch) -> None:
        """Standardise the advantages over the real steps of the update's batch."""
        columns = batch.columns
        mask = columns[Columns.LOSS_MASK]
        advantages = columns["advantages"]
        kept = advantages[mask]
        columns["advantages"] = (advantages - kept.mean()) / kept.std().clamp_min(1e-4)

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """Return the scalar loss of one minibatch of rows (B, S); ratios, values and entropies are (B, S) float32."""
        mask = batch[Columns.LOSS_MASK].float()
        weight = mask / mask.sum().clamp_min(1.0)
        module: Any = self.module[module_id].unwrapped()
        logits = fwd_out[Columns.ACTION_DIST_INPUTS]
        logp, entropy = log_prob_entropy(module.action_space, logits, batch[Columns.ACTIONS])
        log_ratio = logp - batch[Columns.ACTION_LOGP]
        ratio = log_ratio.exp()
        advantages = batch["advantages"]
        clipped = ratio.clamp(1.0 - config.clip_param, 1.0 + config.clip_param)
        surrogate = torch.minimum(advantages * ratio, advantages * clipped)
        value_error = (fwd_out[Columns.VF_PREDS] - batch["value_targets"]).square().clamp_max(config.vf_clip_param)
        coef = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        policy_loss, value_loss, mean_entropy = (
            -(surrogate * weight).sum(),
            (value_error * weight).sum(),
            (entropy * weight).sum(),
        )
        kl = ((ratio - 1.0 - log_ratio).detach() * weight).sum()
        self.log_stats({"policy_loss": policy_loss, "vf_loss": value_loss, "entropy": mean_entropy, "mean_kl_loss": kl})
        return policy_loss + config.vf_loss_coeff * value_loss - coef * mean_entropy
