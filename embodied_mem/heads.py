"""Action and value heads, and the action distributions in the layout RLlib uses, without Ray.

`dist_inputs` (..., A): Discrete = logits (A = n); MultiDiscrete = concatenated logits (A = sum of n); Box = mean then
log standard deviation (A = 2 d). A Box action is normalised: [-1, 1] spans each bounded dimension (`to_env`),
unbounded dimensions are used as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError
from embodied_mem.perception.base import activation, linear

LOG_STD_RANGE = (-8.0, 4.0)
_HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class HeadConfig:
    """Action and value heads."""

    hidden: tuple[int, ...] = ()
    """Widths of the layers shared by both heads; empty = the heads read the memory's output."""
    activation: str = "tanh"
    """Non-linearity of the hidden layers."""
    policy_gain: float = 0.01
    """Orthogonal gain of the action layer; small = nearly uniform first policy."""
    value_gain: float = 1.0
    """Orthogonal gain of the value layer."""
    log_std: float = 0.0
    """Start of the free log standard deviation of Box actions."""


class ActionHead(nn.Module):
    """Distribution inputs and value from an embedding; both come from one matrix product."""

    def __init__(self, in_dim: int, action_space: spaces.Space, config: HeadConfig) -> None:
        """Build the heads for an action space.

        Raises:
            UsageError: the space is not Discrete, MultiDiscrete or Box.
        """
        super().__init__()
        self.inputs = inputs_size(action_space)
        self.is_box = isinstance(action_space, spaces.Box)
        layers: list[nn.Module] = []
        for size in config.hidden:
            layers += [linear(in_dim, size), activation(config.activation)]
            in_dim = size
        self.torso = nn.Sequential(*layers) if layers else None
        self.actions = self.inputs // 2 if self.is_box else self.inputs
        self.out = nn.Linear(in_dim, self.actions + 1)
        with torch.no_grad():
            self.out.weight[: self.actions] = linear(in_dim, self.actions, config.policy_gain).weight
            self.out.weight[self.actions :] = linear(in_dim, 1, config.value_gain).weight
            self.out.bias.zero_()
        self.log_std = nn.Parameter(torch.full((self.actions,), config.log_std)) if self.is_box else None

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return dist_inputs (..., A) float32 and value (...) float32 for ``embedding`` (..., D) float32."""
        out = self.out(embedding if self.torso is None else self.torso(embedding))
        inputs, value = out[..., :-1], out[..., -1]
        if self.log_std is not None:
            log_std = self.log_std.clamp(*LOG_STD_RANGE).expand_as(inputs)
            inputs = torch.cat([inputs, log_std], dim=-1)
        return inputs, value

    @torch.no_grad()
    def forget_value(self) -> None:
        """Let every value be 0, as it is before anything is known of returns."""
        self.out.weight[-1].zero_()
        self.out.bias[-1].zero_()

    def value(self, embedding: Tensor) -> Tensor:
        """Return the value (...) float32 alone for ``embedding`` (..., D) float32."""
        features = embedding if self.torso is None else self.torso(embedding)
        return nn.functional.linear(features, self.out.weight[-1:], self.out.bias[-1:]).squeeze(-1)


def inputs_size(space: spaces.Space) -> int:
    """Return A, the number of distribution inputs of an action space.

    Raises:
        UsageError: the space is not Discrete, MultiDiscrete or floating-point Box.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        return 2 * int(np.prod(space.shape))
    raise UsageError(f"expected a Discrete, MultiDiscrete or floating-point Box action space, got {space}")


def sample(space: spaces.Space, dist_inputs: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Return actions drawn from (B, A) ``dist_inputs``: (B,) int64, (B, k) int64 or (B, d) float32.

    Actions are RLlib's: counted from 0, Box actions normalised; `to_env` makes them the environment's.
    """
    if isinstance(space, spaces.Box):
        mean, log_std = dist_inputs.chunk(2, dim=-1)
        noise = torch.empty_like(mean).normal_(generator=generator)
        return mean + log_std.exp() * noise
    parts = [_gumbel_argmax(logits, generator) for logits in _split(space, dist_inputs)]
    return parts[0] if isinstance(space, spaces.Discrete) else torch.stack(parts, dim=-1)


def mode(space: spaces.Space, dist_inputs: Tensor) -> Tensor:
    """Return the most likely actions of (B, A) ``dist_inputs``, shaped as `sample`."""
    if isinstance(space, spaces.Box):
        return dist_inputs.chunk(2, dim=-1)[0]
    parts = [logits.argmax(-1) for logits in _split(space, dist_inputs)]
    return parts[0] if isinstance(space, spaces.Discrete) else torch.stack(parts, dim=-1)


def log_prob(space: spaces.Space, dist_inputs: Tensor, actions: Tensor) -> Tensor:
    """Return log probabilities (...) of ``actions`` under ``dist_inputs`` (..., A); actions as `sample` gives them."""
    if isinstance(space, spaces.Box):
        mean, log_std = dist_inputs.chunk(2, dim=-1)
        z = (actions - mean) * (-log_std).exp()
        return (-0.5 * z.square() - log_std - _HALF_LOG_2PI).sum(-1)
    columns = actions.unsqueeze(-1) if isinstance(space, spaces.Discrete) else actions
    parts = [
        logits.log_softmax(-1).gather(-1, columns[..., index : index + 1].long()).squeeze(-1)
        for index, logits in enumerate(_split(space, dist_inputs))
    ]
    return torch.stack(parts, dim=-1).sum(-1)


def entropy(space: spaces.Space, dist_inputs: Tensor) -> Tensor:
    """Return the entropy (...) in nats of the distributions (..., A)."""
    if isinstance(space, spaces.Box):
        return (dist_inputs.chunk(2, dim=-1)[1] + 0.5 + _HALF_LOG_2PI).sum(-1)
    logs = [logits.log_softmax(-1) for logits in _split(space, dist_inputs)]
    return torch.stack([-(log.exp() * log).sum(-1) for log in logs], dim=-1).sum(-1)


def log_prob_entropy(space: spaces.Space, dist_inputs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Return `log_prob` and `entropy` (...) at the price of one normalisation, for losses that need both."""
    if isinstance(space, spaces.Box):
        return log_prob(space, dist_inputs, actions), entropy(space, dist_inputs)
    columns = actions.unsqueeze(-1) if isinstance(space, spaces.Discrete) else actions
    parts = []
    for index, logits in enumerate(_split(space, dist_inputs)):
        logs = logits.log_softmax(-1)
        parts.append((logs.gather(-1, columns[..., index : index + 1])[..., 0], -(logs.exp() * logs).sum(-1)))
    if len(parts) == 1:
        return parts[0]
    logps, entropies = zip(*parts)
    return torch.stack(logps).sum(0), torch.stack(entropies).sum(0)


def to_env(space: spaces.Space, actions: np.ndarray) -> np.ndarray:
    """Return the environment's actions (B, ...) for actions (B, ...) of `sample` or `mode`.

    Discrete values get the start of the space added; bounded Box dimensions map [-1, 1] to [low, high] and are clipped.
    """
    if isinstance(space, spaces.Discrete):
        return actions.astype(np.int64) + int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return (actions.reshape(len(actions), *space.nvec.shape) + space.start).astype(space.dtype)
    assert isinstance(space, spaces.Box)
    actions = actions.reshape(len(actions), *space.shape)
    bounded = np.isfinite(space.low) & np.isfinite(space.high)
    low, high = np.where(bounded, space.low, -1.0), np.where(bounded, space.high, 1.0)
    inside = low + (np.clip(actions, -1.0, 1.0) + 1.0) * 0.5 * (high - low)
    return np.clip(np.where(bounded, inside, actions), space.low, space.high).astype(space.dtype)


def _split(space: spaces.Space, dist_inputs: Tensor) -> tuple[Tensor, ...]:
    if isinstance(space, spaces.Discrete):
        return (dist_inputs,)
    assert isinstance(space, spaces.MultiDiscrete)
    return dist_inputs.split([int(n) for n in space.nvec.reshape(-1)], dim=-1)


def _gumbel_argmax(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from a categorical without a host sync or a normalised copy (Gumbel-max)."""
    noise = torch.empty_like(logits).exponential_(generator=generator)
    return (logits - noise.log()).argmax(-1)
