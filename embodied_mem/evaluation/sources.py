"""Who plays: a registered agent, a trained bundle, an object, or a user's function named ``module:attr``.

A source builds its agent for one task at a time, since scripted agents are written for an environment. Evaluation knows
nothing about agents beyond the `Agent` protocol.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from embodied_mem import registry
from embodied_mem.agent import CONFIG_FILE, Agent, MemoryAgent, PolicyAgent, load_agent
from embodied_mem.devices import resolve_device
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.suite import Task
from embodied_mem.files import read_json
from embodied_mem.spaces import misfit


class Unsuited(UsageError):
    """The agent cannot play this task; the message says why."""


@dataclass(frozen=True)
class Source:
    """One agent that can be built for tasks."""

    label: str
    """Short name for tables."""
    identity: dict[str, Any]
    """JSON form that tells one agent from another: kept in config.json and compared on resume."""
    make: Callable[[Task, VectorEnv], Agent] = field(repr=False)
    """Build the agent for a task; raises `Unsuited`."""
    folder: Path | None = None
    """Bundle folder of a trained agent."""
    about: dict[str, Any] = field(default_factory=dict)
    """What a bundle says about its origin: env, env_config, seed, ..."""
    memory: str | None = None
    """Name of a trained agent's memory."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments that the agent brings for every environment (recorded rollouts bring their episodes)."""


class FunctionAgent:
    """A plain function from observations to actions, as an agent without memory."""

    needs_privileged = False

    def __init__(self, function: Callable[[dict[str, np.ndarray]], Any]) -> None:
        """Wrap ``function``: dict of arrays (B, ...) -> actions (B, ...)."""
        self.function = function

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def act(
        self, obs: dict[str, np.ndarray], state: Any, reset: np.ndarray, privileged: Any = None
    ) -> tuple[np.ndarray, Any, dict[str, Any]]:
        """Return the function's actions and the state as it was."""
        return np.asarray(self.function(obs)), state, {}


def from_name(name: str) -> Source:
    """Return the source of a registered agent, of ``name:argument`` for one that takes an argument, or of
    ``module:attr`` (an agent, a class, a factory or a function).

    Raises:
        UsageError: there is no such agent, or the module or attribute cannot be found.
    """
    head, colon, argument = name.partition(":")
    if colon and head in registry.names("agent") and "argument" in registry.meta("agent", head):
        taking = registry.get("agent", head)
        made = functools.partial(taking, argument)
        return Source(
            name,
            {"agent": name},
            lambda task, env: build(made, task, env),
            about=taking.about(argument) if hasattr(taking, "about") else {},
            env_options=taking.env_options(argument),
        )
    if not colon and "argument" in registry.meta("agent", name):
        raise UsageError(f"agent {name!r} needs an argument: {name}:{registry.meta('agent', name)['argument']}")
    target = _import(name) if ":" in name else registry.get("agent", name)
    options = target.env_options("") if hasattr(target, "env_options") else {}
    return Source(name, {"agent": name}, lambda task, env: build(target, task, env), env_options=options)


def from_object(agent: Any, label: str = "agent") -> Source:
    """Return the source of an agent object, a class, a factory, or a function of observations."""
    return Source(label, {"agent": label}, lambda task, env: build(agent, task, env))


def from_bundle(folder: str | Path, device: str = "auto") -> Source:
    """Return the source of one trained agent.

    Args:
        folder: the bundle, see `bundles`.
        device: where it runs; "auto" is the GPU where there is one.

    Raises:
        UsageError: the bundle is missing or corrupted.
    """
    folder = Path(folder)
    agent = load_agent(folder, resolve_device(device))
    description = read_json(folder / CONFIG_FILE)

    def make(task: Task, env: VectorEnv) -> Agent:
        shown, taken = env.single_observation_space, env.single_action_space
        reason = misfit(agent.module.observation_space, agent.module.action_space, shown, taken)
        if reason:
            raise Unsuited(f"the agent in {folder} does not fit {task.name}: {reason}")
        return agent

    return Source(
        label=_short(folder),
        identity={"checkpoint": str(folder), "sha256": description["weights_sha256"]},
        make=make,
        folder=folder,
        about=dict(description.get("about") or {}),
        memory=agent.module.config.memory,
    )


def bundles(folder: str | Path) -> list[Path]:
    """Return the agent bundles that a folder stands for: itself, its ``agent/``, or those of its ``seed*/`` folders.

    Raises:
        UsageError: there is none.
    """
    folder = Path(folder)
    for candidate in (folder, folder / "agent"):
        if (candidate / CONFIG_FILE).is_file():
            return [candidate]
    seeds = sorted(folder.glob("seed*"), key=_seed_of)
    found = [seed / "agent" for seed in seeds if (seed / "agent" / CONFIG_FILE).is_file()]
    if not found:
        what = "holds none" if folder.is_dir() else "is no folder"
        raise UsageError(f"expected a trained agent ({CONFIG_FILE}, agent/ or seed*/agent/) in {folder}, which {what}")
    return found


def bundle_without_memory(bundle: Path) -> Path:
    """Return the bundle of the same preset trained with memory ``none``, looked for beside a bundle.

    Looked at, for a run folder RUN: RUN/none, RUN-none, and ``none`` beside RUN; of several seeds, the same one.

    Raises:
        UsageError: there is none.
    """
    seed = bundle.parent if bundle.name == "agent" else bundle
    run = seed.parent if seed.name.startswith("seed") else seed
    places = [run / "none", run.with_name(run.name + "-none"), run.parent / "none"]
    for place in places:
        if place == run or not place.is_dir():
            continue
        found = bundles(place)
        return next((item for item in found if item.parent.name == seed.name), found[0])
    raise UsageError(
        f"control 'none' needs the same preset trained with memory 'none': none is beside {bundle} "
        f"(looked at {', '.join(map(str, places))}); train it, or give its folder with --none DIR"
    )


def build(target: Any, task: Task, env: VectorEnv) -> Agent:
    """Return an agent from an agent object or network, a class or factory, or a function of observations.

    Classes and factories get those of ``env_id, env, observation_space, action_space`` that they name as parameters.

    Raises:
        UsageError: the outcome is no agent.
    """
    if isinstance(target, MemoryAgent):
        return PolicyAgent(target)
    if not inspect.isclass(target) and _is_agent(target):
        return target
    if not callable(target):
        raise UsageError(f"expected an agent, a class, a factory or a function of observations, got {target!r}")
    offered = {
        "env_id": task.env,
        "env": env,
        "observation_space": env.single_observation_space,
        "action_space": env.single_action_space,
    }
    parameters = inspect.signature(target).parameters
    wanted = {name: value for name, value in offered.items() if name in parameters}
    needed = [
        item
        for item in parameters.values()
        if item.default is item.empty and item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)
    ]
    if not inspect.isclass(target) and len(needed) == 1 and not wanted:
        return FunctionAgent(target)
    made = target(**wanted)
    if not _is_agent(made):
        protocol = "needs_privileged, initial_state(n, seed) and act(obs, state, reset, privileged)"
        raise UsageError(f"expected an agent with {protocol}, got {type(made).__name__} from {target!r}")
    return made


def _is_agent(item: Any) -> bool:
    return isinstance(item, Agent) and callable(item.act) and callable(item.initial_state)


def _import(name: str) -> Any:
    module, _, attribute = name.partition(":")
    # A console script does not have the user's folder on the path, `python -m` does: both find the user's module.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"cannot import {error.name!r} for agent {name!r}; run from its folder or install it"
        ) from error
    except AttributeError as error:
        raise UsageError(f"module {module!r} has no attribute {attribute!r} (agent {name!r})") from error


def _short(folder: Path) -> str:
    parts: Sequence[str] = [part for part in folder.parts if part not in ("agent", "/")]
    return "/".join(parts[-2:]) if parts else str(folder)


def _seed_of(folder: Path) -> tuple[int, str]:
    digits = folder.name.removeprefix("seed")
    return (int(digits), "") if digits.isdigit() else (1 << 30, folder.name)
