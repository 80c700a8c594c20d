"""`ObservationEncoder`: a Dict observation to one vector per step, an encoder per entry chosen by its name.

Entries are encoded in the sorted order of their names, concatenated and projected to ``out_dim``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from gymnasium import spaces
from torch import Tensor, nn

from embodied_mem.errors import UsageError, nearest
from embodied_mem.perception.base import activation, linear, make_encoder

DEFAULTS: dict[str, str] = {
    "rgb": "cnn",
    "depth": "cnn",
    "semantic": "cnn",
    "scan": "scan",
    "vector": "mlp",
    "goal": "mlp",
    "pose": "mlp",
    "intrinsics": "mlp",
    "previous_action": "mlp",
    "instruction": "text_bytes",
}


@dataclass(frozen=True)
class EncoderConfig:
    """How observations become features."""

    out_dim: int = 128
    """Width of the feature vector the memory reads."""
    activation: str = "tanh"
    """Non-linearity after the projection."""
    encoders: dict[str, str] = field(default_factory=dict)
    """Encoder per observation entry; entries not named here follow their standard name."""
    options: dict[str, dict] = field(default_factory=dict)
    """Options per observation entry, for example ``{"rgb": {"width": 64}}``."""
    gains: dict[str, float] = field(default_factory=dict)
    """Factor on the first projection weights of an entry; below 1 lets the other entries lead at the start."""
    ignore: tuple[str, ...] = ()
    """Observation entries the policy does not read."""

    def __post_init__(self) -> None:
        """Check the width."""
        if self.out_dim < 1:
            raise UsageError(f"expected encoder.out_dim >= 1, got {self.out_dim}")


class ObservationEncoder(nn.Module):
    """Routes every entry of a Dict observation to its encoder, concatenates, projects."""

    def __init__(self, config: EncoderConfig, space: spaces.Dict) -> None:
        """Build one encoder per entry of ``space`` (see `embodied_mem.spaces.as_dict_space`).

        Raises:
            UsageError: a configured entry is not in the space, nothing is left to read, or an encoder refuses its
            space.
        """
        super().__init__()
        known = list(space.spaces)
        for key in (*config.encoders, *config.options, *config.gains, *config.ignore):
            if key not in space.spaces:
                raise UsageError(f"unknown observation entry {key!r}{nearest(key, known)}; the space has {known}")
        self.keys = [key for key in sorted(known) if key not in config.ignore]
        if not self.keys:
            raise UsageError(f"expected at least one observation entry to read, all of {known} are ignored")
        self.config = config
        encoders = {}
        for key in self.keys:
            box = space.spaces[key]
            if not isinstance(box, spaces.Box):
                raise UsageError(f"expected a Box for observation entry {key!r}, got {box}")
            name = config.encoders.get(key) or DEFAULTS.get(key) or default_encoder(box)
            encoders[key.replace("/", "__")] = make_encoder(name, box, config.options.get(key))
        self.encoders = nn.ModuleDict(encoders)
        self._pairs = list(zip(self.keys, encoders.values()))
        self._ranks = [len(space.spaces[key].shape or ()) for key in self.keys]
        self.project = linear(sum(encoder.out_dim for encoder in encoders.values()), config.out_dim)
        start = 0
        for key, encoder in self._pairs:
            stop = start + encoder.out_dim
            with torch.no_grad():
                self.project.weight[:, start:stop] *= config.gains.get(key, 1.0)
            start = stop
        self.act = activation(config.activation)
        self.out_dim = config.out_dim

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        """Return (B, out_dim) or (B, T, out_dim) float32 for entries (B, *shape) or (B, T, *shape).

        Raises:
            UsageError: an entry is missing.
        """
        parts = []
        lead: torch.Size | None = None
        for (key, encoder), rank in zip(self._pairs, self._ranks):
            value = obs.get(key)
            if value is None:
                raise UsageError(f"expected observation entry {key!r}, got {sorted(obs)}")
            lead = value.shape[: value.dim() - rank]
            parts.append(encoder(value if len(lead) == 1 else value.flatten(0, len(lead) - 1)))
        features = self.act(self.project(parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)))
        assert lead is not None
        return features if len(lead) == 1 else features.unflatten(0, lead)


def default_encoder(box: spaces.Box) -> str:
    """Return the encoder for an entry without a standard name: ``cnn`` for images, ``mlp`` for the rest."""
    return "cnn" if len(box.shape) == 3 and min(box.shape[:2]) >= 8 else "mlp"
