"""Observations as tensors: staging of numpy observations on a device, and the Dict form of RLlib's batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import one_hot

from embodied_mem.spaces import as_dict_obs


class Stage:
    """Moves one vector step's arrays to a device without waiting for it.

    On the CPU the tensors alias the arrays. On CUDA they pass through pinned buffers; the action transfer that ends
    every step orders their reuse.

    Args:
        space: single-env observation space.
        device: where the network runs.
    """

    def __init__(self, space: spaces.Space, device: torch.device) -> None:
        self.space = space
        self.device = device
        self._pinned: dict[str, Tensor] = {}

    def obs(self, obs: Any) -> dict[str, Tensor]:
        """Return the named observation tensors (N, ...) on the device; tensors already there pass through."""
        if isinstance(obs, dict) and all(isinstance(value, Tensor) for value in obs.values()):
            return {key: value.to(self.device, non_blocking=True) for key, value in obs.items()}
        return {key: self.array(key, value) for key, value in as_dict_obs(self.space, obs).items()}

    def array(self, name: str, value: np.ndarray) -> Tensor:
        """Return ``value`` on the device; ``name`` identifies its pinned buffer."""
        tensor = torch.from_numpy(np.ascontiguousarray(value))
        if self.device.type != "cuda":
            return tensor
        pinned = self._pinned.get(name)
        if pinned is None or pinned.shape != tensor.shape or pinned.dtype != tensor.dtype:
            pinned = self._pinned[name] = torch.empty_like(tensor, pin_memory=True)
        pinned.copy_(tensor)
        return pinned.to(self.device, non_blocking=True)


def dict_obs(space: spaces.Space, obs: Any) -> dict[str, Tensor]:
    """Return RLlib's batched observation (B, T, ...) of ``space`` as a dict of named tensors.

    The packed path already holds the Dict form; the stock path holds the env's own structure. Same rules as
    `spaces.as_dict_obs`.
    """
    if isinstance(obs, Mapping):
        flat: dict[str, Tensor] = {}
        for key, value in obs.items():
            inner = space[key] if isinstance(space, spaces.Dict) and key in space.spaces else None
            if inner is None:
                flat[key] = value
            elif isinstance(value, Mapping):
                flat.update({f"{key}/{name}": leaf for name, leaf in dict_obs(inner, value).items()})
            else:
                flat[key] = _leaf(inner, value)
        return flat
    name = "rgb" if _is_image(space) else "vector"
    return {name: _leaf(space, obs)}


def _is_image(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


def _leaf(space: spaces.Space, value: Tensor) -> Tensor:
    if isinstance(space, spaces.Discrete):
        return value if value.is_floating_point() else one_hot(value.long() - int(space.start), int(space.n)).float()
    if isinstance(space, spaces.MultiDiscrete):
        if value.is_floating_point():
            return value
        shifted = value.flatten(2).long() - torch.as_tensor(space.start.reshape(-1), device=value.device)
        parts = [one_hot(shifted[..., i], int(n)) for i, n in enumerate(space.nvec.reshape(-1))]
        return torch.cat(parts, dim=-1).float()
    if isinstance(space, spaces.MultiBinary):
        return value.flatten(2).float()
    if space.dtype == np.uint8 or len(space.shape or ()) > 1:
        return value
    return value.flatten(2).float()
