"""`Take`: one episode as it was played, with the observation after the last action; the writers' input."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium
import numpy as np
from gymnasium import spaces

from embodied_mem.demonstrations.episode import Episode
from embodied_mem.errors import UsageError
from embodied_mem.spaces import as_dict_space

STATE, TEXT = "vector", "instruction"


@dataclass(frozen=True)
class Kinds:
    """How the observations of an environment are kept."""

    images: tuple[str, ...]
    """Observations (H, W, 3) uint8."""
    extras: tuple[str, ...]
    """Other vectors beside ``vector``."""


@dataclass(frozen=True, repr=False)
class Take:
    """T actions and T + 1 observations."""

    observations: dict[str, np.ndarray]
    """Name -> (T + 1, ...)."""
    actions: np.ndarray
    """(T, A)."""
    rewards: np.ndarray
    """(T,) float32."""
    terminated: bool
    """The episode ended by itself; else it was cut."""
    success: bool | None
    """None where the environment does not say."""
    instruction: str
    """What the agent was told."""
    number: int
    """Number of the episode within its set."""
    seed: int
    """Seed of the set."""

    def __len__(self) -> int:
        """Return T."""
        return len(self.actions)

    def episode(self, kinds: Kinds, env: str) -> Episode:
        """Return the form that readers give back, without the last observation."""
        seen = {name: values[:-1] for name, values in self.observations.items()}
        state = seen[STATE] if STATE in seen else np.zeros((len(self), 0), np.float32)
        return Episode(
            instruction=self.instruction,
            state=state.astype(np.float32, copy=False),
            images={name: seen[name] for name in kinds.images},
            actions=self.actions,
            seed=self.seed,
            success=bool(self.success),
            rewards=self.rewards,
            number=self.number,
            env=env,
            extras={name: seen[name].astype(np.float32, copy=False) for name in kinds.extras},
        )


def kinds_of(observations: gymnasium.Space, actions: gymnasium.Space) -> Kinds:
    """Return how single-env observations are kept.

    Raises:
        UsageError: there is an observation that no format keeps, nothing to keep, or a Dict of actions.
    """
    if not isinstance(actions, spaces.Box | spaces.Discrete | spaces.MultiDiscrete):
        raise UsageError(f"expected Box, Discrete or MultiDiscrete actions to record, got {actions}")
    images, extras = [], []
    named = as_dict_space(observations).spaces
    for name, space in named.items():
        shape, dtype = space.shape or (), space.dtype
        if len(shape) == 3 and shape[2] == 3 and dtype == np.uint8:
            images.append(name)
        elif name not in (STATE, TEXT) and len(shape) == 1:
            extras.append(name)
        elif name not in (STATE, TEXT):
            raise UsageError(
                f"observation {name!r} {dtype} {shape} cannot be recorded: pictures are (H, W, 3) uint8, the rest "
                "vectors; choose the sensors, for example --env sensors=rgb,vector,instruction"
            )
    if not images and STATE not in named and not extras:
        raise UsageError(f"expected a picture or a vector among the observations, got {sorted(named)}")
    return Kinds(tuple(images), tuple(extras))
