"""Weights from learner to runners: tensor to tensor inside one process, through RLlib's object store otherwise."""

from __future__ import annotations

from typing import Any

import torch
from ray.rllib.core import DEFAULT_MODULE_ID


def sync_weights(runners: Any, learners: Any) -> None:
    """Bring every runner of an `EnvRunnerGroup` to the weights of a `LearnerGroup`."""
    if runners.num_remote_workers() or learners.is_remote:
        runners.sync_weights(from_worker_or_learner_group=learners, policies=[DEFAULT_MODULE_ID], inference_only=True)
        return
    learner, runner = learners._learner, runners.local_env_runner
    copy_weights(learner.module[DEFAULT_MODULE_ID], runner.module)
    runner._weights_seq_no = learner._weights_seq_no


def copy_weights(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Copy parameters and buffers of ``source`` that ``target`` has too, by name."""
    theirs = dict(source.state_dict(keep_vars=True))
    mine = target.state_dict(keep_vars=True)
    with torch.no_grad():
        torch._foreach_copy_([mine[name].data for name in mine], [theirs[name].data for name in mine])
