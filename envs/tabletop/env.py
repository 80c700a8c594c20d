"""`BatchedTabletop`: what all tabletop tasks share; a task says what lies on the table, when, and which deed decides.

Phases. WATCH: something is shown, the arm is held at home. PREPARE: the arm obeys, but nothing is to be remembered yet
(MemoryBench's first half). WAIT: the arm has been put back to its home pose at once, what the agent did is tidied up to
a layout that does not depend on how it did it, and nothing can be done for ``delay`` control steps. CHOOSE: the arm
obeys, and one deed decides the episode. A green lamp is lit while the arm obeys, a yellow one after the button.

So neither pose nor traces on the table carry the answer over: two episodes that differ in the answer alone give equal
observations from WAIT on (tested for every task).

Actions (7,) float32 in [-1, 1]. ``control="delta"``: tool translation (times `STEP` metres) and rotation vector (times
`TURN` radians) per control step of 1/20 s, in the world's axes, and the gripper (-1 open, 1 closed). ``"keyframe"``:
tool position within `WORKSPACE`, rotation vector (times pi) from tool-down, gripper; the arm goes there, for at most
`KEYFRAME` control steps. While the arm is held, actions are ignored, and a key-frame lasts `GLANCE` control steps.

Reward 1 for success, else 0. An episode terminates with the deed that decides and truncates after ``limit`` control
steps of obeying.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from embodied_mem.envs.base import BatchedEnv
from embodied_mem.envs.probes.stream import whole
from embodied_mem.envs.tabletop import _arm_kernels as kernels
from embodied_mem.envs.tabletop.camera import Camera
from embodied_mem.envs.tabletop.model import FAR, GO, LAMP
from embodied_mem.envs.tabletop.physics import HOME, OPEN, Physics
from embodied_mem.errors import UsageError, nearest
from embodied_mem.spaces import encode_text

WATCH, PREPARE, WAIT, CHOOSE = range(4)
HOLD, TOUCH, PRESS, CARRY, SLIDE, GOTO = range(6)
"""What is to be done next, for experts: nothing, touch a point, press, carry a block, push along a line, go."""
STEP, TURN = 0.03, 0.15
WORKSPACE = np.array([[0.28, -0.42, 0.012], [0.72, 0.42, 0.42]])
"""Lowest and highest tool position, metres."""
LEASH = 0.08
"""Metres by which the commanded tool position may lead the real one: what limits the push against a contact."""
KEYFRAME, GLANCE = 40, 5
ARRIVED = 0.006
"""Metres within which a key-frame counts as reached."""
SQUEEZE = 8
"""Control steps that a key-frame lasts at least when it changes the gripper."""
TEXT = 256
CONTROLS = ("delta", "keyframe")
PICTURES = ("rgb", "depth", "semantic", "rgb_wrist", "depth_wrist", "semantic_wrist")
SENSORS = ("vector", "instruction", "intrinsics", *PICTURES)
PROPRIOCEPTION = 19
"""Leading numbers of ``vector``: joints 7, gripper opening, tool position 3, tool x and y axes 6, held, lamp."""
ANSWER, LAYOUT, EXTRA = range(3)
"""Streams of random draws."""


@dataclass(frozen=True)
class Level:
    """A difficulty of a task."""

    delay: int
    """Control steps (1/20 s) between the cue and the choice."""
    size: int = 0
    """What makes the task harder beside the delay; each task says what it counts."""


class BatchedTabletop(BatchedEnv, ABC):
    """N tables. A task is a subclass that writes `_configure`, `_deal`, `_show`, `_judge`, `_scene` and `_next`."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    levels: ClassVar[tuple[Level, ...]] = (Level(10), Level(40), Level(120))
    limit: ClassVar[int] = 150
    """Control steps for which the arm obeys."""
    watch: int = 20
    """Control steps of WATCH; 0 where a task begins with PREPARE."""
    text: str = ""
    scenery: str = ""
    features: int = 0
    camera: Camera

    def __init__(
        self,
        num_envs: int = 1,
        *,
        level: int = 0,
        control: str = "delta",
        sensors: Sequence[str] = ("vector", "instruction"),
        objects: bool = True,
        width: int = 64,
        height: int = 64,
        threads: int = 1,
        **kwargs: Any,
    ) -> None:
        """Set up the tables.

        Args:
            num_envs: number of rows.
            level: difficulty, an index of ``levels``.
            control: "delta" or "keyframe".
            sensors: names out of `SENSORS`; pictures need OpenGL (EGL or OSMesa will do).
            objects: False leaves what a camera would see out of ``vector``; the arm's own state remains.
            width: picture width in pixels, 1 to 512.
            height: picture height in pixels, 1 to 512.
            threads: threads that share the rows of a step, >= 1.
            kwargs: see `BatchedEnv`.

        Raises:
            UsageError: a value is out of range, or a package is missing (``envs-mujoco``).
        """
        if control not in CONTROLS:
            raise UsageError(f"expected control to be one of {list(CONTROLS)}, got {control!r}")
        if isinstance(sensors, str) or not sensors or len(set(sensors)) != len(sensors):
            raise UsageError(f"expected sensors as distinct names out of {list(SENSORS)}, got {sensors!r}")
        for name in sensors:
            if name not in SENSORS:
                raise UsageError(f"unknown sensor {name!r}{nearest(str(name), SENSORS)}; sensors: {', '.join(SENSORS)}")
        self.level = whole("level", level, 0, len(self.levels) - 1)
        self.control, self.sensors, self.objects = control, tuple(sensors), bool(objects)
        self.width, self.height = whole("width", width, 1, 512), whole("height", height, 1, 512)
        self.delay = self.levels[self.level].delay
        self._configure(self.levels[self.level])
        self.single_observation_space = spaces.Dict({name: self._space(name) for name in self.sensors})
        self.single_action_space = spaces.Box(-1.0, 1.0, (7,), np.float32)
        super().__init__(num_envs, **kwargs)
        n = self.num_envs
        self.physics = Physics(n, self.scenery, threads=whole("threads", threads, 1, 256))
        self.camera = Camera(self.physics, self.width, self.height)
        self._go, self._lamp = self.physics.placed(GO), self.physics.placed(LAMP)
        self._lamp_places = self.physics.mocap_home[[self._go, self._lamp]] * [1, 1, 0] + [0, 0, 0.03]
        self._goal = np.tile(HOME, (n, 1))
        self._goal_rotation = np.tile(self.physics.home_rotation, (n, 1, 1))
        self._phase, self._clock, self._spent, self._deed, self._ticks = (np.zeros(n, dtype=np.int64) for _ in range(5))
        self.answer = np.zeros(n, dtype=np.int64)
        self._won, self._lost, self._late, self._lit = (np.zeros(n, dtype=bool) for _ in range(4))
        self._text = np.tile(encode_text(self.text, TEXT), (n, 1))
        self._wire()

    # What a task writes

    def _configure(self, level: Level) -> None:
        """Set ``scenery``, ``text``, ``features`` and what depends on the level; called before anything is made."""

    def _wire(self) -> None:
        """Look up bodies and set up arrays; called when physics is there."""

    @abstractmethod
    def _draw_answer(self, keys: np.ndarray) -> np.ndarray:
        """Return the (M,) int64 answers of episodes ``keys`` (M,): what must be remembered, and nothing else."""

    def _deal(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Lay out episodes in ``rows`` (M,), whose ``answer`` is drawn already and whose scene is as in ``scenery``."""

    def _tidy(self, rows: np.ndarray) -> None:
        """Put the scene of ``rows`` (M,) into the state that WAIT begins with, whatever was done before."""

    def _show(self) -> None:
        """Place the bodies that the task moves, in all rows, from phase and clock alone."""

    @abstractmethod
    def _judge(self, obeys: np.ndarray) -> None:
        """Judge what was done in rows ``obeys`` (N,) bool with `_win`, `_lose`, `_interlude` and `_advance_deed`."""

    @abstractmethod
    def _scene(self) -> np.ndarray:
        """Return (N, features) what a camera would see of the task, metres; zeros for what is hidden."""

    @abstractmethod
    def _next(self) -> dict[str, np.ndarray]:
        """Return what is to be done next, see `privileged`: kind (N,), starts, targets (N, C, 3), right, allowed."""

    # What tasks call

    def _win(self, rows: np.ndarray) -> None:
        """End the episode in ``rows`` (N,) bool as success."""
        self._won |= rows

    def _lose(self, rows: np.ndarray) -> None:
        """End the episode in ``rows`` (N,) bool: the wrong thing, or the right one out of order."""
        self._lost |= rows

    def _interlude(self, rows: np.ndarray) -> None:
        """Begin WAIT in ``rows`` (N,) bool: the arm goes home at once and the scene is tidied."""
        self._phase[rows], self._clock[rows] = WAIT, 0
        self._deed += rows
        index = np.flatnonzero(rows)
        if len(index):
            self._send_home(index)
            self._tidy(index)

    def _advance_deed(self, rows: np.ndarray) -> None:
        """Count a sub-goal as done in ``rows`` (N,) bool."""
        self._deed += rows

    # The game

    def _begin(self, rows: np.ndarray, keys: np.ndarray) -> None:
        self.physics.clear(rows)
        self._phase[rows] = WATCH if self.watch else PREPARE
        for counter in (self._clock, self._spent, self._deed, self._ticks):
            counter[rows] = 0
        for flag in (self._won, self._lost, self._late, self._lit):
            flag[rows] = False
        self._goal[rows], self._goal_rotation[rows] = HOME, self.physics.home_rotation
        self.answer[rows] = self._draw_answer(keys)
        self._deal(rows, keys)
        self._light()

    def _advance(self, actions: np.ndarray, active: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.control == "delta":
            self._command(actions, active & ~self.held)
            self._tick(active)
        else:
            self._play_keyframe(actions, active)
        won, lost, late = self._won & active, self._lost & active, self._late & active
        return won.astype(np.float32), won | lost, late & ~won & ~lost

    @property
    def held(self) -> np.ndarray:
        """(N,) bool: actions are ignored."""
        return (self._phase == WATCH) | (self._phase == WAIT)

    def _command(self, actions: np.ndarray, obeys: np.ndarray) -> None:
        physics = self.physics
        moved = self._goal + np.asarray(actions[:, :3], np.float64) * STEP
        moved = np.clip(moved, physics.tool - LEASH, physics.tool + LEASH)
        moved = np.clip(moved, WORKSPACE[0], WORKSPACE[1])
        self._goal = np.where(obeys[:, None], moved, self._goal)
        kernels.turn(self._goal_rotation, np.asarray(actions[:, 3:6], np.float64) * TURN, obeys)
        physics.fingers = np.where(obeys, OPEN * (1.0 - actions[:, 6]) / 2.0, physics.fingers)

    def _play_keyframe(self, actions: np.ndarray, active: np.ndarray) -> None:
        physics = self.physics
        low, high = WORKSPACE
        wanted = low + (np.asarray(actions[:, :3], np.float64) + 1.0) / 2.0 * (high - low)
        rotations = np.tile(physics.home_rotation, (self.num_envs, 1, 1))
        kernels.turn(rotations, np.asarray(actions[:, 3:6], np.float64) * np.pi, active)
        obeys = active & ~self.held
        fingers = np.where(obeys, OPEN * (1.0 - actions[:, 6]) / 2.0, physics.fingers)
        least = np.where(np.abs(fingers - physics.fingers) > 1e-4, SQUEEZE, 1)
        physics.fingers = fingers
        self._goal_rotation = np.where(obeys[:, None, None], rotations, self._goal_rotation)
        began, pending = self._phase.copy(), active.copy()
        for tick in range(KEYFRAME):
            way = wanted - self._goal
            length = np.sqrt((way * way).sum(axis=1, keepdims=True))
            moved = self._goal + way * np.minimum(1.0, STEP / np.maximum(length, 1e-9))
            moved = np.clip(moved, physics.tool - LEASH, physics.tool + LEASH)
            self._goal = np.where((pending & obeys)[:, None], moved, self._goal)
            self._tick(pending)
            away = physics.tool - wanted
            arrived = obeys & ((away * away).sum(axis=1) < ARRIVED**2) & (tick + 1 >= least)
            over = self._won | self._lost | self._late | (self._phase != began)
            pending &= ~(arrived | over | (~obeys & (tick + 1 >= GLANCE)))
            if not pending.any():
                break

    def _tick(self, active: np.ndarray) -> None:
        """Play one control step in ``active`` (N,) rows."""
        obeys = active & ~self.held
        self.physics.aim(self._goal, self._goal_rotation, active)
        self.physics.step(np.flatnonzero(active))
        self._clock += active
        self._ticks += active
        self._spent += obeys
        if obeys.any():
            self._judge(obeys)
        watched = active & (self._phase == WATCH) & (self._clock >= self.watch)
        if watched.any():
            self._interlude(watched)
        waited = active & (self._phase == WAIT) & (self._clock >= self.delay)
        if waited.any():
            self._phase[waited], self._clock[waited] = CHOOSE, 0
            self._deed += waited
        self._late |= obeys & (self._spent >= self.limit)
        self._light()

    def _send_home(self, rows: np.ndarray) -> None:
        self.physics.rehome(rows)
        self._goal[rows], self._goal_rotation[rows] = HOME, self.physics.home_rotation

    def _light(self) -> None:
        mocap, off = self.physics.mocap, np.asarray(FAR)
        mocap[:, self._go] = np.where(self.held[:, None], off, self._lamp_places[0])
        mocap[:, self._lamp] = np.where(self._lit[:, None], self._lamp_places[1], off)
        self._show()

    # What is seen

    def _space(self, name: str) -> spaces.Box:
        h, w = self.height, self.width
        if name == "vector":
            size = PROPRIOCEPTION + (self.features if self.objects else 0)
            return spaces.Box(-np.inf, np.inf, (size,), np.float32)
        if name == "instruction":
            return spaces.Box(0, 255, (TEXT,), np.uint8)
        if name == "intrinsics":
            return spaces.Box(0.0, np.inf, (4,), np.float32)
        if name.startswith("rgb"):
            return spaces.Box(0, 255, (h, w, 3), np.uint8)
        if name.startswith("depth"):
            return spaces.Box(0.0, np.inf, (h, w), np.float32)
        return spaces.Box(0, 255, (h, w), np.int32)

    def _observe(self) -> dict[str, np.ndarray]:
        observed: dict[str, np.ndarray] = {}
        for name in self.sensors:
            if name == "vector":
                observed[name] = self._vector()
            elif name == "instruction":
                observed[name] = self._text
            elif name == "intrinsics":
                observed[name] = np.tile(self.camera.intrinsics("front"), (self.num_envs, 1))
        pictures = [name for name in self.sensors if name in PICTURES]
        if pictures:
            observed.update(self.camera.draw(pictures))
        return {name: observed[name] for name in self.sensors}

    def _vector(self) -> np.ndarray:
        physics, n = self.physics, self.num_envs
        axes = physics.rotation[:, :, :2].transpose(0, 2, 1).reshape(n, 6)
        parts = [physics.joints, physics.width()[:, None], physics.tool, axes, self.held[:, None], self._lit[:, None]]
        if self.objects:
            parts.append(self._scene())
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _final_info(self) -> dict[str, np.ndarray]:
        return {"success": self._won.copy(), "wrong": self._lost.copy(), "ticks": self._ticks.copy()}

    def _render(self, row: int) -> np.ndarray:
        return self.camera.frame(row)

    def privileged(self) -> dict[str, np.ndarray]:
        """Return what experts and oracles read; C is the number of things that could be done.

        ``tool`` and ``aim``, the commanded tool position, (N, 3) metres; ``deed`` (N,) counts sub-goals; ``kind`` (N,),
        one of `HOLD` ... `GOTO`; ``starts`` and ``targets`` (N, C, 3) metres, where each thing is taken hold of and
        where it goes; ``right`` (N,), which of them is right; ``allowed`` (N, C), those that who saw no cue, but
        knows its own deeds, cannot rule out; ``hidden`` (N,), the answer; ``phase`` (N,); ``keyframe`` (N,) bool;
        ``workspace`` (N, 2, 3) metres.
        """
        n = self.num_envs
        facts = self._next()
        return {
            "tool": self.physics.tool.copy(),
            "aim": self._goal.copy(),
            "deed": self._deed.copy(),
            "hidden": self.answer.copy(),
            "phase": self._phase.copy(),
            "keyframe": np.full(n, self.control == "keyframe"),
            "workspace": np.tile(WORKSPACE, (n, 1, 1)),
            **facts,
            "kind": np.where(self.held, HOLD, facts["kind"]),
        }

    def describe(self, row: int) -> dict[str, Any]:
        """Return the instruction and the answer of a row."""
        return {"instruction": self.text, "answer": int(self.answer[row])}

    def close_extras(self, **kwargs: Any) -> None:
        """Release the picture context, where a constructor got so far."""
        if "camera" in vars(self):
            self.camera.close()
