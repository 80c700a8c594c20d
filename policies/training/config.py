"""`RunConfig`: what a training run is, beyond the learning itself: when it stops, what it writes.

Presets, command line and `em.train` use flat keys: those of `TrainConfig` directly (``lr``, ``agent.memory``,
``env``), the others under their group (``stop.env_steps``, ``checkpoint.seconds``, ``log.wandb``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from embodied_mem import registry
from embodied_mem.config import from_dict, merge_dotted, nearest_key, to_dict
from embodied_mem.errors import UsageError, nearest
from embodied_mem.policies.rllib.config import TrainConfig


@dataclass(frozen=True)
class StopConfig:
    """When a run ends: at the first criterion that is met."""

    env_steps: int | None = None
    """Environment steps of the run."""
    iterations: int | None = None
    """Training iterations."""
    cpu_seconds: float | None = None
    """CPU seconds of the driver and all Ray workers, from the first environment step on."""
    seconds: float | None = None
    """Wall seconds from the first environment step on."""
    return_mean: float | None = None
    """Mean return of the recent episodes."""
    success_mean: float | None = None
    """Mean success of the recent episodes."""
    patience: int = 3
    """Iterations in a row that must reach a return or success target."""

    def __post_init__(self) -> None:
        """Check that something ends the run."""
        limits = (self.env_steps, self.iterations, self.cpu_seconds, self.seconds)
        if any(limit is not None and limit <= 0 for limit in limits) or self.patience < 1:
            raise UsageError(f"expected positive stop limits, got {limits}, patience {self.patience}")


@dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written; a killed run loses at most one interval."""

    seconds: float = 60.0
    """Wall seconds between checkpoints."""
    iterations: int | None = None
    """Iterations between checkpoints; with ``seconds``, whichever comes first."""
    keep: int = 2
    """Checkpoints kept, the newest."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.seconds <= 0 or self.keep < 1 or (self.iterations is not None and self.iterations < 1):
            raise UsageError(f"expected positive checkpoint intervals and keep >= 1, got {self}")


@dataclass(frozen=True)
class LogConfig:
    """What a run logs besides metrics.jsonl."""

    tensorboard: bool = True
    """Write TensorBoard events to tb/."""
    wandb: bool = False
    """Log to Weights & Biases (needs the package wandb; WANDB_MODE=offline works without an account)."""
    wandb_project: str = "embodied_mem"
    """Project of the W&B run."""


@dataclass(frozen=True)
class RunConfig:
    """A training run: learning, end, files."""

    train: TrainConfig = field(default_factory=TrainConfig)
    """Environment, agent, algorithm (see `TrainConfig`); its keys need no prefix."""
    stop: StopConfig = field(default_factory=StopConfig)
    """When the run ends."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When it can be resumed from."""
    log: LogConfig = field(default_factory=LogConfig)
    """What it logs."""
    ray_address: str = "local"
    """``local`` starts Ray for this run; another address joins a cluster. An initialised Ray is used as it is."""
    acting: Literal["mode", "sample"] = "mode"
    """How the exported agent acts by default: most likely action, or a draw."""


def run_config(values: Mapping[str, Any]) -> RunConfig:
    """Build a `RunConfig` from flat keys, as a preset holds them.

    Raises:
        UsageError: an unknown key (the nearest one is named), a wrong type, or no criterion that ends the run.
    """
    config = from_dict(RunConfig, merge_dotted({}, expand_keys(values, TrainConfig, RunConfig)))
    check_end(config.stop)
    return config


def check_end(stop: StopConfig) -> None:
    """Check that something ends the run.

    Raises:
        UsageError: nothing does.
    """
    if all(limit is None for limit in (stop.env_steps, stop.iterations, stop.cpu_seconds, stop.seconds)):
        raise UsageError("nothing ends this run: set stop.env_steps, stop.iterations, stop.cpu_seconds or stop.seconds")


def apply_overrides(config: RunConfig, overrides: Mapping[str, Any]) -> RunConfig:
    """Return ``config`` with flat dotted keys replaced.

    Another environment drops the environment options and per-entry encoder options of the old one, and another memory
    drops those of its options that it does not have, unless they are overridden too.

    Raises:
        UsageError: as `run_config`.
    """
    tree = to_dict(config)
    changes = expand_keys(overrides, TrainConfig, RunConfig)
    train, agent = tree["train"], tree["train"]["agent"]
    if changes.get("train.env", train["env"]) != train["env"]:
        train["env_config"] = {}
        agent["encoder"].update(encoders={}, options={}, gains={}, ignore=[])
    drop_options(agent, changes, lambda name: registry.get("memory", name))
    return run_config(merge_dotted(tree, changes))


def drop_options(agent: dict[str, Any], changes: Mapping[str, Any], find: Callable[[str], Any]) -> None:
    """Take those options out of the tree ``agent`` that the memory which ``changes`` names does not have.

    Args:
        agent: the group ``train.agent`` as plain values; changed.
        changes: dotted keys of the whole run.
        find: the class of a memory by name.
    """
    memory = changes.get("train.agent.memory", agent["memory"])
    if memory != agent["memory"]:
        known = {item.name for item in dataclasses.fields(find(memory).Config)}
        agent["memory_config"] = {key: value for key, value in agent["memory_config"].items() if key in known}


def expand_keys(values: Mapping[str, Any], train: type, run: type) -> dict[str, Any]:
    """Put the group ``train`` in front of keys that name none, and check the first word of every key.

    Args:
        values: flat dotted keys.
        train: config whose keys need no prefix.
        run: config of the whole run, with a group ``train``.

    Raises:
        UsageError: an unknown key (the nearest one is named), or the seed, which is set per run.
    """
    groups, own = ([item.name for item in dataclasses.fields(kind)] for kind in (run, train))
    expanded: dict[str, Any] = {}
    for key, value in values.items():
        head = str(key).partition(".")[0]
        if key in ("seed", "train.seed"):
            raise UsageError("the key 'seed' is set per run: give --seeds 0,1,2 (in Python seeds=[0, 1, 2])")
        if head in groups:
            expanded[str(key)] = value
        elif head in own:
            expanded[f"train.{key}"] = value
        else:
            known = [*own, *groups]
            close = nearest_key(train, head) or nearest(head, known)
            raise UsageError(f"unknown key {key!r}{close}; valid keys: {', '.join(sorted(known))}")
    return expanded
