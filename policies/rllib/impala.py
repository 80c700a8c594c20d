"""IMPALA over packed rows (Espeholt et al. 2018): RLlib's asynchronous Algorithm with V-trace inside rows.

RLlib's own loss takes rows that end with their episode and a phantom step; here rows span episodes and carry one real
observation more for their bootstrap.
"""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.impala import IMPALA, IMPALAConfig
from ray.rllib.algorithms.impala.torch.impala_torch_learner import IMPALATorchLearner
from ray.rllib.core.columns import Columns
from torch import Tensor

from embodied_mem.heads import log_prob_entropy
from embodied_mem.policies.rllib.common import PackedSettings, configure
from embodied_mem.policies.rllib.config import TrainConfig
from embodied_mem.policies.rllib.learner import PackedLearner
from embodied_mem.policies.rllib.vtrace import vtrace


def build(config: TrainConfig) -> IMPALAConfig:
    """Return the RLlib config of an IMPALA run on packed rows, or RLlib's own IMPALA on the stock runner."""
    rllib = PackedIMPALAConfig() if config.runner == "batched" else IMPALAConfig()
    configure(rllib, config)
    return rllib.training(**async_settings(config))


def async_settings(config: TrainConfig) -> dict[str, Any]:
    """Return what IMPALA and APPO share: one update per runner sample, losses, broadcasts."""
    return {
        "train_batch_size_per_learner": config.num_envs * config.fragment,
        "num_epochs": config.epochs,
        "minibatch_size": None,
        "vf_loss_coeff": config.value_coef,
        "entropy_coeff": config.entropy_schedule,
        "broadcast_interval": config.broadcast_interval,
    }


class PackedIMPALAConfig(PackedSettings, IMPALAConfig):
    """RLlib's IMPALA config plus the settings of the batched runner."""

    bootstraps_in_row = True

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PackedIMPALA)

    def get_default_learner_class(self) -> type:
        """Return the packed IMPALA learner."""
        return PackedIMPALALearner


class PackedIMPALA(IMPALA):
    """IMPALA whose runners return packed rows instead of episodes."""

    @classmethod
    def get_default_config(cls) -> PackedIMPALAConfig:
        """Return the config class RLlib starts from."""
        return PackedIMPALAConfig()


class PackedIMPALALearner(PackedLearner, IMPALATorchLearner):
    """The V-trace actor-critic loss over rows, each step weighted by the loss mask."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """Return the scalar loss of a minibatch of rows (B, S); forward outputs are (B, S + 1, ...)."""
        weight = mask_weight(batch[Columns.LOSS_MASK])
        module: Any = self.module[module_id].unwrapped()
        logits = fwd_out[Columns.ACTION_DIST_INPUTS][:, :-1]
        logp, entropy = log_prob_entropy(module.action_space, logits, batch[Columns.ACTIONS])
        values = fwd_out[Columns.VF_PREDS]
        targets, advantages = vtrace(
            logp.detach() - batch[Columns.ACTION_LOGP],
            values.detach(),
            batch[Columns.REWARDS],
            batch[Columns.TERMINATEDS],
            batch["dones"],
            config.gamma,
            config.vtrace_clip_rho_threshold,
            config.vtrace_clip_pg_rho_threshold,
        )
        if config.standardize:
            advantages = standardized(advantages, weight)
        policy_loss = -(logp * advantages * weight).sum()
        return self._total(module_id, config, policy_loss, values[:, :-1] - targets, entropy, weight)

    def _total(
        self, module_id: str, config: Any, policy_loss: Tensor, value_error: Tensor, entropy: Tensor, weight: Tensor
    ) -> Tensor:
        value_loss = 0.5 * (value_error.square() * weight).sum()
        mean_entropy = (entropy * weight).sum()
        coef = self.entropy_coeff_schedulers_per_module[module_id].get_current_value()
        self.log_stats({"policy_loss": policy_loss, "vf_loss": value_loss, "entropy": mean_entropy})
        return policy_loss + config.vf_loss_coeff * value_loss - coef * mean_entropy


def mask_weight(loss_mask: Tensor) -> Tensor:
    """Return weights (B, S) float32 that sum to 1 over the real steps."""
    mask = loss_mask.float()
    return mask / mask.sum().clamp_min(1.0)


def standardized(advantages: Tensor, weight: Tensor) -> Tensor:
    """Return advantages (B, S) float32 of mean 0 and variance 1 over the steps of ``weight`` (B, S)."""
    centred = advantages - (advantages * weight).sum()
    return centred / (centred.square() * weight).sum().sqrt().clamp_min(1e-4)


def ratios(logp: Tensor, behaviour: Tensor, old: Tensor, bound: float = 2.0) -> Tensor:
    """Return APPO's surrogate ratio (B, S): clip(mu / pi_old, 0, bound) * pi / mu."""
    return torch.exp(behaviour - old).clamp(0.0, bound) * torch.exp(logp - behaviour)
