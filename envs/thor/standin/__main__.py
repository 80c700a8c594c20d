"""Entry point of the stand-in player: the dialogue with the client, and switches that make it fail.

Faults (``--fault KIND@ACTION[:N]``, the N-th time an action of that name comes, default the first): `segfault`, `kill`,
`exit`, `hang` (no answer), `slow` (answers a second late), `sequence` (wrong sequence id), `garbage` (a field of no
known type), `truncated` (half a message, then the end), `nometadata` (a message without metadata). ``exit@start`` and
``hang@start`` happen before the first message.
"""

from __future__ import annotations

import gzip
import inspect
import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from embodied_mem.envs.thor.standin import fifo
from embodied_mem.envs.thor.standin.settings import Settings

if TYPE_CHECKING:
    from embodied_mem.envs.thor.standin.scene import Scene

KINDS = ("segfault", "kill", "exit", "hang", "slow", "sequence", "garbage", "truncated", "nometadata")
OWN = ("fault", "rooms", "rearrange")
INITIALIZE = {
    "gridSize": "grid",
    "rotateStepDegrees": "turn",
    "visibilityDistance": "visibility",
    "fieldOfView": "fov",
    "renderDepthImage": "depth",
    "renderInstanceSegmentation": "instances",
}


class Refused(Exception):
    """The action itself is wrong; ``code`` is one of the client's error codes."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Dialogue:
    """Answers the client's actions until it closes its pipe."""

    def __init__(self, options: dict[str, str], width: int, height: int) -> None:
        self.options = options
        self.settings = Settings(width, height)
        self.scene: Scene | None = None
        self.fault, self.fault_action, self.countdown = _fault(options.get("fault", ""))
        self.tasks: dict[str, list[dict[str, Any]]] | None = None

    def run(self, out: BinaryIO, client_path: str) -> None:
        """Send the first message, open the client's pipe and serve it."""
        self._send(out, self._message({"action": "start", "sequenceId": 0}, "", "", None))
        with open(client_path, "rb") as pipe:
            while (action := fifo.read_action(pipe)) is not None:
                self._answer(out, action)

    def _answer(self, out: BinaryIO, action: dict[str, Any]) -> None:
        error, code, returned = "", "", None
        fault = self._due(action["action"])
        if fault in ("segfault", "kill", "exit", "hang", "slow"):
            fail(fault)
        try:
            returned = self._act(dict(action))
        except Refused as refusal:
            error, code = str(refusal), refusal.code
        except Exception as failure:
            error, code = str(failure) or repr(failure), "ActionFailed"
        if fault == "sequence":
            action = {**action, "sequenceId": action["sequenceId"] + 7}
        message = self._message(action, error, code, returned)
        if fault == "garbage":
            message = fifo.pack([(200, b"junk")])
        elif fault == "nometadata":
            message = fifo.pack([])
        elif fault == "truncated":
            out.write(message[: len(message) // 2])
            out.flush()
            os._exit(0)
        self._send(out, message)

    def _due(self, name: str) -> str:
        if self.fault and name == self.fault_action:
            self.countdown -= 1
            return self.fault if self.countdown == 0 else ""
        return ""

    def _act(self, action: dict[str, Any]) -> Any:
        name = action.pop("action")
        for key in ("sequenceId", "renderImage", "agentId"):
            action.pop(key, None)
        if name == "ChangeResolution":
            self.settings.width, self.settings.height = int(action["x"]), int(action["y"])
            return None
        # The simulator takes a second to import; what needs no scene does not wait for it.
        from embodied_mem.envs.thor.standin import actions, rooms

        if name == "GetScenesInBuild":
            return rooms.scene_names()
        if name == "Reset":
            self._load(action["sceneName"])
            return None
        if name == "Initialize":
            for key, field in INITIALIZE.items():
                if key in action:
                    setattr(self.settings, field, action[key])
            if self.scene is not None:
                self.scene.third.clear()
            return {"cameraNearPlane": 0.1, "cameraFarPlane": 20.0}
        if name == "CreateHouse":
            self._adopt(rooms.from_house(action["house"]), "Procedural")
            return None
        if name not in actions.ACTIONS:
            raise Refused("InvalidAction", f"{name} is no action of the stand-in player")
        if self.scene is None:
            raise actions.Failed("no scene is loaded")
        function = actions.ACTIONS[name]
        try:
            inspect.signature(function).bind(self.scene, **action)
        except TypeError as error:
            code = "MissingArguments" if "missing" in str(error) else "InvalidArgument"
            raise Refused(code, f"{name}: {error}") from error
        return function(self.scene, **action)

    def _load(self, name: str) -> None:
        from embodied_mem.envs.thor.standin import rooms

        if name == "Procedural":
            # An empty stage until CreateHouse comes; the smallest generated room stands for it.
            self._adopt(rooms.generated("FloorPlan1", 1), name)
            return
        tasks = self._rearrangement().get(name.removesuffix("_physics"))
        if tasks:
            plan, labels, keys = rooms.rearrangement_room(name, tasks)
            self._adopt(plan, name, labels, keys)
        else:
            self._adopt(rooms.generated(name, int(self.options.get("rooms", "1"))), name)

    def _rearrangement(self) -> dict[str, list[dict[str, Any]]]:
        if self.tasks is None:
            self.tasks = {}
            if "rearrange" in self.options:
                with gzip.open(self.options["rearrange"], "rt", encoding="utf-8") as stream:
                    for line in stream:
                        task = json.loads(line)
                        self.tasks.setdefault(task["scene"], []).append(task)
        return self.tasks

    def _adopt(self, plan: Any, name: str, labels: list[str] | None = None, keys: list[str] | None = None) -> None:
        from embodied_mem.envs.thor.standin.scene import Scene

        self.scene = Scene(plan, self.settings, name, labels or [], keys or [])

    def _message(self, action: dict[str, Any], error: str, code: str, returned: Any) -> bytes:
        import msgpack

        name = action["action"]
        if self.scene is None:
            tree, images = _empty(self.settings, name, error, code, returned), []
        else:
            from embodied_mem.envs.thor.standin import metadata

            tree = metadata.agent_tree(self.scene, name, error, code, returned)
            images = metadata.images(self.scene) if action.get("renderImage", True) else []
        top = {
            "agents": [tree],
            "thirdPartyCameras": tree["thirdPartyCameras"],
            "activeAgentId": 0,
            "sequenceId": action["sequenceId"],
        }
        return fifo.pack([(fifo.METADATA, msgpack.packb(top)), *images])

    @staticmethod
    def _send(out: BinaryIO, message: bytes) -> None:
        out.write(message)
        out.flush()


def fail(kind: str) -> None:
    """End or stop this process in the way of a fault."""
    if kind == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "exit":
        os._exit(3)
    time.sleep(1.0 if kind == "slow" else 3600.0)


def _fault(text: str) -> tuple[str, str, int]:
    """Return (kind, action, count) of ``KIND@ACTION[:N]``."""
    if not text:
        return "", "", 0
    kind, _, where = text.partition("@")
    action, _, count = where.partition(":")
    if kind not in KINDS or not action:
        raise SystemExit(f"expected --fault KIND@ACTION[:N] with KIND one of {', '.join(KINDS)}, got {text!r}")
    return kind, action, int(count or 1)


def _empty(settings: Settings, name: str, error: str, code: str, returned: Any) -> dict[str, Any]:
    """Return the metadata of an agent before any scene."""
    zero = {"x": 0.0, "y": 0.0, "z": 0.0}
    return {
        "screenWidth": settings.width,
        "screenHeight": settings.height,
        "lastAction": name,
        "lastActionSuccess": not error,
        "errorCode": code,
        "errorMessage": error,
        "actionReturn": returned,
        "thirdPartyCameras": [],
        "sceneName": "",
        "agent": {"name": "agent", "position": zero, "rotation": zero, "cameraHorizon": 0.0},
        "objects": [],
        "colors": [],
        "depthFormat": "Meters",
    }


def parse(words: list[str]) -> tuple[dict[str, str], int, int]:
    """Return our options and the size of the screen; what else the client appends is passed over."""
    options: dict[str, str] = {}
    size = {"-screen-width": 300, "-screen-height": 300}
    pending = iter(words)
    for word in pending:
        if word.startswith("--") and word[2:] in OWN:
            options[word[2:]] = next(pending, "")
        elif word in size:
            size[word] = int(next(pending, "300"))
    return options, size["-screen-width"], size["-screen-height"]


def leave_with(parent: int) -> None:
    """End this process when its parent has ended, even while it hangs."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


def main() -> None:
    """Serve one client."""
    threading.Thread(target=leave_with, args=(os.getppid(),), daemon=True).start()
    options, width, height = parse(sys.argv[1:])
    kind, action, _ = _fault(options.get("fault", ""))
    if action == "start":
        fail(kind)
    try:
        server, client = (os.environ[f"AI2THOR_FIFO_{side}_PIPE_PATH"] for side in ("SERVER", "CLIENT"))
    except KeyError as error:
        raise SystemExit(f"expected to be started by the ai2thor client with pipes, {error} is not set") from error
    with open(server, "wb") as out:
        try:
            Dialogue(options, width, height).run(out, client)
        except (BrokenPipeError, ConnectionError):
            # The client has gone.
            os._exit(0)


if __name__ == "__main__":
    main()
