"""`play_episodes`: what an agent does, as episodes in memory, with what is done altered on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from embodied_mem.agent import Agent
from embodied_mem.demonstrations import Episode
from embodied_mem.spaces import decode_text

Alter = Callable[[np.ndarray], np.ndarray]


def play_episodes(
    env: VectorEnv,
    agent: Agent,
    count: int,
    seed: int,
    *,
    first: int = 0,
    alter: Alter | None = None,
) -> list[Episode]:
    """Return episodes ``first`` to ``first + count - 1`` of a seed as an agent plays them, in order.

    Args:
        env: vector environment with autoreset off, whose observations are a dict with ``vector``.
        agent: who plays.
        count: episodes.
        seed: of the episode set and of the agent's draws.
        first: number of the first episode.
        alter: changes the actions (B, A) on their way to the environment; what is recorded is what the agent chose.
    """
    n = env.num_envs
    numbers = first + np.arange(n) % count
    given = min(n, count)
    due = np.arange(n) < count
    obs, _ = env.reset(seed=seed, options={"reset_mask": np.ones(n, bool), "episode": numbers.copy()})
    state, reset = agent.initial_state(n, seed=seed), np.ones(n, bool)
    began = np.zeros(n, np.int64)
    history: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
    found: dict[int, Episode] = {}
    while len(found) < count:
        hidden = env.unwrapped.privileged() if agent.needs_privileged else None  # type: ignore[attr-defined]
        actions, state, _ = agent.act(obs, state, reset, hidden)
        history.append((obs, actions))
        obs, _, terminated, truncated, info = env.step(actions if alter is None else alter(actions))
        reset = terminated | truncated
        if not reset.any():
            continue
        success = np.asarray(info.get("success", np.zeros(n, bool)))
        for row in np.flatnonzero(reset):
            if due[row]:
                steps = history[began[row] :]
                found[int(numbers[row])] = _episode(steps, int(row), seed, bool(success[row]))
            due[row] = given < count
            numbers[row] = first + given % count
            given += 1
            began[row] = len(history)
        if len(found) < count:
            obs, _ = env.reset(options={"reset_mask": reset, "episode": numbers.copy()})
    return [found[number] for number in sorted(found)]


def _episode(steps: list[tuple[dict[str, np.ndarray], np.ndarray]], row: int, seed: int, success: bool) -> Episode:
    named: dict[str, Any] = steps[0][0]
    pictures = [key for key, value in named.items() if value.ndim == 4 and value.dtype == np.uint8]
    return Episode(
        instruction=decode_text(named["instruction"][row]) if "instruction" in named else "",
        state=np.stack([seen["vector"][row] for seen, _ in steps]).astype(np.float32),
        actions=np.stack([actions[row] for _, actions in steps]).astype(np.float32),
        images={key: np.stack([seen[key][row] for seen, _ in steps]) for key in pictures},
        seed=seed,
        success=success,
    )
