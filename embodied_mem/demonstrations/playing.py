"""Plays assigned episodes in lockstep and hands out each as a `Take` when it ends.

Steps of all rows are copied into buffers (rows, steps, ...) at once; only the end of an episode is handled row by row.
Rows whose episode ended get the next number; when none is left they stay inert.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv

from embodied_mem.agent import Agent
from embodied_mem.demonstrations.take import TEXT, Take
from embodied_mem.errors import UsageError
from embodied_mem.spaces import as_dict_obs, decode_text

FIRST_CAPACITY = 64


class _Buffer:
    """Rows of arrays that grow in time."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def put(self, rows: np.ndarray, at: np.ndarray, values: dict[str, np.ndarray]) -> None:
        """Copy ``values[name][rows]`` to step ``at`` (M,) of ``rows`` (M,)."""
        for name, new in values.items():
            if name not in self.arrays:
                self.arrays[name] = np.zeros((len(new), FIRST_CAPACITY, *new.shape[1:]), new.dtype)
            kept = self.arrays[name]
            if at.max() >= kept.shape[1]:
                kept = self.arrays[name] = np.concatenate([kept, np.zeros_like(kept)], axis=1)
            kept[rows, at] = new[rows]

    def take(self, row: int, length: int) -> dict[str, np.ndarray]:
        """Return the first ``length`` steps of a row."""
        return {name: kept[row, :length].copy() for name, kept in self.arrays.items()}


def play(
    env: VectorEnv,
    agent: Agent,
    numbers: Sequence[int],
    *,
    seed: int,
    max_steps: int | None = None,
    instruction: str = "",
) -> Iterator[Take]:
    """Play episodes ``numbers`` of set ``seed`` and yield each as it ends.

    Args:
        env: vector environment in DISABLED autoreset mode that knows the option ``episode``.
        agent: who plays.
        numbers: numbers of the episodes.
        seed: seed of the set, as it is given to the environment.
        max_steps: steps after which an episode is cut.
        instruction: what stands for the instruction where the environment gives none.

    Raises:
        UsageError: the agent wants what the environment does not tell.
    """
    n = env.num_envs
    queue = list(numbers)
    episode, live = np.zeros(n, np.int64), np.zeros(n, bool)
    count = min(n, len(queue))
    episode[:count], live[:count] = queue[:count], True
    episode[count:] = queue[0]
    del queue[:count]
    space = env.single_observation_space
    seen, done_things = _Buffer(), _Buffer()
    raw, _ = env.reset(seed=seed, options={"reset_mask": np.ones(n, bool), "episode": episode.copy()})
    state, reset = agent.initial_state(n, seed=seed), np.ones(n, bool)
    length = np.zeros(n, np.int64)
    with torch.inference_mode():
        while live.any():
            rows = np.flatnonzero(live)
            seen.put(rows, length[rows], as_dict_obs(space, raw))
            hidden = _privileged(env) if agent.needs_privileged else None
            action, state, _ = agent.act(raw, state, reset, hidden)
            raw, reward, terminated, truncated, facts = env.step(action)
            flat = np.asarray(action).reshape(n, -1)
            earned = np.asarray(reward, np.float32)
            done_things.put(rows, length[rows], {"actions": flat, "rewards": earned})
            length[rows] += 1
            cut = length >= max_steps if max_steps is not None else np.zeros(n, bool)
            ended = live & (terminated | truncated | cut)
            reset = np.zeros(n, bool)
            if not ended.any():
                continue
            over = np.flatnonzero(ended)
            seen.put(over, length[over], as_dict_obs(space, raw))
            for row in map(int, over):
                played = done_things.take(row, int(length[row]))
                observations = seen.take(row, int(length[row]) + 1)
                yield Take(
                    observations=observations,
                    actions=_actions(played["actions"]),
                    rewards=played["rewards"],
                    terminated=bool(terminated[row]),
                    success=_success(facts, row),
                    instruction=_instruction(env, row, observations) or instruction,
                    number=int(episode[row]),
                    seed=seed,
                )
                if queue:
                    episode[row], reset[row] = queue.pop(0), True
                else:
                    live[row] = False
            if reset.any():
                length[reset] = 0
                raw, _ = env.reset(options={"reset_mask": reset, "episode": episode.copy()})


def _actions(played: np.ndarray) -> np.ndarray:
    return played.astype(np.int64 if played.dtype.kind in "iu" else np.float32, copy=False)


def _success(facts: dict[str, Any], row: int) -> bool | None:
    """Return what the environment says of the episode that ended in ``row``, None where it says nothing."""
    values, told = facts.get("success"), facts.get("_success")
    return bool(values[row]) if values is not None and told is not None and told[row] else None


def _instruction(env: VectorEnv, row: int, observations: dict[str, np.ndarray]) -> str:
    if TEXT in observations:
        return decode_text(observations[TEXT][0])
    describe = getattr(env.unwrapped, "describe", None)
    return str(describe(row).get("instruction", "")) if describe is not None else ""


def _privileged(env: VectorEnv) -> dict[str, np.ndarray]:
    read = getattr(env.unwrapped, "privileged", None)
    if read is None:
        raise UsageError(f"{env.unwrapped} has no privileged(), which the agent needs")
    return read()
