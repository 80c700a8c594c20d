"""Play one block of episodes: vectorised, with assigned episodes, rows refilled as episodes end.

Autoreset is off: a row whose episode ended gets the next number of the block. Plain autoreset would favour short
episodes, and would give agents different ones. When a block runs out, rows go on with episodes of the block that are
not recorded, so that every row is in a live episode until the last recorded one ends (the ``shuffled`` control needs
partners).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from embodied_mem.agent import Agent
from embodied_mem.errors import UsageError
from embodied_mem.evaluation.controls.contract import Control
from embodied_mem.evaluation.families import FAMILIES
from embodied_mem.evaluation.plan import Block
from embodied_mem.evaluation.suite import SEED_BASE

Record = dict[str, Any]


class Watcher(Protocol):
    """Sees every step of chosen rows, for traces."""

    def wants(self, episode: int) -> bool:
        """Return True for an episode number that is to be watched from its start."""

    def begin(self, row: int, episode: int, env: VectorEnv) -> None:
        """Episode ``episode`` begins in ``row``."""

    def step(
        self, row: int, env: VectorEnv, obs: Any, action: np.ndarray, info: Mapping[str, Any], reward: float
    ) -> None:
        """The row saw ``obs`` (batched), acted and earned ``reward``."""

    def end(self, row: int, env: VectorEnv, record: Record) -> None:
        """The row's episode ended."""


def play_block(
    env: VectorEnv,
    agent: Agent,
    control: Control,
    block: Block,
    emit: Callable[[Record], None],
    watcher: Watcher | None = None,
    keep: Callable[[Record, np.ndarray], None] | None = None,
) -> int:
    """Play a block and pass one record per episode to ``emit`` as it ends.

    Args:
        env: vector environment of the task in DISABLED autoreset mode, B rows.
        agent: who plays.
        control: what is done to its state between steps.
        block: which episodes.
        emit: gets each record of the block once, in the order in which episodes end.
        watcher: sees every step of the episodes that it wants.
        keep: gets the record of each episode with its actions (T, ...).

    Returns:
        Number of environment steps taken, those of unrecorded episodes included.

    Raises:
        UsageError: the agent or the environment breaks its contract.
    """
    rows = _Rows(block, env.num_envs)
    family = FAMILIES[block.task.family]
    options = {"reset_mask": np.ones(env.num_envs, dtype=bool), "episode": rows.episode.copy()}
    obs, _ = env.reset(seed=SEED_BASE + block.seed, options=options)
    state = agent.initial_state(env.num_envs, seed=block.draw_seed)
    control.begin(agent.initial_state(env.num_envs, seed=block.draw_seed), env.num_envs, block.draw_seed)
    reset = np.ones(env.num_envs, dtype=bool)
    watched = rows.watch(reset, env, watcher)
    taken = 0
    history: list[np.ndarray] = []
    with torch.inference_mode(), _recording(agent) as record_reads:
        while rows.pending:
            state = control.disturb(state, rows.length)
            record_reads(bool(watched))
            hidden = _privileged(env) if agent.needs_privileged else None
            action, state, info = agent.act(obs, state, reset, hidden)
            seen = obs
            obs, reward, terminated, truncated, facts = env.step(action)
            taken += env.num_envs
            if keep is not None:
                history.append(np.array(action))
            rows.length += 1
            rows.score += reward
            if block.task.max_steps is not None:
                truncated = truncated | (rows.length >= block.task.max_steps)
            for row in watched:
                assert watcher is not None
                watcher.step(row, env, seen, action[row], info, float(reward[row]))
            reset = terminated | truncated
            if not reset.any():
                continue
            for row in map(int, np.flatnonzero(reset & rows.recorded)):
                ended = _facts(facts, row)
                record = rows.record(row, bool(terminated[row]), bool(truncated[row]))
                record["metrics"] = family.score(ended, block.task)
                record.update({name: ended[name] for name in family.kept if name in ended})
                emit(record)
                if keep is not None:
                    keep(record, np.stack([played[row] for played in history[-record["length"] :]]))
                if row in watched:
                    assert watcher is not None
                    watcher.end(row, env, record)
                    watched.remove(row)
            rows.refill(reset)
            if rows.pending:
                obs, _ = env.reset(options={"reset_mask": reset, "episode": rows.episode.copy()})
                watched += rows.watch(reset, env, watcher)
    return taken


class _Rows:
    """Which episode each row plays, and how far it is."""

    def __init__(self, block: Block, n: int) -> None:
        self.block = block
        self.pending = len(block.episodes)
        self._next = 0
        self.episode = np.zeros(n, dtype=np.int64)
        self.recorded = np.zeros(n, dtype=bool)
        self.length = np.zeros(n, dtype=np.int64)
        self.score = np.zeros(n, dtype=np.float64)
        self._assign(np.arange(n))

    def refill(self, ended: np.ndarray) -> None:
        """Give the rows of ``ended`` (B,) bool their next episode."""
        self.pending -= int((ended & self.recorded).sum())
        self._assign(np.flatnonzero(ended))

    def _assign(self, rows: np.ndarray) -> None:
        total = len(self.block.episodes)
        for row in rows:
            self.episode[row] = self.block.episodes[self._next % total]
            self.recorded[row] = self._next < total
            self._next += 1
        self.length[rows] = 0
        self.score[rows] = 0.0

    def watch(self, begun: np.ndarray, env: VectorEnv, watcher: Watcher | None) -> list[int]:
        """Return the rows of ``begun`` whose episode is to be watched, after telling the watcher."""
        if watcher is None:
            return []
        chosen = [int(row) for row in np.flatnonzero(begun & self.recorded) if watcher.wants(int(self.episode[row]))]
        for row in chosen:
            watcher.begin(row, int(self.episode[row]), env)
        return chosen

    def record(self, row: int, terminated: bool, truncated: bool) -> Record:
        """Return the record of the episode that ended in ``row``, without its metrics."""
        task, condition, checkpoint, seed = self.block.key
        return {
            "task": task,
            "condition": condition,
            "checkpoint": checkpoint,
            "seed": seed,
            "episode": int(self.episode[row]),
            "length": int(self.length[row]),
            "return": float(self.score[row]),
            "terminated": terminated,
            "truncated": truncated,
        }


def _privileged(env: VectorEnv) -> dict[str, np.ndarray]:
    read = getattr(env.unwrapped, "privileged", None)
    if read is None:
        raise UsageError(f"{env.unwrapped} has no privileged(), which the agent needs")
    return read()


@contextmanager
def _recording(agent: Agent) -> Iterator[Callable[[bool], None]]:
    """Yield a switch for ``agent.record``, which is put back in the end.

    What the memory attends to costs a second read, so it is asked for only while an episode is watched.
    """
    before = getattr(agent, "record", None)

    def switch(wanted: bool) -> None:
        if before is not None:
            agent.record = wanted  # type: ignore[attr-defined]

    try:
        yield switch
    finally:
        if before is not None:
            switch(before)


def _facts(info: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Return what the environment says about the episode that ended in ``row``: entries whose mask holds there."""
    found = {}
    for name, values in info.items():
        mask = info.get(f"_{name}")
        if name.startswith("_") or mask is None or not isinstance(values, np.ndarray) or not mask[row]:
            continue
        found[name] = values[row]
    return found
