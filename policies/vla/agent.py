"""A trained policy as an `Agent`, and its bundle (``agent.json``, ``weights.safetensors``).

The memory reads every frame. A plan of K actions is made where none is left, and ``execute`` of them are played: with
``execute = 1`` every frame is planned for. What is left of a plan is part of the state (``plan``, ``left``), so
controls that disturb the state disturb it too; measure memories with ``execute = 1``, where nothing is left over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import State
from embodied_mem.policies.vla.base import TokenPolicy
from embodied_mem.policies.vla.config import VLAConfig
from embodied_mem.policies.vla.policy import make_policy
from embodied_mem.spaces import as_dict_obs, space_from_json

VLAState = dict[str, Any]


class VLAAgent:
    """`TokenPolicy` as an `Agent`: numpy observations in, the environment's actions out."""

    needs_privileged = False

    def __init__(self, module: TokenPolicy, *, seed: int = 0) -> None:
        """Wrap a policy, on its device; ``seed`` is that of the noise until `initial_state` gives another."""
        self.module = module.eval()
        self._generator = torch.Generator(module.device).manual_seed(seed)

    def initial_state(self, n: int, seed: int | None = None) -> VLAState:
        """Return the state of ``n`` fresh episodes: ``memory``, and with ``execute`` > 1 ``plan`` and ``left``."""
        if seed is not None:
            self._generator.manual_seed(seed)
        with torch.inference_mode():
            state: VLAState = {"memory": self.module.initial_state(n)}
        if self.module.execute > 1:
            device = self.module.device
            state["plan"] = torch.zeros(n, self.module.execute, self.module.action_dim, device=device)
            state["left"] = torch.zeros(n, dtype=torch.int64, device=device)
        return state

    @torch.inference_mode()
    def act(
        self,
        obs: Any,
        state: VLAState,
        reset: np.ndarray,
        privileged: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, VLAState, dict[str, Any]]:
        """Return actions (B, A), the next state and an empty info.

        Args:
            obs: what the vector environment returned, leading axis B.
            state: from `initial_state` or the last call.
            reset: (B,) bool, True where ``obs`` opens an episode.
            privileged: not read.

        Raises:
            UsageError: ``reset`` does not fit the batch.
        """
        policy, device = self.module, self.module.device
        named = as_dict_obs(policy.observation_space, obs)
        batch = len(next(iter(named.values())))
        if np.shape(reset) != (batch,):
            raise UsageError(f"expected reset of shape {(batch,)}, got {np.shape(reset)}")
        tensors = {key: torch.from_numpy(np.ascontiguousarray(named[key])).to(device) for key in policy.keys}
        opens = torch.from_numpy(np.array(reset, dtype=bool)).to(device)
        perceptual, cognitive, memory = policy.step(tensors, state["memory"], opens)
        new: VLAState = {}
        if "plan" not in state:
            action = self._plan(perceptual, cognitive)[:, 0]
        else:
            action, new = self._play(perceptual, cognitive, state, opens)
        new["memory"] = policy.played(memory, action)
        space = policy.action_space
        found = action.float().cpu().numpy()
        return np.clip(found, space.low, space.high).astype(space.dtype), new, {}  # type: ignore[attr-defined]

    def _play(self, perceptual: Tensor, cognitive: Tensor, state: VLAState, opens: Tensor) -> tuple[Tensor, State]:
        """Return actions (B, A) and what is left of the plans, after new ones where none is left."""
        execute = self.module.execute
        left = torch.where(opens, 0, state["left"])
        plan, due = state["plan"], left == 0
        rows = due.nonzero()[:, 0]
        if len(rows):
            made = self._plan(perceptual[rows], cognitive[rows])[:, :execute]
            plan = plan.index_copy(0, rows, made)
            left = torch.where(due, execute, left)
        index = (execute - left).view(-1, 1, 1).expand(-1, 1, plan.shape[-1])
        return plan.gather(1, index)[:, 0], {"plan": plan, "left": left - 1}

    def _plan(self, perceptual: Tensor, cognitive: Tensor) -> Tensor:
        return self.module.plan(perceptual, cognitive, self._generator)


def load_vla(description: Mapping[str, Any], weights: Mapping[str, Tensor], device: str) -> VLAAgent:
    """Return the agent of a bundle that is described as kind ``vla``; see `embodied_mem.agent.load_agent`.

    Raises:
        UsageError: the description names an unknown component.
        RuntimeError: the weights do not fit it.
    """
    spaces = [space_from_json(description[key]) for key in ("observation_space", "action_space")]
    policy = make_policy(from_dict(VLAConfig, description["config"]), *spaces)
    policy.load_state_dict(dict(weights))
    return VLAAgent(policy.to(device))
