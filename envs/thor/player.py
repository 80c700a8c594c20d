"""One player process under the client: how it is started, asked and ended, and what counts as its failure."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import embodied_mem
from embodied_mem.errors import UsageError

if TYPE_CHECKING:
    from ai2thor.server import Event

    from embodied_mem.envs.thor.client import WatchedController

Scene = str | dict[str, Any]
"""Name of a built-in scene, or a ProcTHOR house."""
STANDIN = "embodied_mem.envs.thor.standin"


@dataclass(frozen=True)
class PlayerConfig:
    """Which player, and how it simulates."""

    player: str = "unity"
    """`unity` (the downloaded build), `standin` (ours, see `envs.thor.standin`), or a command line of your own."""
    platform: str = ""
    """Build of `unity`: empty = the client's choice (needs an X server), or `CloudRendering` (needs Vulkan)."""
    width: int = 224
    """Columns of the camera image."""
    height: int = 224
    """Rows of the camera image."""
    fov: float = 90.0
    """Vertical field of view, degrees."""
    grid: float = 0.25
    """MoveAhead, and the spacing of reachable positions, metres."""
    turn: float = 30.0
    """RotateLeft and RotateRight, degrees."""
    visibility: float = 1.0
    """Largest distance at which an object counts as visible and can be touched, metres."""
    agent_mode: str = "default"
    """Body: `default`, `locobot`, ..."""
    quality: str = "Very Low"
    """Rendering quality, a name of the client's list."""
    gpu: int = -1
    """CUDA device the player draws on; -1: none is asked for, and the client does not look for one."""
    x_display: str = ""
    """X display of the player, e.g. `:0`; empty = $DISPLAY."""
    start_timeout: float = 300.0
    """Seconds the player may take to send its first message."""
    step_timeout: float = 60.0
    """Seconds it may take to answer."""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise UsageError(f"the image needs at least one pixel, got {self.width} x {self.height}")
        if not 10.0 <= self.fov <= 150.0 or self.grid <= 0 or self.turn <= 0 or self.visibility <= 0:
            raise UsageError(
                "expected fov in [10, 150] degrees and grid, turn, visibility > 0, "
                f"got {self.fov}, {self.grid}, {self.turn}, {self.visibility}"
            )
        if self.start_timeout <= 0 or self.step_timeout <= 0:
            raise UsageError(f"expected time-outs > 0 s, got {self.start_timeout} and {self.step_timeout}")
        if self.platform not in ("", "Linux64", "CloudRendering"):
            raise UsageError(f"expected platform '', 'Linux64' or 'CloudRendering', got {self.platform!r}")


class PlayerFailure(RuntimeError):
    """The player died, did not answer in time, or broke the protocol; it has been ended."""


class Player:
    """A player that is started when it is first needed and again after a failure.

    Args:
        config: which player.
        init: parameters of `Initialize` beside those of the config.
    """

    def __init__(self, config: PlayerConfig, **init: Any) -> None:
        self.config = config
        self.init = {
            "gridSize": config.grid,
            "rotateStepDegrees": config.turn,
            "visibilityDistance": config.visibility,
            "fieldOfView": config.fov,
            "agentMode": config.agent_mode,
            "snapToGrid": False,
            **init,
        }
        self.starts = 0
        """How often a process was started."""
        self._controller: WatchedController | None = None

    @property
    def running(self) -> bool:
        """Whether a process is held."""
        return self._controller is not None

    @property
    def pid(self) -> int | None:
        """Process id of the player, None while there is none."""
        process = None if self._controller is None else self._controller.process
        return None if process is None else process.pid

    def reset(self, scene: Scene) -> Event:
        """Load a scene, starting the player if there is none.

        Raises:
            PlayerFailure: it died, fell silent or broke the protocol.
            UsageError: there is no player to start, or it has no such scene.
        """
        if self._controller is None:
            self._start(scene)
        else:
            with self._watched(f"Reset to {_short(scene)}"):
                assert self._controller is not None
                self._controller.reset(scene)
        assert self._controller is not None
        event = self._controller.last_event
        if not event.metadata["lastActionSuccess"]:
            raise UsageError(f"the player cannot make {_short(scene)}: {event.metadata['errorMessage']}")
        return event

    def step(self, action: str, **arguments: Any) -> Event:
        """Send one action and return what came of it.

        Raises:
            PlayerFailure: as `reset`.
            UsageError: no scene was loaded, or the player refuses the action itself (name or arguments).
        """
        if self._controller is None:
            raise UsageError("expected reset(scene) before the first action of a player")
        with self._watched(action):
            return self._controller.step(action, **arguments)
        raise AssertionError

    def close(self) -> None:
        """End the process; calling it again does nothing."""
        if self._controller is not None:
            self._controller.kill()
            self._controller = None

    def _start(self, scene: Scene) -> None:
        from embodied_mem.envs.thor.client import WatchedController

        config = self.config
        options: dict[str, Any] = {
            "scene": scene,
            "width": config.width,
            "height": config.height,
            "quality": config.quality,
            "server_timeout": config.step_timeout,
            "server_start_timeout": config.start_timeout,
            **self.init,
        }
        if config.player == "unity":
            _need_build(config)
            options["platform"] = config.platform or None
            options["x_display"] = config.x_display or None
        else:
            options["local_executable_path"] = command(config.player)
            # The client always passes a display on, also to a player that draws nothing on it.
            options["x_display"] = config.x_display or os.environ.get("DISPLAY") or ":0"
        if config.gpu >= 0:
            options["gpu_device"] = config.gpu
        self.starts += 1
        with self._watched("start"), _devices(config.gpu):
            self._controller = WatchedController(**options)

    @contextmanager
    def _watched(self, doing: str) -> Iterator[None]:
        """Turn what the client raises into `PlayerFailure` (the process is ended) or UsageError."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            refused = isinstance(error, ValueError) and self._controller is not None and _answered(error)
            if refused:
                raise UsageError(f"the player refuses {doing}: {error}") from error
            self.close()
            cause = error.__context__ if isinstance(error, RuntimeError | TimeoutError) else None
            raise PlayerFailure(f"the player failed in {doing}: {cause or error!r}") from error


def command(player: str) -> str:
    """Return the command line of a player that is not the downloaded build."""
    if player == "standin":
        # The same package as here, whatever the child's working folder.
        root = str(Path(embodied_mem.__file__).resolve().parents[1])
        program = f"import sys; sys.path.insert(0, {root!r}); from {STANDIN}.__main__ import main; main()"
        return shlex.join([sys.executable, "-c", program])
    if player.startswith("standin "):
        return f"{command('standin')} {player.removeprefix('standin ')}"
    return player


def unity_build(platform: str = "") -> Path | None:
    """Return the folder of the downloaded player of this client version, or None."""
    from ai2thor.build import COMMIT_ID

    releases = Path.home() / ".ai2thor" / "releases"
    for name in (platform,) if platform else ("Linux64", "CloudRendering"):
        folder = releases / f"thor-{name}-{COMMIT_ID}"
        if folder.is_dir():
            return folder
    return None


def _need_build(config: PlayerConfig) -> None:
    if unity_build(config.platform) is None:
        raise UsageError(
            'the AI2-THOR player is not downloaded; run `python -c "from ai2thor.controller import Controller; '
            "Controller(download_only=True)\"` where the network is open, or use player='standin'"
        )


@contextmanager
def _devices(gpu: int) -> Iterator[None]:
    """Hide CUDA_VISIBLE_DEVICES from the client: a number in it makes it probe for Vulkan, whatever the player."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpu < 0 and before is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if gpu < 0 and before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _answered(error: Exception) -> bool:
    """Return whether the client raised because of an answer it understood, not because it could not read one."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_code.co_name in ("step", "reset")


def _short(scene: Scene) -> str:
    return scene if isinstance(scene, str) else "a ProcTHOR house"
