"""Policies that plan several actions at once, played row by row.

A row asks for a new chunk at the start of its episode and whenever it has played ``execute`` actions of the last one;
only the rows that need one are asked for. What is left of the chunks is the agent's state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import parse_qsl

import numpy as np
from gymnasium import spaces

from embodied_mem.errors import UsageError
from embodied_mem.spaces import as_dict_obs, as_dict_space, decode_text

EXECUTE = 8
"""Actions of a chunk that are played before the next is asked for, by default."""


class ChunkAgent(ABC):
    """Plays chunks; a subclass writes `plan` and sets ``names``.

    Attributes:
        names: observation name here -> name at the policy.
        prompt: instruction for environments that give none, or None.
    """

    needs_privileged = False
    names: dict[str, str]
    prompt_name: ClassVar[str]
    """Name of the instruction at the policy."""

    def __init__(self, options: str, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        """Read the options behind ``?`` of an argument.

        Args:
            options: ``name=value`` joined by ``&``: ``execute``, ``prompt``, and ``observation=name`` at the policy.
            observation_space: what the environment shows (one row).
            action_space: what it takes; a Box.

        Raises:
            UsageError: an option is unknown, or the actions are no Box.
        """
        if not isinstance(action_space, spaces.Box):
            raise UsageError(f"expected a Box action space for a policy of action chunks, got {action_space}")
        self.observation_space, self.action_space = observation_space, action_space
        self.shown = as_dict_space(observation_space).spaces
        self.given = dict(parse_qsl(options, strict_parsing=True) if options else ())
        self.execute = self._number("execute", EXECUTE)
        self.prompt = self.given.pop("prompt", None)
        self.given_names = {name: self.given.pop(name) for name in list(self.given) if name in self.shown}

    @abstractmethod
    def plan(self, obs: Mapping[str, Any], rows: int) -> np.ndarray:
        """Return chunks (rows, H, *A) float32 for named observations (rows, ...), ``prompt`` texts among them."""

    @staticmethod
    def env_options(argument: str) -> dict[str, Any]:
        """Return nothing: the policy brings no episodes of its own."""
        return {}

    def initial_state(self, n: int, seed: int | None = None) -> dict[str, np.ndarray]:
        """Return ``chunk`` (n, execute, *A), ``at`` (n,) and ``left`` (n,) of rows that have no chunk yet."""
        chunk = np.zeros((n, self.execute, *self.action_space.shape), np.float32)
        return {"chunk": chunk, "at": np.zeros(n, np.int64), "left": np.zeros(n, np.int64)}

    def act(
        self, obs: Any, state: dict[str, np.ndarray], reset: np.ndarray, privileged: Any = None
    ) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, Any]]:
        """Return each row's next action, clipped to the action space, the next state and an empty info.

        Raises:
            UsageError: the policy returns something else than chunks of actions.
        """
        chunk, at = state["chunk"].copy(), state["at"].copy()
        left = np.where(reset, 0, state["left"])
        asking = np.flatnonzero(left == 0)
        if len(asking):
            new = np.asarray(self.plan(self._named(obs, asking), len(asking)), np.float32)
            shape = self.action_space.shape
            if new.ndim != 2 + len(shape) or len(new) != len(asking) or new.shape[2:] != shape or not new.shape[1]:
                raise UsageError(f"expected chunks of actions ({len(asking)}, H, {shape}), got shape {new.shape}")
            count = min(self.execute, new.shape[1])
            chunk[asking, :count] = new[:, :count]
            at[asking], left[asking] = 0, count
        actions = chunk[np.arange(len(at)), at]
        if not np.isfinite(actions).all():
            raise UsageError("the policy returned actions that are not finite")
        low, high = self.action_space.low, self.action_space.high
        actions = np.clip(actions.astype(self.action_space.dtype), low, high)
        return actions, {"chunk": chunk, "at": at + 1, "left": left - 1}, {}

    def _named(self, obs: Any, rows: np.ndarray) -> dict[str, Any]:
        shown = as_dict_obs(self.observation_space, obs)
        found: dict[str, Any] = {
            there: shown[here][rows] for here, there in self.names.items() if here != "instruction"
        }
        if "instruction" in self.names:
            found[self.names["instruction"]] = [decode_text(codes) for codes in shown["instruction"][rows]]
        elif self.prompt is not None:
            found[self.prompt_name] = [self.prompt] * len(rows)
        return found

    def _number(self, name: str, default: int) -> int:
        text = self.given.pop(name, str(default))
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"expected {name} as a whole number >= 1, got {text!r}")
        return int(text)

    def _finish(self) -> None:
        """Refuse what no option was."""
        if self.given:
            known = ["execute", "prompt", *self.shown]
            raise UsageError(f"unknown option {next(iter(self.given))!r}; available: {', '.join(known)}")
