"""`MemoryAgent` as RLlib modules: the network that evaluates and serves without Ray, with RLlib's forward methods.

One class serves both row layouts: packed rows carry a ``resets`` column (episodes may begin inside a row), stock rows
do not (RLlib cuts rows at episode ends). `rollout_step` is the single-step form that the batched runner calls.

Limits: the state is stored at row starts by the behaviour weights and is not refreshed between epochs; gradients reach
back to the row start only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDiagGaussian,
    TorchMultiCategorical,
)
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.apis.target_network_api import TARGET_NETWORK_ACTION_DIST_INPUTS
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from embodied_mem import heads
from embodied_mem.agent import AgentConfig, Bundled, MemoryAgent, load_weights
from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.tensors import dict_obs

RESETS = "resets"
AUX_LOSS = "aux_loss"


class MemoryRLModule(TorchRLModule, ValueFunctionAPI):
    """Encoder, any registered memory and heads (`MemoryAgent`) with policy and value outputs.

    ``model_config`` holds ``agent`` (the JSON form of `AgentConfig`), ``max_seq_len`` (RLlib's row length) and
    ``torch_threads`` (0 or absent: torch's choice) and ``init`` (folder of the agent whose weights it starts from; with
    ``fresh_value`` its values begin at 0).
    """

    model_config: Any
    observation_space: spaces.Space
    action_space: spaces.Space

    def setup(self) -> None:
        """Build the agent from ``model_config["agent"]`` and the single-env spaces."""
        # every process that runs a module passes here, whatever its runner or learner
        if self.model_config.get("torch_threads"):
            torch.set_num_threads(self.model_config["torch_threads"])
        self.agent = self.make_agent()

    def make_agent(self) -> Any:
        """Return the network: `MemoryAgent`, or one with its calls."""
        config = from_dict(AgentConfig, self.model_config["agent"])
        agent = MemoryAgent.build(config, self.observation_space, self.action_space)
        if self.model_config.get("init"):
            load_weights(agent, self.model_config["init"], fresh_value=bool(self.model_config.get("fresh_value")))
        return agent

    @property
    def trained(self) -> Bundled:
        """What a run exports."""
        return self.agent

    def to_env(self, actions: Tensor) -> np.ndarray:
        """Return the environment's actions (B, ...) for actions (B, ...) of the distribution, on any device."""
        return heads.to_env(self.action_space, actions.cpu().numpy())

    def train(self, mode: bool = True) -> MemoryRLModule:
        """Set training mode; RLlib asks for it at every forward, so an equal mode is not set again in every part."""
        return self if self.training is mode and self.agent.training is mode else super().train(mode)

    def get_initial_state(self) -> dict[str, Any]:
        """Return the memory's initial state, unbatched, as numpy arrays (RLlib stores and stacks them)."""
        with torch.no_grad():
            return {key: value[0].cpu().numpy() for key, value in self.agent.initial_state(1).items()}

    def rollout_step(
        self, obs: dict[str, Tensor], state: dict[str, Tensor], reset: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Advance every env by one observation; the buffers of ``state`` may be reused.

        Args:
            obs: named tensors (B, ...), as `spaces.as_dict_obs` makes them.
            state: memory state, leaves (B, ...).
            reset: (B,) bool, True where ``obs`` opens an episode.

        Returns:
            Distribution inputs (B, A) float32, values (B,) float32 and the new state.
        """
        return self.agent.step(obs, state, reset, donate=True)

    def _forward(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        logits, _, _, state = self._sequence(self.agent, batch)
        return {Columns.ACTION_DIST_INPUTS: logits, Columns.STATE_OUT: state}

    def _forward_train(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        logits, values, embeddings, _ = self._sequence(self.agent, batch)
        outputs = {Columns.ACTION_DIST_INPUTS: logits, Columns.EMBEDDINGS: embeddings, Columns.VF_PREDS: values}
        extra = self.agent.memory.aux_losses()
        if extra:
            outputs[AUX_LOSS] = torch.stack(list(extra.values())).sum()
        return outputs

    def compute_values(self, batch: Mapping[str, Any], embeddings: Tensor | None = None) -> Tensor:
        """Return values (B, T) float32, from ``embeddings`` (B, T, D) where they are given."""
        if embeddings is not None:
            return self.agent.head.value(embeddings)
        return self._sequence(self.agent, batch)[1]

    def _sequence(
        self, agent: MemoryAgent, batch: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        obs = dict_obs(self.observation_space, batch[Columns.OBS])
        return agent.sequence(obs, batch[Columns.STATE_IN], batch.get(RESETS))

    def get_inference_action_dist_cls(self) -> Any:
        """Return RLlib's distribution of the action space; it reads the heads' outputs as they are."""
        return action_distribution(self.action_space)


class MemoryTargetRLModule(MemoryRLModule, TargetNetworkAPI, InferenceOnlyAPI):
    """`MemoryRLModule` with a target copy of the agent, as APPO requires."""

    def make_target_networks(self) -> None:
        """Create the target agent, equal to the trained one."""
        self.target_agent: nn.Module = make_target_network(self.agent)

    def get_non_inference_attributes(self) -> list[str]:
        """Return what env runners do without: the target agent."""
        return ["target_agent"]

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return (trained, target) pairs that the learner keeps in step."""
        return [(self.agent, self.target_agent)]

    def forward_target(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the target agent's distribution inputs (B, T, A) under RLlib's key."""
        with torch.no_grad():
            logits = self._sequence(self.target_agent, batch)[0]  # type: ignore[arg-type]
        return {TARGET_NETWORK_ACTION_DIST_INPUTS: logits}


def action_distribution(space: spaces.Space) -> Any:
    """Return RLlib's distribution class for an action space.

    Raises:
        UsageError: the space is not Discrete, MultiDiscrete or Box.
    """
    if isinstance(space, spaces.Discrete):
        return TorchCategorical
    if isinstance(space, spaces.MultiDiscrete):
        lens = [int(n) for n in space.nvec.reshape(-1)]
        return TorchMultiCategorical.get_partial_dist_cls(input_lens=lens)
    if isinstance(space, spaces.Box):
        return TorchDiagGaussian
    raise UsageError(f"expected a Discrete, MultiDiscrete or Box action space, got {space}")
