"""Traces of a few episodes, for reports: map, poses, actions, rewards, frames, and what the memory attended to.

Each trace is a pair of files: ``NAME.json`` (facts, map, the state before step 0 and after each step) and ``NAME.npz``
(arrays). At most `FRAMES` frames are kept, evenly spaced; ``frame_steps`` says at which steps they were seen. Where the
agent has no camera, ``rgb`` is what the environment renders; ``sensors`` names what the agent really saw.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from embodied_mem.agent import MemoryAgent
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.influence import influence
from embodied_mem.evaluation.plan import Block
from embodied_mem.evaluation.records import Record
from embodied_mem.files import atomic_write_bytes, atomic_write_json
from embodied_mem.spaces import as_dict_obs, decode_text

FRAMES = 120
PICTURES = ("rgb", "scan", "depth")


class TraceWatcher:
    """Records the first few episodes of a block and writes each when it ends."""

    def __init__(self, folder: Path, block: Block, limit: int, explained: MemoryAgent | None = None) -> None:
        """Watch episodes numbered below ``limit``; ``explained`` is the network that plays, for `influence`."""
        self.folder, self.block, self.limit, self.explained = folder, block, limit, explained
        self._open: dict[int, _Trace] = {}

    def wants(self, episode: int) -> bool:
        """Return True for the first ``limit`` episodes."""
        return episode < self.limit

    def begin(self, row: int, episode: int, env: VectorEnv) -> None:
        """Start a trace with the map of the row."""
        view, reason = _view(env, row)
        self._open[row] = _Trace(_call(env, "describe", row), _call(env, "trace", row), view)
        self._open[row].reason = reason

    def drop(self, row: int) -> None:
        """Forget the trace of the row."""
        del self._open[row]

    def step(
        self, row: int, env: VectorEnv, obs: Any, action: np.ndarray, info: Mapping[str, Any], reward: float
    ) -> None:
        """Add one step: what the row saw, did and earned, and where it then was."""
        trace = self._open[row]
        seen = as_dict_obs(env.single_observation_space, obs)
        own = {name: values[row] for name, values in seen.items()}
        if self.explained is not None:
            for name, values in as_dict_obs(self.explained.observation_space, obs).items():
                trace.inputs.setdefault(name, []).append(np.array(values[row]))
        trace.sensors = sorted(own)
        if "rgb" not in own and trace.view is not None:
            own["rgb"] = trace.view
        trace.add(own, action, reward)
        trace.states.append(_call(env, "trace", row))
        # Without a picture at the first step there is none at the others.
        trace.view = None if trace.view is None else _view(env, row)[0]
        for name, values in (info.get("inspect") or {}).items():
            trace.reads.setdefault(name, []).append(np.asarray(values)[row])

    def end(self, row: int, env: VectorEnv, record: Record) -> None:
        """Write the trace."""
        trace = self._open.pop(row)
        slug = "".join(letter if letter.isalnum() else "-" for letter in f"{record['task']}-{record['condition']}")
        name = f"{slug}-c{record['checkpoint']}-s{record['seed']}-e{record['episode']}"
        names = getattr(env.unwrapped, "actions", None)
        facts = {
            "record": record,
            "env": self.block.task.env,
            "action_names": list(names) if isinstance(names, list | tuple) else None,
            "instruction": trace.instruction,
            "sensors": trace.sensors,
            "no_view": trace.reason,
            "map": trace.map,
            "map_end": _call(env, "describe", row),
            "steps": trace.states,
        }
        atomic_write_json(self.folder / f"{name}.json", plain(facts))
        arrays = trace.arrays()
        found = None if self.explained is None else influence(self.explained, trace.inputs, arrays["action"])
        if found is not None:
            arrays["influence"], arrays["influence_steps"] = found
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        atomic_write_bytes(self.folder / f"{name}.npz", buffer.getvalue())


class _Trace:
    def __init__(self, description: dict[str, Any], first: dict[str, Any], view: np.ndarray | None) -> None:
        self.map = description
        self.states = [first]
        self.view = view
        self.reason: str | None = None
        self.reads: dict[str, list[np.ndarray]] = {}
        self.instruction: str | None = None
        self.sensors: list[str] = []
        self.inputs: dict[str, list[np.ndarray]] = {}
        self._actions: list[np.ndarray] = []
        self._rewards: list[float] = []
        self._seen: dict[str, list[np.ndarray]] = {}

    def add(self, obs: Mapping[str, np.ndarray], action: np.ndarray, reward: float) -> None:
        """Keep one step; pictures as they are, vectors as float32."""
        self._actions.append(np.array(action))
        self._rewards.append(reward)
        if "instruction" in obs:
            self.instruction = decode_text(obs["instruction"])
        for name in (*PICTURES, "vector", "goal", "pose"):
            if name in obs:
                self._seen.setdefault(name, []).append(np.array(obs[name]))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what goes into the npz; step arrays have T first, pictures only the kept frames."""
        total = len(self._actions)
        kept = np.unique(np.linspace(0, total - 1, min(total, FRAMES)).round().astype(np.int64))
        found = {"action": np.stack(self._actions), "reward": np.array(self._rewards), "frame_steps": kept}
        for name, values in self._seen.items():
            if name in PICTURES:
                found[name] = np.stack([values[index] for index in kept])
            else:
                found[name] = np.stack(values).astype(np.float32)
        for name, values in self.reads.items():
            if len(values) == total and len({value.shape for value in values}) == 1:
                found[f"read_{name}"] = np.stack(values)
        return found


def plain(value: Any) -> Any:
    """Return nested values as JSON has them: arrays become lists, numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _view(env: VectorEnv, row: int) -> tuple[np.ndarray | None, str | None]:
    """Return the frame (H, W, 3) uint8 of a row where the environment draws one, and why it cannot draw."""
    render = getattr(env.unwrapped, "render_row", None)
    try:
        return None if render is None else render(row), None
    except UsageError as error:
        # Where a machine has no OpenGL the episode still counts; the report says why it shows none.
        return None, str(error)


def _call(env: VectorEnv, method: str, row: int) -> dict[str, Any]:
    found = getattr(env.unwrapped, method, None)
    return {} if found is None else dict(found(row))
