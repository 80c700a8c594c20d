"""Thor-Rearrange-v0: the two-phase rearrangement task over a file of tasks, as an environment."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium.vector import AutoresetMode

from embodied_mem.envs.base import SingleEnv
from embodied_mem.envs.thor.env import BatchedThor
from embodied_mem.envs.thor.player import PlayerConfig
from embodied_mem.envs.thor.rearrange import RearrangeRow, RearrangeRules
from embodied_mem.envs.thor.rearrange_data import default_file, load_tasks
from embodied_mem.errors import UsageError

ORDERS = ("drawn", "listed")


class BatchedThorRearrange(BatchedThor):
    """N rows of Thor-Rearrange-v0.

    Args:
        num_envs: N.
        tasks: file of tasks (see `rearrange_data`); empty = the published validation tasks in the data folder.
        order: "drawn": every episode draws a task by its key; "listed": episode e plays task e, from the top again
            after the last.
        sensors: rgb, depth, semantic, pose, intrinsics, vector.
        backend: "local" or "ray".
        actor_cpus: logical CPUs a Ray actor asks for.
        options: fields of `player.PlayerConfig` and of `rearrange.RearrangeRules`.

    Raises:
        UsageError: no such file or order, or as `BatchedThor`.
    """

    row = RearrangeRow
    rules = RearrangeRules()
    default_sensors: ClassVar[tuple[str, ...]] = ("rgb", "vector")
    player_defaults: ClassVar[PlayerConfig] = replace(PlayerConfig(), visibility=1.5)

    def __init__(
        self,
        num_envs: int = 1,
        *,
        tasks: str = "",
        order: str = "drawn",
        sensors: Sequence[str] | None = None,
        backend: str = "local",
        actor_cpus: float = 1.0,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        copy: bool = True,
        **options: Any,
    ) -> None:
        if order not in ORDERS:
            raise UsageError(f"expected order to be one of {ORDERS}, got {order!r}")
        self.order = order
        self._file = str(Path(tasks) if tasks else default_file())
        if options.get("player") == "standin":
            # The stand-in builds the rooms of the tasks from the same file.
            options["player"] = f"standin --rearrange {shlex.quote(str(Path(self._file).resolve()))}"
        super().__init__(
            num_envs,
            sensors=sensors,
            backend=backend,
            actor_cpus=actor_cpus,
            autoreset_mode=autoreset_mode,
            render_mode=render_mode,
            copy=copy,
            **options,
        )
        self.items = len(self.scenes)
        """How many tasks there are."""

    def _scenes(self, split: str, procthor: str, limit: int) -> list[Any]:
        return list(load_tasks(self._file))

    def _items(self, rows: np.ndarray, keys: np.ndarray) -> np.ndarray:
        return self.episodes[rows] if self.order == "listed" else np.full(len(rows), -1)


class ThorRearrange(SingleEnv):
    """Thor-Rearrange-v0 as a plain Gymnasium environment."""

    batched = BatchedThorRearrange
