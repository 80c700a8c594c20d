"""Writes a Minari data set (HDF5): observations and actions in the environment's own spaces, T + 1 observations.

Minari appends to one HDF5 file, which a kill can leave broken. So groups are staged as files of their own, and the data
set is built from them in a temporary folder and put in place by one rename when all is recorded; the staged files then
go. The folder's name is the data set's id: it ends with a version, as ``reach-v0``, and its parent is what
``MINARI_DATASETS_PATH`` should name.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from embodied_mem.demonstrations.journal import STAGED, Group, Journal
from embodied_mem.demonstrations.take import Take
from embodied_mem.errors import UsageError
from embodied_mem.files import atomic_dir, atomic_file
from embodied_mem.spaces import as_dict_space

MAIN, METADATA = "data/main_data.hdf5", "data/metadata.json"


class MinariWriter:
    """Stages groups of takes, then builds the data set."""

    places: tuple[str, ...] = (STAGED,)
    """Folders that hold groups' files only."""

    def __init__(
        self,
        folder: Path,
        *,
        env: str,
        env_options: Mapping[str, Any],
        agent: str,
        observations: gymnasium.Space,
        actions: gymnasium.Space,
    ) -> None:
        """Write into ``folder``, whose name is the id.

        Raises:
            UsageError: the name is no id of a data set, or minari or h5py is missing.
        """
        load_minari()
        if not re.fullmatch(r"[-_\w]+-v\d+", folder.resolve().name):
            raise UsageError(
                f"expected a folder that is named like a Minari data set, NAME-vNUMBER (demos/reach-v0), got {folder}"
            )
        self.folder, self.env, self.env_options, self.agent = folder, env, dict(env_options), agent
        self.observations, self.actions = as_dict_space(observations), actions

    def write(self, takes: Sequence[Take], journal: Journal) -> Group:
        """Stage a group and return its entry for the journal, without ``played``."""
        if not takes:
            return {"files": []}
        name = f"{STAGED}/group-{len(journal.groups):06d}.npz"
        arrays: dict[str, np.ndarray] = {}
        for i, take in enumerate(takes):
            arrays |= {f"{i}/observations/{key}": values for key, values in take.observations.items()}
            arrays |= {f"{i}/actions": take.actions, f"{i}/rewards": take.rewards}
            arrays |= {f"{i}/terminated": np.array(take.terminated)}
        with atomic_file(self.folder / name) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)
        return {"files": [name]}

    def publish(self, journal: Journal) -> list[str]:
        """Write nothing: the data set is built when all is recorded."""
        return []

    def finish(self, journal: Journal) -> list[str]:
        """Build the data set from the staged groups; return the names of its files."""
        minari = load_minari()
        from minari.dataset.minari_storage import MinariStorage

        with atomic_dir(self.folder / "data") as temporary:
            storage = MinariStorage.new(
                temporary,
                observation_space=self.observations,
                action_space=self.actions,
                env_spec=self._spec(),
                data_format="hdf5",
                jpeg_encoding=False,
            )
            for group in journal.groups:
                for name in group["files"]:
                    kept = [item for item in group["played"] if item["kept"]]
                    with np.load(self.folder / name) as arrays:
                        storage.update_episodes(_buffers(arrays, kept, self.actions))
            keys = ("instruction", "success", "number")
            storage.update_episode_metadata([{key: item[key] for key in keys} for item in journal.kept])
            storage.update_metadata(
                {
                    "dataset_id": self.folder.resolve().name,
                    "algorithm_name": self.agent,
                    "author": {"embodied_mem"},
                    "description": f"{len(journal.kept)} episodes of {self.env} by {self.agent}",
                    "minari_version": minari.__version__,
                }
            )
        return [MAIN, METADATA]

    def tidy(self) -> None:
        """Remove the staged groups, once the data set is complete and its checksums are written."""
        shutil.rmtree(self.folder / STAGED, ignore_errors=True)

    def _spec(self) -> Any:
        """Return the environment's spec, None where it names classes, which Gymnasium cannot write down."""
        from embodied_mem.envs.make import find_spec

        spec = find_spec(self.env)
        if any(callable(entry) for entry in (spec.entry_point, spec.vector_entry_point)):
            return None
        return dataclasses.replace(spec, kwargs={**spec.kwargs, **self.env_options})


def load_minari() -> Any:
    """Return minari.

    Raises:
        UsageError: it or h5py is not installed.
    """
    try:
        import h5py  # noqa: F401
        import minari
    except ModuleNotFoundError as error:
        raise UsageError(
            f"Minari data sets need the package {error.name}: pip install 'embodied-mem[datasets]'"
        ) from error
    return minari


def _buffers(arrays: Any, kept: Sequence[dict[str, Any]], actions: gymnasium.Space) -> list[Any]:
    """Return Minari's episode buffers of a staged group."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    names = sorted({key.split("/", 2)[2] for key in arrays.files if key.split("/")[1] == "observations"})
    made = []
    for i, item in enumerate(kept):
        length = len(arrays[f"{i}/rewards"])
        ended = np.arange(length) == length - 1
        terminated = bool(arrays[f"{i}/terminated"])
        played = arrays[f"{i}/actions"]
        made.append(
            EpisodeBuffer(
                seed=item["seed"],
                observations={name: arrays[f"{i}/observations/{name}"] for name in names},
                actions=played[:, 0] if isinstance(actions, spaces.Discrete) else played,
                rewards=arrays[f"{i}/rewards"],  # type: ignore[arg-type]
                terminations=ended & terminated,  # type: ignore[arg-type]
                truncations=ended & (not terminated),  # type: ignore[arg-type]
            )
        )
    return made
