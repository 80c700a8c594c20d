"""`PackedLearner`: RLlib's torch Learner over packed rows, without its per-minibatch bookkeeping.

RLlib slices and concatenates `MultiAgentBatch` objects, logs a dozen metrics and checks every gradient tensor per
minibatch; with small recurrent networks that costs as much as the update. Here a minibatch is one `index_select` per
column, metrics are logged once per update, and the gradient check is the norm that clipping needs anyway. The update
loop, optimiser registry, schedules, checkpoints, DDP and learner groups are RLlib's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from torch import Tensor

from embodied_mem.policies.rllib.module import AUX_LOSS
from embodied_mem.policies.rllib.packed import PackedBatch, RowBatch, concat


class PackedLearner(TorchLearner):
    """Mixin for RLlib's torch learners whose training data are `PackedBatch` objects."""

    config: Any
    metrics: Any
    _device: Any
    _module: Any

    def build(self) -> None:
        """Build RLlib's learner and the generator that orders minibatches."""
        seed = torch.initial_seed() if self.config.seed is None else self.config.seed
        self._order = torch.Generator().manual_seed(seed)
        self._stats: dict[str, list[Tensor]] = {}
        self._trained_steps = self._skipped = 0
        super().build()

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """Register one Adam over the trained parameters (frozen ones are left out)."""
        params = [p for p in self.get_parameters(self._module[module_id]) if p.requires_grad]
        optimizer = torch.optim.Adam(params, eps=1e-5, fused=True)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr)

    def prepare(self, batch: RowBatch) -> None:
        """Change the columns of a whole update's batch before it is cut (a hook for algorithms)."""

    def _make_batch_if_necessary(self, training_data: Any) -> Any:
        packed = training_data.episodes or training_data.batch
        if isinstance(packed, PackedBatch):
            packed = [packed]
        if not (isinstance(packed, list) and isinstance(packed[0], PackedBatch)):
            return super()._make_batch_if_necessary(training_data)
        batch = RowBatch.from_packed(DEFAULT_MODULE_ID, concat(packed), torch.device(self._device))
        self.prepare(batch)
        return batch

    def _create_iterator_if_necessary(
        self,
        *,
        training_data: Any,
        num_total_minibatches: int = 0,
        num_epochs: int = 1,
        minibatch_size: int | None = None,
        shuffle_batch_per_epoch: bool = False,
        **kwargs: Any,
    ) -> Iterator[RowBatch]:
        batch = training_data.batch
        if not isinstance(batch, RowBatch):
            batch = self._make_batch_if_necessary(training_data)
        row = batch.columns["loss_mask"].shape[1]
        size = max(1, self.config.minibatch_steps // row)
        return batch.minibatches(size, num_epochs, self._order)

    def _set_slicing_by_batch_id(self, batch: Any, *, value: bool) -> Any:
        return batch

    def _log_metrics(self, batch: Any) -> None:
        """Count nothing per minibatch; `after_gradient_based_update` logs the update's totals."""

    def _log_steps_trained_metrics(self, batch: Any) -> None:
        self._trained_steps += batch.env_steps()

    def log_stats(self, stats: Mapping[str, Tensor]) -> None:
        """Keep scalar tensors of one minibatch; their means over the update are logged once."""
        for key, value in stats.items():
            self._stats.setdefault(key, []).append(value.detach())

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Log the update's means and step counts, then let RLlib advance its schedules."""
        for key, values in self._stats.items():
            self.metrics.log_value((DEFAULT_MODULE_ID, key), torch.stack(values).mean().item(), window=1)
        self._stats.clear()
        self.metrics.log_value((DEFAULT_MODULE_ID, "skipped_updates"), self._skipped, reduce="sum")
        self._skipped = 0
        super()._log_steps_trained_metrics(cast(Any, _Counted(self._trained_steps)))
        self._trained_steps = 0
        super().after_gradient_based_update(timesteps=timesteps)

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        fwd_out = self.module.forward_train(batch)
        losses = self.compute_losses(fwd_out=fwd_out, batch=batch)
        for module_id, outputs in fwd_out.items():
            if AUX_LOSS in outputs:
                losses[module_id] = losses[module_id] + outputs[AUX_LOSS]
        for name, optimizer in self._named_optimizers.items():
            optimizer.zero_grad(set_to_none=True)
            losses[self._optimizer_name_to_module[name]].backward()
            params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            limit = math.inf if self.config.grad_clip is None else self.config.grad_clip
            norm = torch.nn.utils.clip_grad_norm_(params, limit)
            # a non-finite gradient must not reach Adam's moments
            if math.isfinite(norm.item()):
                optimizer.step()
            else:
                self._skipped += 1
            self.log_stats({"grad_norm": norm})
        return fwd_out, losses, {}

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return RLlib's learner state plus the generator of the minibatch order."""
        state = super().get_state(*args, **kwargs)
        state["minibatch_order"] = self._order.get_state().numpy()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` returned."""
        super().set_state(state)
        if "minibatch_order" in state:
            self._order.set_state(torch.from_numpy(np.array(state["minibatch_order"])))


class _Counted:
    """Stands for an update's batch where RLlib only counts steps."""

    def __init__(self, steps: int) -> None:
        self.policy_batches = {DEFAULT_MODULE_ID: range(steps)}
        self._steps = steps

    def env_steps(self) -> int:
        return self._steps
