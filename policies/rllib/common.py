"""What all algorithms share: the batched runner's settings on an RLlib config, and the translation of `TrainConfig`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from embodied_mem.config import to_dict
from embodied_mem.devices import resolve_device
from embodied_mem.envs.make import find_spec, portable_id
from embodied_mem.memory.contract import make_memory
from embodied_mem.policies.rllib.config import TrainConfig
from embodied_mem.policies.rllib.module import MemoryRLModule
from embodied_mem.policies.rllib.runner import BatchedRunner

logger = logging.getLogger(__name__)

STATE_WARNING_BYTES = 64 * 2**20


class PackedSettings:
    """Mixin for RLlib's config classes: what `BatchedRunner` and `PackedLearner` read beside RLlib's own settings.

    Attributes:
        row_length: S, steps per learner row.
        minibatch_steps: steps per gradient step.
        bootstraps_in_row: rows carry one observation more (V-trace) instead of advantages (PPO).
        standardize: V-trace advantages are scaled to unit variance per minibatch.
        keep_logits: carry the acting distribution inputs.
        learner_device: device of an in-process learner and runner.
    """

    bootstraps_in_row = False

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class)  # type: ignore[call-arg]
        self.row_length = 64
        self.minibatch_steps = 1024
        self.standardize = True
        self.keep_logits = False
        self.learner_device = "cpu"


def configure(
    rllib: AlgorithmConfig, config: TrainConfig, module_class: type = MemoryRLModule, **model_options: Any
) -> AlgorithmConfig:
    """Write what every algorithm shares into an RLlib config and return it; ``model_options`` go to the module."""
    device = torch.device(resolve_device(config.device))
    model_config: dict[str, Any] = {"agent": to_dict(config.agent), "max_seq_len": config.row_length}
    init = None if config.init is None else str(Path(config.init).resolve())
    model_config.update(model_options, torch_threads=config.torch_threads, init=init, fresh_value=config.fresh_value)
    rllib.framework("torch").environment(env=portable_id(config.env), env_config=dict(config.env_config))
    rllib.env_runners(
        num_env_runners=config.num_env_runners,
        num_envs_per_env_runner=config.num_envs,
        rollout_fragment_length=config.fragment,
        sample_timeout_s=config.sample_timeout_s,
        num_gpus_per_env_runner=config.runner_gpus,
        gym_env_vectorize_mode=_vectorize_mode(config.env),
    )
    rllib.learners(
        num_learners=config.num_learners,
        num_gpus_per_learner=1 if device.type == "cuda" else 0,
        local_gpu_idx=device.index or 0,
    )
    # RLlib's offline pipeline and DQN read the row length from the second place
    spec = RLModuleSpec(module_class=module_class, model_config=model_config)
    rllib.rl_module(rl_module_spec=spec, model_config=model_config)
    rllib.training(gamma=config.gamma, lr=config.lr_schedule, grad_clip=config.grad_clip, grad_clip_by="global_norm")
    rllib.fault_tolerance(restart_failed_env_runners=True, restart_failed_sub_environments=config.restart_failed_envs)
    rllib.debugging(seed=config.seed, log_level="ERROR")
    rllib.reporting(min_time_s_per_iteration=0, metrics_num_episodes_for_smoothing=100)
    if isinstance(rllib, PackedSettings):
        rllib.env_runners(env_runner_cls=BatchedRunner)
        rllib.row_length = config.row_length
        rllib.minibatch_steps = config.minibatch
        rllib.standardize = config.standardize
        rllib.keep_logits = config.keep_logits
        rllib.learner_device = str(device)
    else:
        _warn_large_state(config)
        if config.record_path is not None:
            rllib.env_runners(batch_mode="complete_episodes", episodes_to_numpy=False)
            rllib.offline_data(output=config.record_path, output_write_episodes=True)
    return rllib


def _vectorize_mode(env: str) -> str:
    spec = find_spec(env)
    return "vector_entry_point" if spec.vector_entry_point is not None else "sync"


def _warn_large_state(config: TrainConfig) -> None:
    memory = make_memory(config.agent.memory, **config.agent.memory_config)
    size: Any = memory.bytes_per_env() * config.batch
    if size > STATE_WARNING_BYTES:
        logger.warning(
            "runner stock keeps one memory state per step: %.0f MB per iteration; runner batched keeps one per row",
            size / 2**20,
        )
