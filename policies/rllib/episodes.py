"""Per-env episode accounting as arrays: return, length and success of finished episodes, no Python loop over envs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class EpisodeTracker:
    """Accumulates running returns and lengths of N envs and keeps the last ``window`` finished episodes.

    Args:
        num_envs: N.
        window: how many finished episodes the reported means run over.
    """

    def __init__(self, num_envs: int, window: int) -> None:
        self.window = max(1, window)
        self._recent: dict[str, np.ndarray] = {
            name: np.empty(0, np.float64) for name in ("return", "length", "success")
        }
        self.finished = 0
        self._fresh: dict[str, list[np.ndarray]] = {}
        self.restart(num_envs)

    def restart(self, num_envs: int) -> None:
        """Forget the running episodes (all envs were reset)."""
        self._return = np.zeros(num_envs, np.float64)
        self._length = np.zeros(num_envs, np.int64)

    def step(
        self, rewards: np.ndarray, done: np.ndarray, kept: np.ndarray, real: np.ndarray, info: Mapping[str, Any]
    ) -> None:
        """Account one vector step.

        Args:
            rewards: (N,) float.
            done: (N,) bool, the episode ended with this step.
            kept: (N,) bool, subset of ``done`` whose episodes are reported.
            real: (N,) bool, False where the step was only a reset.
            info: the vector env's info; ``success`` (N,) is read where ``_success`` allows it.
        """
        self._return += rewards
        self._length += real
        if not done.any():
            return
        self._push("return", self._return[kept])
        self._push("length", self._length[kept].astype(np.float64))
        if "success" in info:
            known = kept & np.asarray(info.get("_success", True))
            self._push("success", np.asarray(info["success"], np.float64)[known])
        self.finished += int(kept.sum())
        self._return[done] = 0.0
        self._length[done] = 0

    def drain(self) -> tuple[int, dict[str, np.ndarray]]:
        """Return the number of episodes finished since the last call and the recent values by name."""
        for name, parts in self._fresh.items():
            self._recent[name] = np.concatenate([self._recent[name], *parts])[-self.window :]
        count, self.finished, self._fresh = self.finished, 0, {}
        return count, self._recent

    def _push(self, name: str, values: np.ndarray) -> None:
        self._fresh.setdefault(name, []).append(values)
