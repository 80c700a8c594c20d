"""APPO over packed rows (asynchronous PPO with a target network): RLlib's Algorithm, V-trace inside rows."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.algorithms.appo import APPO, APPOConfig
from ray.rllib.algorithms.appo.torch.appo_torch_learner import APPOTorchLearner
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.target_network_api import TARGET_NETWORK_ACTION_DIST_INPUTS
from torch import Tensor

from embodied_mem.heads import log_prob, log_prob_entropy
from embodied_mem.policies.rllib.common import PackedSettings, configure
from embodied_mem.policies.rllib.config import TrainConfig
from embodied_mem.policies.rllib.impala import PackedIMPALALearner, async_settings, mask_weight, ratios, standardized
from embodied_mem.policies.rllib.module import MemoryTargetRLModule
from embodied_mem.policies.rllib.vtrace import vtrace


def build(config: TrainConfig) -> APPOConfig:
    """Return the RLlib config of an APPO run on packed rows, or RLlib's own APPO on the stock runner."""
    rllib = PackedAPPOConfig() if config.runner == "batched" else APPOConfig()
    configure(rllib, config, MemoryTargetRLModule)
    return rllib.training(
        **async_settings(config),
        clip_param=config.clip,
        use_kl_loss=False,
        kl_coeff=0.0,
        use_circular_buffer=False,
        circular_buffer_num_batches=1,
        circular_buffer_iterations_per_batch=1,
        target_network_update_freq=1,
    )


class PackedAPPOConfig(PackedSettings, APPOConfig):
    """RLlib's APPO config plus the settings of the batched runner."""

    bootstraps_in_row = True

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or PackedAPPO)

    def get_default_learner_class(self) -> type:
        """Return the packed APPO learner."""
        return PackedAPPOLearner


class PackedAPPO(APPO):
    """APPO whose runners return packed rows instead of episodes."""

    @classmethod
    def get_default_config(cls) -> PackedAPPOConfig:
        """Return the config class RLlib starts from."""
        return PackedAPPOConfig()


class PackedAPPOLearner(PackedIMPALALearner, APPOTorchLearner):
    """The clipped surrogate over rows, V-trace corrected towards the target policy."""

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Any], fwd_out: dict[str, Any]
    ) -> Tensor:
        """Return the scalar loss of a minibatch of rows (B, S); forward outputs are (B, S + 1, ...)."""
        weight = mask_weight(batch[Columns.LOSS_MASK])
        module: Any = self.module[module_id].unwrapped()
        space, actions, behaviour = module.action_space, batch[Columns.ACTIONS], batch[Columns.ACTION_LOGP]
        logp, entropy = log_prob_entropy(space, fwd_out[Columns.ACTION_DIST_INPUTS][:, :-1], actions)
        old_logits = module.forward_target(batch)[TARGET_NETWORK_ACTION_DIST_INPUTS][:, :-1]
        old_logp = log_prob(space, old_logits, actions)
        values = fwd_out[Columns.VF_PREDS]
        targets, advantages = vtrace(
            old_logp - behaviour,
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
        ratio = ratios(logp, behaviour, old_logp)
        clipped = ratio.clamp(1.0 - config.clip_param, 1.0 + config.clip_param)
        policy_loss = -(torch.minimum(advantages * ratio, advantages * clipped) * weight).sum()
        return self._total(module_id, config, policy_loss, values[:, :-1] - targets, entropy, weight)
