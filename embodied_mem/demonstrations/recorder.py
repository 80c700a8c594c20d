"""Records an agent's episodes into a data set: batched, resumable after a kill at any moment, checksummed.

Episodes are played in groups of consecutive numbers from a fresh start, so a resumed recording holds the same bytes as
an uninterrupted one (as far as environment and agent are deterministic). A group's files are complete and synced before
the journal names them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from embodied_mem.agent import Agent
from embodied_mem.demonstrations.journal import Group, Journal
from embodied_mem.demonstrations.lerobot_writer import LeRobotWriter
from embodied_mem.demonstrations.minari_writer import MinariWriter
from embodied_mem.demonstrations.playing import play
from embodied_mem.demonstrations.take import Take, kinds_of
from embodied_mem.envs.make import check_options, make_vec
from embodied_mem.errors import UsageError, nearest

FORMATS = ("lerobot", "minari")
FAILURES = ("drop", "keep")
PATIENCE = 5
"""Episodes that are played per episode asked for before an agent that fails is given up."""
Progress = Callable[[int, int, str], None]


class Writer(Protocol):
    """A format on disk."""

    places: tuple[str, ...]

    def write(self, takes: list[Take], journal: Journal) -> Group:
        """Write a group's files; return its entry with the names of its ``files``."""

    def publish(self, journal: Journal) -> list[str]:
        """Write what is derived from the journal; return the names of the files."""

    def finish(self, journal: Journal) -> list[str]:
        """Complete the data set; return the names of the derived files."""

    def tidy(self) -> None:
        """Remove what a complete data set does not need."""


@dataclass(frozen=True)
class Recording:
    """What is recorded."""

    env: str
    """Gymnasium id."""
    agent: str
    """Name of the agent, for the record."""
    episodes: int
    """Episodes of the data set."""
    format: str = "lerobot"
    """One of `FORMATS`."""
    env_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    seed: int = 0
    """Seed of the set of episodes; evaluation plays other ones."""
    failures: str = "drop"
    """"drop" keeps successes only and plays on until there are enough; "keep" keeps what was played."""
    per_file: int = 10
    """Episodes per group: what shares a file, and what a kill may cost."""
    fps: int | None = None
    """Steps per second; None: what the environment says, else 10."""
    crf: int = 10
    """Quality of videos, 0 (nearly lossless) to 51."""
    max_steps: int | None = None
    """Steps after which an episode is cut."""
    instruction: str = ""
    """What stands for the instruction where the environment gives none."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: one is out of range.
        """
        for name, value, known in (("format", self.format, FORMATS), ("failures", self.failures, FAILURES)):
            if value not in known:
                raise UsageError(f"unknown {name} {value!r}{nearest(value, known)}; available: {', '.join(known)}")
        for name, number, low, high in (
            ("episodes", self.episodes, 1, None),
            ("per_file", self.per_file, 1, None),
            ("seed", self.seed, 0, None),
            ("crf", self.crf, 0, 51),
            ("fps", self.fps, 1, None),
            ("max_steps", self.max_steps, 1, None),
        ):
            if number is not None and (number < low or (high is not None and number > high)):
                raise UsageError(f"expected {name} {f'in [{low}, {high}]' if high else f'>= {low}'}, got {number}")


def record(
    recording: Recording,
    make_agent: Callable[[VectorEnv], Agent],
    out: str | Path,
    *,
    num_envs: int | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Record into ``out`` and return a summary: counts of episodes, failures and steps, files, seconds.

    Args:
        recording: what is recorded.
        make_agent: builds the agent for the environment.
        out: folder of the data set; it must be new, empty, or (with ``resume``) of the same recording.
        num_envs: rows that step in lockstep; None: as many as a group has episodes.
        resume: continue an interrupted recording.
        progress: called with (episodes kept, episodes asked for, label).

    Raises:
        UsageError: bad input, a package is missing, or the agent fails too often.
    """
    started = time.monotonic()
    if num_envs is not None and num_envs < 1:
        raise UsageError(f"expected num_envs >= 1, got {num_envs}")
    rows = min(num_envs or recording.per_file, recording.per_file, recording.episodes)
    check_options(recording.env, recording.env_options)
    with closing(
        make_vec(recording.env, rows, autoreset_mode=AutoresetMode.DISABLED, **dict(recording.env_options))
    ) as env:
        agent = make_agent(env)
        fps = recording.fps or int(env.metadata.get("render_fps") or 10)
        folder = Path(out)
        writer = _writer(recording, folder, env, fps)
        journal = Journal.open(folder, _config(recording, fps), resume)
        if not journal.complete:
            journal.sweep(writer.places)
            try:
                _play_on(recording, env, agent, writer, journal, progress or (lambda done, total, label: None))
            except BaseException:
                journal.discard()
                raise
            journal.seal(writer.finish(journal), complete=True)
    writer.tidy()
    return _summary(recording, journal, time.monotonic() - started)


def _play_on(
    recording: Recording, env: VectorEnv, agent: Agent, writer: Writer, journal: Journal, report: Progress
) -> None:
    """Play and write groups until there are enough episodes."""
    published = 0
    while len(journal.kept) < recording.episodes:
        first = len(journal.played)
        if first >= PATIENCE * recording.episodes + recording.per_file:
            raise UsageError(
                f"agent {recording.agent!r} succeeded in {len(journal.kept)} of {first} episodes of {recording.env}; "
                f"{recording.episodes} were asked for: use --failures keep, or an agent that can do it"
            )
        size = min(recording.per_file, recording.episodes - len(journal.kept))
        takes = []
        for take in play(
            env,
            agent,
            range(first, first + size),
            seed=recording.seed,
            max_steps=recording.max_steps,
            instruction=recording.instruction,
        ):
            if take.success is None and recording.failures == "drop":
                raise UsageError(f"{recording.env} does not say which episodes succeeded; use --failures keep")
            takes.append(take)
            report(len(journal.kept) + len(takes), recording.episodes, recording.env)
        takes.sort(key=lambda take: take.number)
        kept = [take for take in takes if take.success or recording.failures == "keep"]
        group = writer.write(kept, journal)
        names = {take.number for take in kept}
        journal.add({**group, "played": [_row(take, take.number in names) for take in takes]})
        # What is derived grows with the journal, so it is written anew for every twentieth part that is added.
        if len(journal.groups) - published >= max(1, len(journal.groups) // 20):
            published = len(journal.groups)
            derived = writer.publish(journal)
            if derived:
                journal.seal(derived)


def _row(take: Take, kept: bool) -> dict[str, Any]:
    return {
        "number": take.number,
        "seed": take.seed,
        "length": len(take),
        "return": float(np.sum(take.rewards, dtype=np.float64)),
        "success": bool(take.success),
        "kept": kept,
        "instruction": take.instruction,
    }


def _writer(recording: Recording, folder: Path, env: VectorEnv, fps: int) -> Writer:
    space, actions = env.single_observation_space, env.single_action_space
    kinds = kinds_of(space, actions)
    if recording.format == "lerobot":
        return LeRobotWriter(folder, kinds, env=recording.env, fps=fps, crf=recording.crf)
    return MinariWriter(
        folder,
        env=recording.env,
        env_options=recording.env_options,
        agent=recording.agent,
        observations=space,
        actions=actions,
    )


def _config(recording: Recording, fps: int) -> dict[str, Any]:
    config = {name: getattr(recording, name) for name in recording.__dataclass_fields__}
    options = {
        name: list(value) if isinstance(value, tuple) else value for name, value in recording.env_options.items()
    }
    return {**config, "env_options": options, "fps": fps}


def _summary(recording: Recording, journal: Journal, seconds: float) -> dict[str, Any]:
    played, kept = journal.played, journal.kept
    return {
        "env": recording.env,
        "agent": recording.agent,
        "format": recording.format,
        "out": str(journal.folder),
        "episodes": len(kept),
        "steps": sum(item["length"] for item in kept),
        "played": len(played),
        "failed": sum(not item["success"] for item in played),
        "dropped": len(played) - len(kept),
        "instructions": len({item["instruction"] for item in kept}),
        "seconds": round(seconds, 3),
    }
