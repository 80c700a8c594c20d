"""How difficult a hiding task is."""

from __future__ import annotations

from dataclasses import dataclass

from embodied_mem.envs.house.tasks.staging import KINDS
from embodied_mem.errors import UsageError


@dataclass(frozen=True)
class RecallLevel:
    """Difficulty of a hiding task."""

    houses: int = 256
    """Size of the pool of houses per split."""
    rooms: tuple[int, int] = (0, 0)
    """Fewest and most rooms of generated houses; (0, 0) = one bare room."""
    side: tuple[float, float] = (3.6, 4.2)
    """Range of the sides of a bare room, metres."""
    clutter: int = 0
    """Pieces of furniture added to a bare room."""
    containers: int = 4
    """K."""
    looks: int = 10
    """Kinds and colours that containers are drawn from; as many as containers = the same ones in every house."""
    one_per_wall: bool = False
    """Bare room: one container near the middle of every wall (K = 4)."""
    moves: tuple[int, int] = (0, 0)
    """How often the item is moved to another container while the agent watches: further rounds."""
    hold: int = 1
    """Steps that one container is shown."""
    wait: tuple[int, int] = (2, 10)
    """Range of the length of the distraction, steps."""
    central: bool = False
    """The choice begins near the middle of the containers; else anywhere."""
    choice_steps: int = 30
    """Steps of the choice before the episode is cut."""
    step_cost: float = 0.01
    """Taken off the reward at every step of the choice."""
    wrong_cost: float = 0.0
    """Taken off the reward for a wrong container."""
    shaping: float = 0.0
    """Reward per metre gained towards the right container."""
    facing: float = 0.0
    """Reward per half turn gained towards facing the right container."""

    @property
    def max_steps(self) -> int:
        """Longest episode in steps."""
        events = (1 + self.moves[1]) * self.containers
        return events * self.hold + self.wait[1] + self.choice_steps

    def check(self) -> None:
        """Refuse values that contradict one another.

        Raises:
            UsageError: the field and what it may be are named.
        """
        if not 2 <= self.containers <= len(KINDS):
            raise UsageError(f"expected containers in 2..{len(KINDS)}, got {self.containers}")
        if not self.containers <= self.looks <= len(KINDS):
            raise UsageError(f"expected looks in {self.containers}..{len(KINDS)}, got {self.looks}")
        if self.one_per_wall and (self.containers != 4 or self.rooms != (0, 0)):
            raise UsageError("one_per_wall needs containers=4 and rooms=(0, 0)")
        for name, low, value in (("wait", 1, self.wait), ("moves", 0, self.moves)):
            if not low <= value[0] <= value[1]:
                raise UsageError(f"expected {low} <= {name}[0] <= {name}[1], got {value}")
        if self.hold < 1 or self.choice_steps < 1:
            raise UsageError(f"expected hold >= 1 and choice_steps >= 1, got {self.hold}, {self.choice_steps}")
