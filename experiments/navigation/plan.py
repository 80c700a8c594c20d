"""Agents, tasks and cells of the navigation comparison: a cell is one agent on one task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from embodied_mem.evaluation.suite import Suite, Task

MULTI, SINGLE = "embodied_mem/House-MultiObjectNav-v0", "embodied_mem/House-ObjectNav-v0"
FOLLOW = "embodied_mem/House-InstructionFollowing-v0"
SENSING = ("sensors", "scan_width", "scan_range", "scan_layers", "width", "height", "hfov", "pose_noise")
SIZES = {"small": 0, "large": 1}
"""House size -> level: one room; two or three rooms."""
GOALS = (1, 2, 3, 4, 5)
KINDS = 3
"""Most different goals of an episode: from the fourth goal on, places are revisited."""
PRESET, FOLLOW_PRESET = "house-multi-object-nav", "house-instruction-following"


@dataclass(frozen=True)
class Player:
    """One agent of the comparison."""

    name: str
    """Label of its row."""
    agent: str | None = None
    """Registered agent; None for one that is trained."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What a trained agent changes in the preset."""
    controls: tuple[str, ...] = ()
    """Controls that it is played under, on `CONTROLLED`."""

    @property
    def kind(self) -> str:
        """ "map", "sequence", "none" or "bound"."""
        if self.name in ("oracle map", "random"):
            return "bound"
        if self.name.startswith(("grid map", "octree")) or self.name == "map, trained":
            return "map"
        return "none" if self.name == "none" else "sequence"


def _memory(name: str, **options: Any) -> dict[str, Any]:
    return {"agent.memory": name, **{f"agent.memory_config.{key}": value for key, value in options.items()}}


MAP = "octree + graph"
PLAYERS = (
    Player(MAP, agent="house-octree-graph", controls=("wiped:20",)),
    Player("grid map + planner", agent="house-map", controls=("wiped:20",)),
    Player("grid map, things forgotten", agent="house-map-forgetful"),
    Player("oracle map", agent="house-oracle"),
    Player("random", agent="random"),
    Player("none", changes=_memory("none")),
    Player("lstm", changes=_memory("lstm")),
    Player("episodic bank", changes=_memory("episodic", slots=64)),
    Player("gtrxl", changes=_memory("gtrxl")),
    Player("memo", changes=_memory("memo_summary")),
    Player(
        "map, trained",
        changes={
            "env_config.sensors": ["depth", "pose", "intrinsics", "scan", "vector", "goal"],
            "env_config.width": 16,
            "env_config.height": 16,
            "agent.encoder.ignore": ["depth", "intrinsics"],
            **_memory("hierarchical", episodic_slots=0, spatial="voxel_map"),
            "agent.memory_config.spatial_config": {"slots": 96, "rows": 3, "columns": 4, "value_dim": 24},
        },
    ),
)


@dataclass(frozen=True)
class Setting:
    """One task of the comparison."""

    size: str
    """Key of `SIZES`."""
    goals: int
    """Goals per episode."""
    kinds: int | None = None
    """Different goals; None for as many as there are goals, at most `KINDS`."""
    told: bool = False
    """Whether all goals are told at once, as an instruction to follow."""

    @property
    def name(self) -> str:
        """Key in results."""
        if self.told:
            return f"{self.size}, instruction of {self.goals}"
        many = "1 goal" if self.goals == 1 else f"{self.goals} goals"
        return f"{self.size}, {many}" + ("" if self.kinds is None else f", {self.goals - self.kinds} revisits")

    @property
    def preset(self) -> str:
        """What the trained agents that play it were trained by."""
        return FOLLOW_PRESET if self.told else PRESET

    def suite(self, split: str = "test") -> Suite:
        """Return the suite of this task alone."""
        kwargs: dict[str, Any] = {"level": SIZES[self.size], "split": split}
        env, family = SINGLE, "goal_nav"
        if self.told:
            env, family, kwargs = FOLLOW, "instruction", {**kwargs, "landmarks": self.goals}
        elif self.goals > 1:
            kinds = min(self.goals, KINDS) if self.kinds is None else self.kinds
            env, family, kwargs = MULTI, "multion", {**kwargs, "goals": self.goals, "kinds": kinds}
        task = Task(env, family, kwargs=kwargs, splits={split: {}}, agent_options=SENSING, success_distance=1.0)
        return Suite(f"navigation: {self.name}", "when does a map pay?", (task,), split=split)


SETTINGS = tuple(
    [Setting(size, goals) for size in SIZES for goals in GOALS]
    + [Setting("small", 5, kinds) for kinds in (2, 5)]
    + [Setting("small", 3, told=True)]
)
CORE = (
    "small, 1 goal",
    "small, 4 goals",
    "small, 5 goals, 3 revisits",
    "small, 5 goals, 0 revisits",
    "large, 4 goals",
    "large, 5 goals",
    "small, instruction of 3",
)
"""Settings that are played unless others are named: some one and a half hours of CPU with one training seed, most of it
training."""
CONTROLLED = ("small, 4 goals", "small, instruction of 3")
"""Settings with controls; an agent with a wiped map walks until the time is up, so they cost most."""
