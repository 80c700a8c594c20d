"""`VLATrainConfig`: PPO of a policy of `embodied_mem.policies.vla`, mostly one that imitation has trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from embodied_mem.errors import UsageError
from embodied_mem.policies.rllib.config import TrainConfig
from embodied_mem.policies.vla.actor import make_actor
from embodied_mem.policies.vla.config import ActorConfig, ExpertConfig, VLAConfig

if TYPE_CHECKING:
    import gymnasium

ALGORITHM: Literal["vla_ppo"] = "vla_ppo"
"""Value of the preset key ``algorithm`` that chooses it."""


def _still() -> VLAConfig:
    return VLAConfig(expert=ExpertConfig(start="zero", execute=1))


@dataclass(frozen=True)
class VLATrainConfig(TrainConfig):
    """One run: the keys of `TrainConfig`, with another agent."""

    env: str = "embodied_mem/Tabletop-ShellGame-v0"
    """Gymnasium id of an environment with actions that are a vector of numbers."""
    algorithm: str = ALGORITHM
    """Always ``vla_ppo``."""
    agent: VLAConfig = field(default_factory=_still)  # type: ignore[assignment]
    """Perception, memory, action expert: the settings that ``init`` was trained with."""
    actor: ActorConfig = field(default_factory=ActorConfig)
    """Spread of the actions, value."""

    def __post_init__(self) -> None:
        """Check what is not there for these policies."""
        if self.algorithm != ALGORITHM or self.runner != "batched":
            raise UsageError(
                f"expected algorithm {ALGORITHM!r} on runner 'batched' for a policy of actions by diffusion, "
                f"got {self.algorithm!r} on {self.runner!r}"
            )

    def make_agent(self, observation_space: gymnasium.Space, action_space: gymnasium.Space) -> Any:
        """Return the policy with its heads; see `TrainConfig.make_agent`."""
        return make_actor(self.agent, self.actor, observation_space, action_space, self.init)
