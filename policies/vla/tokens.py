"""Perception: an observation to perceptual tokens (P, D_p) and one cognitive token (D_c), and its built-in forms.

- ``state``: ``vector`` and instruction through one MLP; no picture. For state-only control. With ``parts`` each part of
  the vector has a token of its own, made of this part alone, so that a memory can find the same thing again.
- ``small``: patches of every picture, the state and the instruction through one transformer with a cognitive query; the
  patch outputs, pooled to ``tokens`` per picture, are the perceptual tokens. A small model of its own, for the CPU.
- ``open_clip``: as ``small``, with the patch features of an open_clip tower instead of the raw patches.
- ``transformers``: a vision-language model from a local folder (`language_model`).

The perceptual bottleneck is the published one: 1x1 map, ReLU, squeeze-and-excitation gate, 1x1 map to D_p.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.perception.text_bytes import TextBytesConfig, TextBytesEncoder
from embodied_mem.policies.vla.config import PerceptionConfig

_SQUEEZE = 16
_STD = 0.02


class Perception(nn.Module, ABC):
    """Base: the instruction's vector, the normalised state, and which entries are read."""

    def __init__(self, config: PerceptionConfig, space: spaces.Dict) -> None:
        """Find out what there is to read.

        Raises:
            UsageError: the observation has nothing that the encoder reads.
        """
        super().__init__()
        self.config = config
        self.reads = [key for key in config.reads if key in space.spaces]
        self.pictures = [key for key in self.reads if len(space[key].shape or ()) == 3]
        self.told = "instruction" in space.spaces
        self.shares_text = True
        box = space.spaces.get("instruction", spaces.Box(0, 255, (1,), np.uint8))
        assert isinstance(box, spaces.Box)
        self.text = TextBytesEncoder(TextBytesConfig(width=config.text), box)
        self.state = int(space["vector"].shape[0]) if "vector" in self.reads else 0  # type: ignore[index]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(self.state))
        self.register_buffer("std", torch.ones(self.state))

    @property
    def tokens(self) -> int:
        """Perceptual tokens P of a frame."""
        return len(self.config.parts) or self.config.tokens * max(1, len(self.pictures))

    def fit(self, states: np.ndarray) -> None:
        """Take mean and deviation of the state from demonstrations (M, S); numbers that never change count as 0."""
        if not self.state:
            return
        deviation = states.std(0)
        self.mean.copy_(torch.from_numpy(states.mean(0)))
        self.std.copy_(torch.from_numpy(np.where(deviation > 1e-4, deviation, np.inf)))

    @abstractmethod
    def forward(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return perceptual tokens (n, P, D_p) and the cognitive token (n, D_c), float32.

        Args:
            obs: entries (n, ...) in the dtypes of the space.
        """

    def _state(self, obs: Mapping[str, Tensor]) -> Tensor:
        return ((obs["vector"] - self.mean) / self.std).clamp(-5.0, 5.0)

    def _text(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Return (n, text); rows of one batch mostly share their instruction, which is then encoded once."""
        if not self.told:
            like = next(iter(obs.values()))
            return torch.zeros(len(like), self.config.text, device=like.device)
        words = obs["instruction"]
        if self.shares_text and words.device.type == "cpu" and bool((words == words[:1]).all()):
            return self.text(words[:1]).expand(len(words), -1)
        return self.text(words)


class StatePerception(Perception):
    """State and instruction to tokens by an MLP."""

    def __init__(self, config: PerceptionConfig, space: spaces.Dict) -> None:
        """Build the MLP.

        Raises:
            UsageError: the observation has no ``vector``.
        """
        super().__init__(config, space)
        self.pictures = []
        if not self.state:
            raise UsageError(f"perception 'state' reads the observation entry 'vector', got {sorted(space.spaces)}")
        sizes = [self.state + config.text, *[config.hidden] * config.layers]
        layers: list[nn.Module] = []
        for before, after in zip(sizes, sizes[1:]):
            layers += [nn.Linear(before, after), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        if config.parts:
            if sum(config.parts) != self.state:
                raise UsageError(f"expected perception.parts that add up to {self.state}, got {config.parts}")
            self.each = nn.ModuleList([_part(size, config) for size in config.parts])
            self.which = nn.Parameter(torch.randn(len(config.parts), config.width))
        else:
            self.perceive = nn.Linear(config.hidden, config.tokens * config.width)
        self.think = nn.Linear(config.hidden, config.cognitive)
        self.norms = nn.ModuleList([nn.LayerNorm(config.width), nn.LayerNorm(config.cognitive)])

    def forward(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `Perception.forward`."""
        state = self._state(obs)
        h = self.trunk(torch.cat([state, self._text(obs)], -1))
        if self.config.parts:
            parts = zip(self.each, state.split(self.config.parts, -1))
            perceptual = torch.stack([layer(part) for layer, part in parts], -2) + self.which
        else:
            perceptual = self.perceive(h).unflatten(-1, (self.config.tokens, self.config.width))
        return self.norms[0](perceptual), self.norms[1](self.think(h))


def _part(size: int, config: PerceptionConfig) -> nn.Module:
    return nn.Sequential(nn.Linear(size, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.width))


class Bottleneck(nn.Module):
    """Patch features (n, M, C) of one picture to ``tokens`` perceptual tokens (n, tokens, D_p)."""

    def __init__(self, channels: int, width: int, tokens: int) -> None:
        """Build the maps; ``tokens`` must not exceed the patches."""
        super().__init__()
        inner = max(2 * width // _SQUEEZE, 1)
        self.tokens = tokens
        self.widen, self.narrow = nn.Linear(channels, 2 * width), nn.Linear(2 * width, width)
        self.excite = nn.Sequential(nn.Linear(2 * width, inner), nn.ReLU(), nn.Linear(inner, 2 * width), nn.Sigmoid())
        self.norm = nn.LayerNorm(width)

    def forward(self, patches: Tensor) -> Tensor:
        """Return (n, tokens, D_p) for (n, M, C): pooled over the grid where both counts are squares, else in order."""
        h = F.relu(self.widen(patches))
        h = self.norm(self.narrow(h * self.excite(h.mean(1, keepdim=True))))
        if h.shape[1] == self.tokens:
            return h
        columns, side, out = h.transpose(1, 2), math.isqrt(h.shape[1]), math.isqrt(self.tokens)
        if side * side == h.shape[1] and out * out == self.tokens:
            pooled = F.adaptive_avg_pool2d(columns.unflatten(2, (side, side)), out).flatten(2)
        else:
            pooled = F.adaptive_avg_pool1d(columns, self.tokens)
        return pooled.transpose(1, 2)


class PatchPerception(Perception, ABC):
    """Patch features of every picture, the state and the instruction through one transformer."""

    def __init__(self, config: PerceptionConfig, space: spaces.Dict, features: Mapping[str, tuple[int, int]]) -> None:
        """Build the transformer.

        Args:
            config: sizes.
            space: of the observation.
            features: per picture, how many patches it has and how many numbers each (M, C).

        Raises:
            UsageError: there is no picture, or fewer patches than tokens.
        """
        super().__init__(config, space)
        if not self.pictures:
            raise UsageError(f"perception {config.encoder!r} reads pictures, got {sorted(space.spaces)}")
        for key in self.pictures:
            if features[key][0] < config.tokens:
                raise UsageError(f"expected at least {config.tokens} patches in {key!r}, got {features[key][0]}")
        H = config.hidden
        self.embed = nn.ModuleDict({key: nn.Linear(features[key][1], H) for key in self.pictures})
        self.place = nn.ParameterDict(
            {key: nn.Parameter(_STD * torch.randn(features[key][0], H)) for key in self.pictures}
        )
        self.say = nn.Linear(config.text, H)
        self.feel = nn.Linear(self.state, H) if self.state else None
        self.query = nn.Parameter(_STD * torch.randn(H))
        layer = nn.TransformerEncoderLayer(H, config.heads, 4 * H, 0.0, F.gelu, batch_first=True, norm_first=True)
        self.trunk = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.bottlenecks = nn.ModuleDict({key: Bottleneck(H, config.width, config.tokens) for key in self.pictures})
        self.think = nn.Sequential(nn.LayerNorm(H), nn.Linear(H, config.cognitive), nn.LayerNorm(config.cognitive))

    @abstractmethod
    def patches(self, key: str, picture: Tensor) -> Tensor:
        """Return features (n, M, C) float32 of ``picture`` (n, H, W, 3) uint8."""

    def forward(self, obs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """See `Perception.forward`."""
        parts = [self.embed[key](self.patches(key, obs[key])) + self.place[key] for key in self.pictures]
        sizes = [part.shape[1] for part in parts]
        n = len(parts[0])
        parts += [self.query.expand(n, 1, -1), self.say(self._text(obs)).unsqueeze(1)]
        if self.feel is not None:
            parts.append(self.feel(self._state(obs)).unsqueeze(1))
        h = self.trunk(torch.cat(parts, 1))
        seen = h[:, : sum(sizes)].split(sizes, 1)
        perceptual = [self.bottlenecks[key](part) for key, part in zip(self.pictures, seen)]
        return torch.cat(perceptual, 1), self.think(h[:, sum(sizes)])


class SmallPerception(PatchPerception):
    """Raw patches of ``patch`` x ``patch`` pixels."""

    def __init__(self, config: PerceptionConfig, space: spaces.Dict) -> None:
        """Build the network.

        Raises:
            UsageError: a picture's sides are no multiples of the patch.
        """
        features = {}
        for key in config.reads:
            shape = space[key].shape if key in space.spaces else ()
            if shape is None or len(shape) != 3:
                continue
            if shape[0] % config.patch or shape[1] % config.patch:
                raise UsageError(f"expected sides of {key!r} divisible by patch {config.patch}, got {shape}")
            features[key] = (shape[0] * shape[1] // config.patch**2, 3 * config.patch**2)
        super().__init__(config, space, features)

    def patches(self, key: str, picture: Tensor) -> Tensor:
        """Cut into patches, values in [-1, 1]."""
        p = self.config.patch
        n, height, width, _ = picture.shape
        cut = picture.view(n, height // p, p, width // p, p, 3).permute(0, 1, 3, 2, 4, 5).flatten(3).flatten(1, 2)
        return cut.float() / 127.5 - 1.0


def make_perception(config: PerceptionConfig, space: spaces.Dict) -> Perception:
    """Build the perception that ``config.encoder`` names, for a Dict observation space.

    Raises:
        UsageError: the observation lacks what it reads, or its model is not available.
    """
    if config.encoder == "state":
        return StatePerception(config, space)
    if config.encoder == "small":
        return SmallPerception(config, space)
    made: Any
    if config.encoder == "open_clip":
        from embodied_mem.policies.vla.open_clip_tokens import OpenClipPerception as made
    else:
        from embodied_mem.policies.vla.language_model import LanguageModelPerception as made
    return made(config, space)
