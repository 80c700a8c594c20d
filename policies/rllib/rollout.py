"""Buffers of one fragment: N envs x T steps on the module's device, memory states at row starts only.

Layout is (N, T, ...), so learner rows (N T / S, S, ...) are views: no transposition, no per-step state copies. Row r
covers steps [k S, (k + 1) S) of env i with r = i T / S + k.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from embodied_mem.heads import log_prob
from embodied_mem.policies.rllib.gae import gae
from embodied_mem.policies.rllib.packed import Columns, PackedBatch, map_columns

LOGITS = "action_dist_inputs"


class Rollout:
    """Collects one fragment and hands it over as packed rows.

    Args:
        num_envs: N.
        steps: T, a multiple of ``row``.
        row: S, steps per learner row.
        space: single-env action space.
        keep_logits: also hand over the acting distribution inputs (for checks and KL losses).
    """

    def __init__(self, num_envs: int, steps: int, row: int, space: spaces.Space, *, keep_logits: bool = False) -> None:
        if steps % row:
            raise ValueError(f"expected a fragment that is a multiple of the row length {row}, got {steps}")
        self.shape = (num_envs, steps)
        self.row = row
        self.space = space
        self.keep_logits = keep_logits
        self.device_columns: Columns = {}
        self.obs: dict[str, Tensor] = {}
        self.state: dict[str, Tensor] = {}
        self.rewards = np.zeros((steps, num_envs), np.float32)
        self.terminated = np.zeros((steps, num_envs), bool)
        self.done = np.zeros((steps, num_envs), bool)
        self.real = np.zeros((steps, num_envs), bool)

    def act(
        self,
        t: int,
        obs: dict[str, Tensor],
        reset: Tensor,
        state: dict[str, Tensor],
    ) -> None:
        """Store what step ``t`` acts on, before the module runs (it may reuse the buffers of ``state``).

        Args:
            t: step in the fragment.
            obs: named tensors (N, ...).
            reset: (N,) bool.
            state: memory state, leaves (N, ...); kept where ``t`` starts a row.
        """
        for key, value in obs.items():
            if key not in self.obs:
                self.obs[key] = value.new_empty((*self.shape, *value.shape[1:]))
            self.obs[key][:, t].copy_(value)
        self._column("resets", reset)[:, t].copy_(reset)
        if t % self.row == 0:
            for key, value in state.items():
                if key not in self.state:
                    rows = self.shape[1] // self.row
                    self.state[key] = value.new_empty((self.shape[0], rows, *value.shape[1:]))
                self.state[key][:, t // self.row].copy_(value)

    def acted(self, t: int, logits: Tensor, value: Tensor, action: Tensor) -> None:
        """Store what the module answered at step ``t``: logits (N, A), value (N,), action (N, ...)."""
        for key, output in ((LOGITS, logits), ("values", value), ("actions", action)):
            self._column(key, output)[:, t].copy_(output)

    def stepped(
        self, t: int, rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, real: np.ndarray
    ) -> None:
        """Store what the env answered at step ``t``; all (N,), ``real`` False on reset-only steps."""
        self.rewards[t] = rewards
        self.terminated[t] = terminated
        np.logical_or(terminated, truncated, out=self.done[t])
        self.real[t] = real

    def pack_ppo(self, last_value: Tensor, gamma: float, lam: float) -> PackedBatch:
        """Return rows with advantages and value targets.

        Args:
            last_value: (N,) float32, value of the observation after the fragment.
            gamma: discount.
            lam: lambda of the advantage estimate.
        """
        values = self.device_columns.pop("values")
        host = torch.cat([values, last_value[:, None]], dim=1).cpu().numpy().T
        advantages = gae(self.rewards, host, self.terminated, self.done, gamma, lam)
        columns = self._rows()
        columns["advantages"] = self._from_host(advantages)
        columns["value_targets"] = self._from_host(advantages + host[:-1])
        return self._batch(columns)

    def pack_vtrace(self, last_obs: dict[str, Tensor], last_reset: Tensor) -> PackedBatch:
        """Return rows for V-trace: ``obs`` and ``resets`` hold one step more, so that a row bootstraps by itself.

        Args:
            last_obs: named tensors (N, ...), the observation after the fragment.
            last_reset: (N,) bool of that observation.
        """
        self.device_columns.pop("values")
        columns = self._rows()
        columns["obs"] = {key: self._overlap(value, last_obs[key]) for key, value in self.obs.items()}
        columns["resets"] = self._overlap(self.device_columns["resets"], last_reset)
        columns["rewards"] = self._from_host(self.rewards)
        columns["terminateds"] = self._from_host(self.terminated)
        columns["dones"] = self._from_host(self.done)
        return self._batch(columns)

    def _rows(self) -> Columns:
        columns = dict(self.device_columns, obs=self.obs)
        # one call for the fragment instead of one per step
        columns["action_logp"] = log_prob(self.space, columns[LOGITS], columns["actions"])
        if not self.keep_logits:
            del columns[LOGITS]
        columns = map_columns(self._split, columns)
        columns["loss_mask"] = self._from_host(self.real)
        columns["state_in"] = {key: value.flatten(0, 1) for key, value in self.state.items()}
        return columns

    def _batch(self, columns: Columns) -> PackedBatch:
        return PackedBatch(columns, int(self.real.sum()))

    def _split(self, value: Tensor) -> Tensor:
        return value.view(-1, self.row, *value.shape[2:])

    def _overlap(self, value: Tensor, last: Tensor) -> Tensor:
        extended = torch.cat([value, last[:, None]], dim=1)
        windows = extended.unfold(1, self.row + 1, self.row)
        return windows.movedim(-1, 2).flatten(0, 1).contiguous()

    def _from_host(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array.T))
        return self._split(tensor.to(self.device_columns["resets"].device, non_blocking=True))

    def _column(self, key: str, like: Tensor) -> Tensor:
        column = self.device_columns.get(key)
        if column is None:
            column = self.device_columns[key] = like.new_empty((*self.shape, *like.shape[1:]))
        return column


def to_numpy(batch: PackedBatch) -> PackedBatch:
    """Return the batch with numpy leaves (what Ray's object store maps without copying)."""

    def convert(leaf: Any) -> np.ndarray:
        return leaf.detach().cpu().numpy() if isinstance(leaf, Tensor) else leaf

    return PackedBatch(map_columns(convert, batch.columns), batch.env_steps())
