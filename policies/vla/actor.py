"""`VLAActor`: a diffusion policy with a distribution over its action and a value, as reinforcement learning needs them.

    mu = denoise(0; x~_per, x~_cog)[0],   a ~ N(mu, diag(sigma^2)),   V = W tanh(U [x~_cog, mean over tokens of x~_per])

Plans start from no noise, so that the action is a function of what is seen and remembered; sigma is learned, one number
per action dimension, in the policy's normalised range. Gradients reach the expert, the memory and the perception
through the last ``through`` denoising steps. Both heads read the fused tokens, so the value remembers what the policy
does. Sampled actions become the environment's in `to_env`: grippers snap and unused dimensions stay fixed after the
draw, so noise on them does nothing.

Limits: one action per decision (``expert.execute`` 1; of a longer chunk the first action is played). A number that the
policy puts at the end of its range passes no gradient, since samplers cut estimates off there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from embodied_mem.agent import CONFIG_FILE, find_bundle, load_weights
from embodied_mem.config import from_dict, to_dict
from embodied_mem.errors import UsageError
from embodied_mem.files import read_json
from embodied_mem.heads import LOG_STD_RANGE
from embodied_mem.memory.contract import MemoryModule, State
from embodied_mem.policies.vla.base import TokenPolicy
from embodied_mem.policies.vla.config import ActorConfig, VLAConfig
from embodied_mem.policies.vla.policy import VLAPolicy, make_policy

FREE = (
    "expert.start",
    "expert.guidance",
    "expert.draws",
    "expert.drop_condition",
    "expert.execute",
    "expert.schedule.steps",
)
"""Settings that may differ from those a policy was trained with: how it acts, and what only imitation reads."""


class ValueHead(nn.Module):
    """Features (..., F) to a value (...), 0 at first."""

    def __init__(self, features: int, hidden: int) -> None:
        """Build the two layers."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        for parameter in self.layers[2].parameters():
            nn.init.zeros_(parameter)

    def value(self, features: Tensor) -> Tensor:
        """Return the values."""
        return self.layers(features).squeeze(-1)


class VLAActor(nn.Module):
    """`VLAPolicy` with the calls of `MemoryAgent` that reinforcement learning makes."""

    def __init__(self, policy: TokenPolicy, config: ActorConfig) -> None:
        """Put the heads on a policy, which is trained with them.

        Raises:
            UsageError: the policy draws the noise that it plans from, or plays more than one action of a plan.
        """
        super().__init__()
        found = policy.config.expert
        if not isinstance(policy, VLAPolicy) or found.start != "zero" or found.execute != 1:
            raise UsageError(
                "expected agent.policy 'diffusion' with agent.expert.start 'zero' and agent.expert.execute 1 for "
                f"reinforcement learning, got {policy.config.policy!r}, {found.start!r} and {found.execute}"
            )
        self.policy, self.config = policy, config
        p = policy.config.perception
        self.head = ValueHead(p.width + p.cognitive, config.hidden)
        self.log_std = nn.Parameter(torch.full((policy.action_dim,), math.log(config.std)))
        self.train(False)

    def train(self, mode: bool = True) -> VLAActor:
        """Stay in evaluation mode: with dropout a policy would be compared with another than the one that acted."""
        return super().train(False)

    @property
    def memory(self) -> MemoryModule:
        """The policy's memory."""
        return self.policy.memory.memory

    def initial_state(self, n: int, device: torch.device | str | None = None) -> State:
        """Return the memory state of ``n`` fresh episodes, leaves (n, ...), on the policy's device."""
        return self.policy.initial_state(n)

    def step(
        self, obs: Mapping[str, Tensor], state: State, reset: Tensor | None = None, donate: bool = False
    ) -> tuple[Tensor, Tensor, State]:
        """Advance every row by one frame.

        Args:
            obs: named tensors (B, ...).
            state: memory state, leaves (B, ...); never changed in place, whatever ``donate`` says.
            reset: (B,) bool, True where the frame opens an episode.
            donate: not used.

        Returns:
            Mean and log standard deviation of the normalised action (B, 2 A) float32, value (B,) float32, new state.
        """
        perceptual, cognitive, state = self.policy.step(obs, state, reset)
        return *self._answer(perceptual, cognitive)[:2], state

    def sequence(
        self, obs: Mapping[str, Tensor], state: State | None, resets: Tensor | None = None, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Run whole rows, with episodes beginning inside them where ``resets`` (B, T) says so.

        Returns:
            Distribution inputs (B, T, 2 A), values (B, T), what the value reads (B, T, F), all float32, and the last
            state.
        """
        perceptual, cognitive, state = self.policy.sequence(obs, state, resets, valid)
        shape = cognitive.shape[:2]
        found = self._answer(perceptual.flatten(0, 1), cognitive.flatten(0, 1))
        inputs, value, features = (part.unflatten(0, shape) for part in found)
        return inputs, value, features, state

    def to_env(self, actions: Tensor) -> np.ndarray:
        """Return the environment's actions (B, A) for normalised ones (B, A)."""
        space: Any = self.policy.action_space
        found = self.policy.actions.restore(actions).float().cpu().numpy()
        return np.clip(found, space.low, space.high).astype(space.dtype)

    def _answer(self, perceptual: Tensor, cognitive: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return distribution inputs (n, 2 A), values (n,) and what the value reads (n, F) of fused tokens."""
        mean = self.policy.first_action(perceptual, cognitive, self.config.through)
        log_std = self.log_std.clamp(*LOG_STD_RANGE).expand_as(mean)
        features = torch.cat([cognitive, perceptual.mean(-2)], -1)
        if not self.config.value_gradient:
            features = features.detach()
        return torch.cat([mean, log_std], -1), self.head.value(features), features


def make_actor(
    config: VLAConfig,
    actor: ActorConfig,
    observation_space: gymnasium.Space,
    action_space: gymnasium.Space,
    init: str | Path | None = None,
) -> VLAActor:
    """Return an actor for single-env spaces, with the weights of the policy in the folder ``init`` where it is given.

    Raises:
        UsageError: the parts do not fit together or not the spaces, or there is no such policy with these settings.
    """
    made = VLAActor(make_policy(config, observation_space, action_space), actor)
    if init is not None:
        start_from(made.policy, init)
    return made


def start_from(policy: VLAPolicy, directory: str | Path) -> None:
    """Give ``policy`` the weights of the one in ``directory`` (a bundle, or a run folder that holds one).

    Raises:
        UsageError: there is none, it is of another kind, or it was trained with other settings than `FREE` ones.
    """
    folder = find_bundle(directory)
    description = read_json(folder / CONFIG_FILE)
    if description.get("kind") != policy.bundle_kind:
        raise UsageError(
            f"expected a policy trained by imitation (bundle kind {policy.bundle_kind!r}) in {folder}, "
            f"got kind {description.get('kind')!r}"
        )
    theirs, ours = (_flat(to_dict(item)) for item in (from_dict(VLAConfig, description["config"]), policy.config))
    wrong = [key for key in sorted({*theirs, *ours} - set(FREE)) if theirs.get(key) != ours.get(key)]
    if wrong:
        say = "; ".join(f"agent.{key}={theirs.get(key)!r}, not {ours.get(key)!r}" for key in wrong[:3])
        raise UsageError(f"the policy in {folder} was trained with other settings; expected {say}")
    load_weights(policy, folder)


def _flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return the leaves of nested settings by dotted name."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return found
