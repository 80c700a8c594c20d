"""Gymnasium ids of the built-in environments, as strings only: nothing is imported before an environment is made.

A new environment is its file plus one entry of ``ENVIRONMENTS``; the contract tests then run over it by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium

NAMESPACE = "embodied_mem"
HOME = "embodied_mem.envs"

Score = float | dict[str, float] | None
"""Mean return of an episode: one number, or one per setting (``difficulty``, ``variant``); None where not known."""


@dataclass(frozen=True)
class Registration:
    """One environment: short id, entry points of the N=1 view and of the batched class, keyword defaults."""

    name: str
    """Short id, ``Name-vN``; the full id is ``embodied_mem/Name-vN``."""
    single: str
    """``module:Class`` of the N=1 view."""
    vector: str
    """``module:Class`` of the batched environment."""
    summary: str
    """One line for ``embodied-mem list envs``."""
    kwargs: dict[str, Any] = field(default_factory=dict)
    """Keyword defaults of both classes."""
    horizon: str | None = None
    """Correlation horizon: how many steps back lies what an answer needs, per setting where it differs."""
    memoryless: Score = None
    """Best mean return of a policy that reacts to the latest observation alone; of the best one known where the optimum
    is not derived, which the environment's docstring then says."""
    oracle: Score = None
    """Mean return of the scripted oracle, which reads the hidden state: the optimum, or what the docstring says."""
    external: bool = False
    """It is another package's simulator, or needs a player of its own; its contract tests lie beside its adapter."""
    needs: tuple[str, ...] = ()
    """Modules of optional packages without which it cannot be made."""

    @property
    def id(self) -> str:
        """Full Gymnasium id."""
        return f"{NAMESPACE}/{self.name}"

    @property
    def portable_id(self) -> str:
        """Id that names the module to import, which works in a process that has not imported it (Ray actors)."""
        return f"{HOME}:{self.id}"


def _tabletop(
    task: str, module: str, summary: str, chances: tuple[float, float, float], horizon: str = "delay of the level"
) -> Registration:
    home = f"embodied_mem.envs.tabletop.tasks.{module}"
    return Registration(
        f"Tabletop-{task}-v0",
        f"{home}:{task}",
        f"{home}:Batched{task}",
        summary,
        horizon=horizon,
        memoryless={f"level {level}": chance for level, chance in enumerate(chances)},
        oracle=1.0,
        needs=("mujoco", "gymnasium_robotics"),
    )


def _adapter(name: str, module: str, summary: str, needs: tuple[str, ...]) -> Registration:
    home = f"embodied_mem.envs.adapters.{module}"
    return Registration(f"{name}-v0", f"{home}:{name}", f"{home}:Batched{name}", summary, external=True, needs=needs)


ENVIRONMENTS: tuple[Registration, ...] = (
    Registration(
        "TMaze-v0",
        "embodied_mem.envs.probes.tmaze:TMaze",
        "embodied_mem.envs.probes.tmaze:BatchedTMaze",
        "corridor with a cue at its start and a choice at its end; passive or active",
        horizon="length (passive), length + 1 (active)",
        memoryless=0.5,
        oracle=1.0,
    ),
    Registration(
        "RepeatPrevious-v0",
        "embodied_mem.envs.probes.repeat_previous:RepeatPrevious",
        "embodied_mem.envs.probes.repeat_previous:BatchedRepeatPrevious",
        "name the suit of the card seen k-1 cards ago (POPGym's rules)",
        horizon="k - 1 = 3, 31, 63 (easy, medium, hard)",
        memoryless={"easy": -0.490, "medium": -0.495, "hard": -0.497},
        oracle=1.0,
    ),
    Registration(
        "RepeatFirst-v0",
        "embodied_mem.envs.probes.repeat_first:RepeatFirst",
        "embodied_mem.envs.probes.repeat_first:BatchedRepeatFirst",
        "name the suit of the first card at every step (POPGym's rules)",
        horizon="whole episode: 50, 414, 830 (easy, medium, hard)",
        memoryless={"easy": -0.499, "medium": -0.500, "hard": -0.500},
        oracle=1.0,
    ),
    Registration(
        "Autoencode-v0",
        "embodied_mem.envs.probes.autoencode:Autoencode",
        "embodied_mem.envs.probes.autoencode:BatchedAutoencode",
        "watch a deck go by, then name its suits in reverse order (POPGym's rules)",
        horizon="0 to 2 (c - 1) = 102, 206, 310 (easy, medium, hard)",
        memoryless={"easy": -0.471, "medium": -0.486, "hard": -0.490},
        oracle=1.0,
    ),
    Registration(
        "CountRecall-v0",
        "embodied_mem.envs.probes.count_recall:CountRecall",
        "embodied_mem.envs.probes.count_recall:BatchedCountRecall",
        "say how many cards of a queried kind have been dealt so far (POPGym's rules)",
        horizon="whole episode: 50, 102, 206 (easy, medium, hard)",
        memoryless={"easy": -0.923, "medium": -0.924, "hard": -0.881},
        oracle=1.0,
    ),
    Registration(
        "Concentration-v0",
        "embodied_mem.envs.probes.concentration:Concentration",
        "embodied_mem.envs.probes.concentration:BatchedConcentration",
        "turn over two face-down cards at a time and find the pairs (POPGym's rules)",
        horizon="up to 104, 208, 104 (easy, medium, hard)",
        memoryless={"easy": 0.450, "medium": 0.465, "hard": -0.820},
        oracle=1.0,
    ),
    Registration(
        "HigherLower-v0",
        "embodied_mem.envs.probes.higher_lower:HigherLower",
        "embodied_mem.envs.probes.higher_lower:BatchedHigherLower",
        "say whether the next card will be higher or lower; counting cards helps (POPGym's rules)",
        horizon="whole episode: 50, 102, 154 (easy, medium, hard)",
        memoryless=0.497,
        oracle=0.923,
    ),
    Registration(
        "MultiarmedBandit-v0",
        "embodied_mem.envs.probes.multiarmed_bandit:MultiarmedBandit",
        "embodied_mem.envs.probes.multiarmed_bandit:BatchedMultiarmedBandit",
        "find the arm that pays most often from payments alone (POPGym's rules)",
        horizon="whole episode: 199, 399, 599 (easy, medium, hard)",
        memoryless={"easy": 0.089, "medium": 0.094, "hard": 0.095},
        oracle={"easy": 0.818, "medium": 0.905, "hard": 0.935},
    ),
    Registration(
        "Battleship-v0",
        "embodied_mem.envs.probes.battleship:Battleship",
        "embodied_mem.envs.probes.battleship:BatchedBattleship",
        "sink hidden ships, hearing only hit or miss (POPGym's rules)",
        horizon="whole episode: up to 63, 99, 143 (easy, medium, hard)",
        memoryless={"easy": -0.435, "medium": -0.404, "hard": -0.389},
        oracle=1.0,
    ),
    Registration(
        "MineSweeper-v0",
        "embodied_mem.envs.probes.minesweeper:MineSweeper",
        "embodied_mem.envs.probes.minesweeper:BatchedMineSweeper",
        "uncover every clear square, seeing only the number of mines around the last one (POPGym's rules)",
        horizon="whole episode: up to 13, 29, 53 (easy, medium, hard)",
        memoryless={"easy": -0.184, "medium": -0.401, "hard": -0.432},
        oracle=1.0,
    ),
    Registration(
        "LabyrinthExplore-v0",
        "embodied_mem.envs.probes.labyrinth:LabyrinthExplore",
        "embodied_mem.envs.probes.labyrinth:BatchedLabyrinthExplore",
        "visit every square of a maze, seeing the squares around (POPGym's rules)",
        horizon="0: the observation holds the last action, by which a wall can be followed",
        memoryless={"easy": 0.968, "medium": 0.925, "hard": 0.864},
        oracle={"easy": 0.982, "medium": 0.957, "hard": 0.919},
    ),
    Registration(
        "LabyrinthEscape-v0",
        "embodied_mem.envs.probes.labyrinth:LabyrinthEscape",
        "embodied_mem.envs.probes.labyrinth:BatchedLabyrinthEscape",
        "find the way out of a maze, seeing the squares around (POPGym's rules)",
        horizon="0: the observation holds the last action, by which a wall can be followed",
        memoryless={"easy": 0.951, "medium": 0.903, "hard": 0.841},
        oracle={"easy": 0.979, "medium": 0.966, "hard": 0.949},
    ),
    Registration(
        "PositionOnlyCartPole-v0",
        "embodied_mem.envs.probes.partial_cartpole:PositionOnlyCartPole",
        "embodied_mem.envs.probes.partial_cartpole:BatchedPositionOnlyCartPole",
        "balance a pole, seeing positions only (POPGym's rules)",
        horizon="1",
        memoryless={"easy": 0.256, "medium": 0.127, "hard": 0.085},
        oracle=1.0,
    ),
    Registration(
        "VelocityOnlyCartPole-v0",
        "embodied_mem.envs.probes.partial_cartpole:VelocityOnlyCartPole",
        "embodied_mem.envs.probes.partial_cartpole:BatchedVelocityOnlyCartPole",
        "balance a pole, seeing velocities only (POPGym's rules)",
        horizon="up to 199, 399, 599 (easy, medium, hard)",
        memoryless={"easy": 1.000, "medium": 0.999, "hard": 0.852},
        oracle=1.0,
    ),
    Registration(
        "NoisyPositionOnlyCartPole-v0",
        "embodied_mem.envs.probes.partial_cartpole:NoisyPositionOnlyCartPole",
        "embodied_mem.envs.probes.partial_cartpole:BatchedNoisyPositionOnlyCartPole",
        "balance a pole, seeing positions with noise (POPGym's rules)",
        horizon="some tens of steps",
        memoryless={"easy": 0.248, "medium": 0.198, "hard": 0.167},
        oracle=1.0,
    ),
    Registration(
        "PositionOnlyPendulum-v0",
        "embodied_mem.envs.probes.partial_pendulum:PositionOnlyPendulum",
        "embodied_mem.envs.probes.partial_pendulum:BatchedPositionOnlyPendulum",
        "swing a pendulum up, seeing its angle only (POPGym's rules)",
        horizon="1",
        memoryless={"easy": 0.362, "medium": 0.362, "hard": 0.360},
        oracle={"easy": 0.907, "medium": 0.876, "hard": 0.815},
    ),
    Registration(
        "NoisyPositionOnlyPendulum-v0",
        "embodied_mem.envs.probes.partial_pendulum:NoisyPositionOnlyPendulum",
        "embodied_mem.envs.probes.partial_pendulum:BatchedNoisyPositionOnlyPendulum",
        "swing a pendulum up, seeing its angle with noise (POPGym's rules)",
        horizon="some tens of steps",
        memoryless={"easy": 0.340, "medium": 0.326, "hard": 0.318},
        oracle=0.907,
    ),
    Registration(
        "VelocityOnlyPendulum-v0",
        "embodied_mem.envs.probes.partial_pendulum:VelocityOnlyPendulum",
        "embodied_mem.envs.probes.partial_pendulum:BatchedVelocityOnlyPendulum",
        "swing a pendulum up, seeing its speed only (POPGym's rules, not in its set)",
        horizon="2",
        memoryless={"easy": 0.481, "medium": 0.476, "hard": 0.464},
        oracle={"easy": 0.907, "medium": 0.876, "hard": 0.815},
    ),
    Registration(
        "AssociativeRecall-v0",
        "embodied_mem.envs.probes.associative_recall:AssociativeRecall",
        "embodied_mem.envs.probes.associative_recall:BatchedAssociativeRecall",
        "key-value pairs, some written twice; name the latest value of each key asked",
        horizon="delay + 1 to writes + delay + queries - 1 steps (1 to 15)",
        memoryless=0.125,
        oracle=1.0,
    ),
    Registration(
        "NParity-v0",
        "embodied_mem.envs.probes.n_parity:NParity",
        "embodied_mem.envs.probes.n_parity:BatchedNParity",
        "after every bit: is the number of ones among the last n odd?",
        horizon="n - 1 steps (2)",
        memoryless=0.5,
        oracle=1.0,
    ),
    Registration(
        "DelayedMatch-v0",
        "embodied_mem.envs.probes.delayed_match:DelayedMatch",
        "embodied_mem.envs.probes.delayed_match:BatchedDelayedMatch",
        "at every step: does the symbol equal the one shown delay steps earlier?",
        horizon="delay steps (3)",
        memoryless=0.5,
        oracle=1.0,
    ),
    Registration(
        "Ballet-v0",
        "embodied_mem.envs.probes.ballet:Ballet",
        "embodied_mem.envs.probes.ballet:BatchedBallet",
        "dancers perform one after another; walk to the one whose dance is named (HCAM)",
        horizon="delay to n (15 + delay) + 3 steps (16 to 65)",
        memoryless=0.5,
        oracle=1.0,
    ),
    Registration(
        "EndlessTMaze-v0",
        "embodied_mem.envs.probes.endless_tmaze:EndlessTMaze",
        "embodied_mem.envs.probes.endless_tmaze:BatchedEndlessTMaze",
        "corridor after corridor, each with a new cue that makes the old one void",
        horizon="length steps in each of n corridors (10)",
        memoryless=0.866,
        oracle=3.0,
    ),
    Registration(
        "ColorCubes-v0",
        "embodied_mem.envs.probes.color_cubes:ColorCubes",
        "embodied_mem.envs.probes.color_cubes:BatchedColorCubes",
        "go to the cube of the named colour; places are shown once and change (levels are ours)",
        horizon="up to 2 (G - 1) steps (14); teleports: the episode",
        memoryless=0.09,
        oracle=1.0,
    ),
    Registration(
        "MiniGridMemory-v0",
        "embodied_mem.envs.probes.minigrid_memory:MiniGridMemory",
        "embodied_mem.envs.probes.minigrid_memory:BatchedMiniGridMemory",
        "corridor: turn at its end to the object seen at its start (MiniGrid-Memory's rules)",
        horizon="size - 9 to size - 3 steps (4 to 10)",
        memoryless=0.49,
        oracle=0.99,
    ),
    Registration(
        "GrammarStream-v0",
        "embodied_mem.envs.probes.grammar_stream:GrammarStream",
        "embodied_mem.envs.probes.grammar_stream:BatchedGrammarStream",
        "which symbols does the grammar allow, which are gaps to ignore? (SelectivBench's idea, ours)",
        horizon="back over gaps to the last order allowed symbols (2 at least)",
        memoryless=0.5,
        oracle=1.0,
    ),
    Registration(
        "WorM-v0",
        "embodied_mem.envs.probes.worm:WorM",
        "embodied_mem.envs.probes.worm:BatchedWorM",
        "working-memory trials: study, wait, answer (WorM's ten tasks, as symbols)",
        horizon="delay + 1 to T - 1 steps (5 to 15)",
        memoryless=0.3875,
        oracle=1.0,
    ),
    Registration(
        "MysteryPath-v0",
        "embodied_mem.envs.probes.mystery_path:MysteryPath",
        "embodied_mem.envs.probes.mystery_path:BatchedMysteryPath",
        "cross an invisible path; after a fall start again and remember (Memory Gym's grid form)",
        horizon="up to the episode (128)",
        memoryless=0.09,
        oracle=1.0,
    ),
    Registration(
        "EndlessMysteryPath-v0",
        "embodied_mem.envs.probes.mystery_path:MysteryPath",
        "embodied_mem.envs.probes.mystery_path:BatchedMysteryPath",
        "the invisible path goes on for ever; falling twice at one place ends it",
        kwargs={"endless": True},
        horizon="up to the episode",
        memoryless=0.17,
        oracle=7.5,
    ),
    Registration(
        "FreeMysteryPath-v0",
        "embodied_mem.envs.probes.free_mystery_path:FreeMysteryPath",
        "embodied_mem.envs.probes.free_mystery_path:BatchedFreeMysteryPath",
        "cross an invisible path, moving by pixels; after a fall start again and remember (Memory Gym)",
        horizon="up to the episode (512)",
        memoryless=0.16,
        oracle=1.0,
    ),
    Registration(
        "MortarMayhem-v0",
        "embodied_mem.envs.probes.mortar_mayhem:MortarMayhem",
        "embodied_mem.envs.probes.mortar_mayhem:BatchedMortarMayhem",
        "watch a list of commands, then carry them out in order (Memory Gym's grid form)",
        horizon="4 to 120 steps, growing with the command",
        memoryless=0.03,
        oracle=1.0,
    ),
    Registration(
        "EndlessMortarMayhem-v0",
        "embodied_mem.envs.probes.mortar_mayhem:MortarMayhem",
        "embodied_mem.envs.probes.mortar_mayhem:BatchedMortarMayhem",
        "the list of commands grows by one after each time it was carried out",
        kwargs={"endless": True},
        horizon="grows with the list",
        memoryless=0.05,
        oracle=5.8,
    ),
    Registration(
        "FreeMortarMayhem-v0",
        "embodied_mem.envs.probes.free_mortar_mayhem:FreeMortarMayhem",
        "embodied_mem.envs.probes.free_mortar_mayhem:BatchedFreeMortarMayhem",
        "watch a list of commands, then carry them out, moving by pixels (Memory Gym)",
        horizon="4 to 280 steps, growing with the command",
        memoryless=0.02,
        oracle=1.0,
    ),
    Registration(
        "SearingSpotlights-v0",
        "embodied_mem.envs.probes.searing_spotlights:SearingSpotlights",
        "embodied_mem.envs.probes.searing_spotlights:BatchedSearingSpotlights",
        "in the dark, collect coins and take the exit; wandering lights show things and burn",
        horizon="from step 6 to the exit (20 to 90 steps)",
        memoryless=0.57,
        oracle=1.25,
    ),
    Registration(
        "EndlessSearingSpotlights-v0",
        "embodied_mem.envs.probes.searing_spotlights:SearingSpotlights",
        "embodied_mem.envs.probes.searing_spotlights:BatchedSearingSpotlights",
        "in the dark, collect coin after coin; lights show them and burn",
        kwargs={"endless": True},
        horizon="up to 160 steps per coin",
        memoryless=0.2,
        oracle=8.0,
    ),
    Registration(
        "House-HideAndRecall-v0",
        "embodied_mem.envs.house.tasks.hide_and_recall:HideAndRecall",
        "embodied_mem.envs.house.tasks.hide_and_recall:BatchedHideAndRecall",
        "an item is put into one of K containers while the agent watches; fetch it later",
    ),
    Registration(
        "House-Rewrite-v0",
        "embodied_mem.envs.house.tasks.rewrite:Rewrite",
        "embodied_mem.envs.house.tasks.rewrite:BatchedRewrite",
        "the item is moved between containers while the agent watches; only its latest place counts",
    ),
    Registration(
        "House-ObjectNav-v0",
        "embodied_mem.envs.house.tasks.object_nav:ObjectNav",
        "embodied_mem.envs.house.tasks.object_nav:BatchedObjectNav",
        "go to an object of a named class and say Done within 1.0 m, with it in view",
    ),
    Registration(
        "House-MultiObjectNav-v0",
        "embodied_mem.envs.house.tasks.multi_object_nav:MultiObjectNav",
        "embodied_mem.envs.house.tasks.multi_object_nav:BatchedMultiObjectNav",
        "several goals one after another in one house; classes recur, so a map pays",
    ),
    Registration(
        "House-InstructionFollowing-v0",
        "embodied_mem.envs.house.tasks.instruction_following:InstructionFollowing",
        "embodied_mem.envs.house.tasks.instruction_following:BatchedInstructionFollowing",
        "landmarks in the order of an instruction, Done at each; nothing observed tells which is next",
    ),
    Registration(
        "House-Tour-v0",
        "embodied_mem.envs.house.tasks.tour:Tour",
        "embodied_mem.envs.house.tasks.tour:BatchedTour",
        "a scripted walk through a house with a ground-truth log, for questions later",
    ),
    Registration(
        "Street-v0",
        "embodied_mem.envs.street.env:Street",
        "embodied_mem.envs.street.env:BatchedStreet",
        "follow an instruction along the panoramas of a city (Touchdown, Map2Seq, a made-up town)",
    ),
    Registration(
        "Thor-ObjectNav-v0",
        "embodied_mem.envs.thor.env:ThorObjectNav",
        "embodied_mem.envs.thor.env:BatchedThorObjectNav",
        "AI2-THOR: go to an object of a named type and say Done with it visible within 1.0 m",
        external=True,
    ),
    Registration(
        "Thor-PointNav-v0",
        "embodied_mem.envs.thor.env:ThorPointNav",
        "embodied_mem.envs.thor.env:BatchedThorPointNav",
        "AI2-THOR: go to a point given as distance and bearing",
        external=True,
    ),
    Registration(
        "Thor-Rearrange-v0",
        "embodied_mem.envs.thor.rearrange_env:ThorRearrange",
        "embodied_mem.envs.thor.rearrange_env:BatchedThorRearrange",
        "AI2-THOR: look at a room, find it disturbed, put it back (two phases)",
        external=True,
    ),
    _tabletop("RememberColor3", "recall", "a robot arm touches the cube of the colour shown, of 3", (1 / 3,) * 3),
    _tabletop("RememberColor5", "recall", "a robot arm touches the cube of the colour shown, of 5", (1 / 5,) * 3),
    _tabletop("RememberColor9", "recall", "a robot arm touches the cube of the colour shown, of 9", (1 / 9,) * 3),
    _tabletop("RememberShape", "recall", "a robot arm touches the thing of the shape shown", (1 / 3, 1 / 5, 1 / 5)),
    _tabletop("ShellGame", "shell_game", "cups change places; a robot arm touches that with the ball", (1 / 3,) * 3),
    _tabletop("Intercept", "intercept", "a robot arm meets a rolling ball where it leaves its cover", (0.2,) * 3),
    _tabletop(
        "SequencePress",
        "sequence_press",
        "a robot arm presses buttons in the order in which they were lit",
        (1 / 12, 1 / 36, 1 / 324),
        "delay of the level, and the own presses so far",
    ),
    _tabletop(
        "CountPress",
        "count_press",
        "a robot arm presses a button as often as a lamp blinked",
        (1 / 3, 1 / 4, 1 / 6),
        "delay of the level, and the own presses so far",
    ),
    _tabletop("ReopenDrawer", "reopen_drawer", "shut the open drawer, press, open the same one again", (1 / 3,) * 3),
    _tabletop("PutBlockBack", "put_block_back", "a block to the middle, press, back to its patch", (1 / 4,) * 3),
    _tabletop("RearrangeBlock", "rearrange_block", "swap two like blocks around a button press", (1 / 2,) * 3),
    _tabletop("ReturnToStart", "return_to_start", "a block to the zone, press, back to where it was", (0.065,) * 3),
    _adapter("MetaWorld", "metaworld", "Meta-World: one of fifty tasks of a Sawyer arm", ("metaworld",)),
    _adapter("GymRobotics", "gym_robotics", "gymnasium-robotics: Fetch and point mazes", ("gymnasium_robotics",)),
    _adapter("ManiSkill", "mani_skill", "ManiSkill 3: a task on SAPIEN", ("mani_skill",)),
    _adapter(
        "MikasaRobo", "mikasa_robo", "MIKASA-Robo: a memory task on ManiSkill", ("mani_skill", "mikasa_robo_suite")
    ),
    _adapter("Robosuite", "robosuite", "robosuite: a single-arm task", ("robosuite",)),
    _adapter("Libero", "libero", "LIBERO: a language-conditioned task", ("libero",)),
    _adapter("SimplerEnv", "simpler_env", "SimplerEnv: a real-robot task rebuilt in simulation", ("simpler_env",)),
)


def register_all() -> None:
    """Register every built-in environment with Gymnasium; calling it again changes nothing.

    The specs name no ``max_episode_steps``: Gymnasium would add a second time limit to the N=1 view and pass the number
    to the batched class as a keyword. Environments truncate by themselves.
    """
    for item in ENVIRONMENTS:
        if item.id not in gymnasium.registry:
            gymnasium.register(item.id, item.single, vector_entry_point=item.vector, kwargs=dict(item.kwargs))
