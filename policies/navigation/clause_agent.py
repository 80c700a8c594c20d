"""A `ClauseFollower` as an `Agent`: numpy observations in, actions of the street environment out; and its bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from embodied_mem.config import from_dict
from embodied_mem.errors import UsageError
from embodied_mem.policies.navigation import odometer
from embodied_mem.policies.navigation.clause_follower import ClauseConfig, ClauseFollower, Seen, Told
from embodied_mem.policies.navigation.clauses import SIDE, Clauses, read_clauses
from embodied_mem.spaces import as_dict_obs, decode_text, space_from_json

_KEPT = 4096
"""Texts whose clauses are kept, so that a text is read once and not at every step."""


class ClauseAgent:
    """Plays the most likely decision; its state is the odometer's."""

    needs_privileged = False

    def __init__(self, module: ClauseFollower) -> None:
        """Wrap a follower, on the device it lies on."""
        self.module = module.eval()
        self.device = module.starts.device
        self._numbers: dict[bytes, int] = {}
        self._read: Clauses | None = None
        self._told: Told | None = None

    def initial_state(self, n: int, seed: int | None = None) -> odometer.State:
        """Return the state of ``n`` fresh episodes; nothing is drawn."""
        return odometer.fresh_state(n)

    @torch.inference_mode()
    def act(
        self,
        obs: Any,
        state: odometer.State,
        reset: np.ndarray,
        privileged: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, odometer.State, dict[str, Any]]:
        """Return actions (B,) int64, the next state and an empty info.

        Raises:
            UsageError: ``reset`` does not fit the batch.
        """
        named = as_dict_obs(self.module.observation_space, obs)
        batch = len(named["vector"])
        if np.shape(reset) != (batch,):
            raise UsageError(f"expected reset of shape {(batch,)}, got {np.shape(reset)}")
        rows = self._rows(np.asarray(named["instruction"]))
        assert self._read is not None and self._told is not None
        state, seen = odometer.look(state, np.asarray(named["vector"]), named.get("traffic"), np.asarray(reset, bool))
        told = Told(*(part[torch.from_numpy(rows).to(self.device)] for part in self._told))
        chosen = choose(*(part[:, 0] for part in self.module(told, decisions(seen, self.device))))
        turns = np.minimum(state["turns"], self._read.total[rows] - 1)
        side = self._read.numbers[rows, turns, SIDE].astype(np.int64)
        state, action = odometer.act(state, seen, chosen.cpu().numpy(), side)
        return action, state, {}

    def _rows(self, texts: np.ndarray) -> np.ndarray:
        """Return where the texts (B, L) stand among those that were read, (B,) int64; new ones are read."""
        keys = [text.tobytes() for text in texts]
        new = [key for key in dict.fromkeys(keys) if key not in self._numbers]
        if new:
            if len(self._numbers) + len(new) > _KEPT:
                self._numbers, self._read, self._told = {}, None, None
                new = list(dict.fromkeys(keys))
            read = read_clauses([decode_text(np.frombuffer(key, np.uint8)) for key in new])
            told = self.module.tell(*(torch.from_numpy(part).long().to(self.device) for part in read))
            known, told_before = self._read, self._told
            if known is not None and told_before is not None:
                read = Clauses(*(np.concatenate(pair) for pair in zip(known, read)))
                told = Told(*(torch.cat(pair) for pair in zip(told_before, told)))
            for key in new:
                self._numbers[key] = len(self._numbers)
            self._read, self._told = read, told
        return np.array([self._numbers[key] for key in keys])


def choose(links: Tensor, stops: Tensor) -> Tensor:
    """Return the likeliest decisions (N,) int64 for scores (N, L) and (N, 1 + K), stops counted on from L.

    Whether to stop is decided before where: a stop that is likely at several places is not outvoted by one link.
    """
    halts = stops.logsumexp(-1) > links.logsumexp(-1)
    return torch.where(halts, links.shape[-1] + stops.argmax(-1), links.argmax(-1))


def decisions(seen: odometer.Look, device: torch.device) -> Seen:
    """Return what is known at one decision of N walks as tensors (N, 1, ...)."""
    parts = (seen.counts, seen.angles, seen.sides, seen.traffic)
    counts, angles, sides, traffic = (torch.from_numpy(part.astype(np.int64)).unsqueeze(1).to(device) for part in parts)
    return Seen(counts, angles, sides, traffic, torch.from_numpy(seen.open).unsqueeze(1).to(device))


def load_clauses(description: Mapping[str, Any], weights: Mapping[str, Tensor], device: str) -> ClauseAgent:
    """Return the agent of a bundle that is described as kind ``clauses``; see `embodied_mem.agent.load_agent`.

    Raises:
        UsageError: the description names an unknown component.
        RuntimeError: the weights do not fit it.
    """
    spaces = [space_from_json(description[key]) for key in ("observation_space", "action_space")]
    module = ClauseFollower(from_dict(ClauseConfig, description["config"]), *spaces)
    module.load_state_dict(dict(weights))
    return ClauseAgent(module.to(device))
